"""What it is worth to know the last days, and the last minutes: the same bundle answers from older and newer states.

Staleness: the question is asked at the cut, from the state of the cut and from states of some days before it, and
judged by the whole step.

Batch and stream: a batch job makes a list at the cut, and the shop shows it until the next; a stream knows at each
visit what happened before it began. Both are judged by what is bought in that visit. A visit is a run of one customer's
events, none more than VISIT_GAP after the one before, in which something is bought; where times are days, a day's. So
what is looked at in a visit is not known at its beginning. Until a customer's first visit of a step nothing was bought
since the list was made: where a log holds purchases alone, a stream can hardly be ahead before the later ones. They are
told apart.

A panel of customers, the same in every step, stands for all: their events alone are held.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from infra.clock import ManualClock
from infra.threads import answering
from offline.backtest.ledger import Ledger
from offline.backtest.plan import BacktestPlan, Contender, Step
from offline.contenders import Contender as Answering
from offline.contenders import K, ask, shown
from offline.event_log import EventLog
from offline.histories import item_column
from offline.metrics import Ints
from offline.pooled import Pool
from offline.progress import Step as Progress
from offline.progress import step as progress_of
from offline.report import COLUMNS, verdict
from offline.scoreboard import HEADLINE, score
from offline.truth import Truth
from serving.items import ItemTable
from serving.messages import RecommendationRequest
from serving.pipeline import Pipeline
from serving.runtime import Runtime
from streams.events import PURCHASE, from_micros, to_micros
from streams.histories import Histories, build_histories
from streams.store import StoredCustomer

STALE_DAYS = (1, 3, 7)
VISIT_GAP = timedelta(minutes=30)
PANEL = 300
DAY = 86_400_000_000  # microseconds

FIRST, LATER = "first visit", "later visit"
NEWER, OLDER = "newer", "older"
# question: FIRST, LATER or `stale(days)` · one row a customer and question, or a visit; newer and older: scores of the
# list from the newer and from the older state.
SCORES = pa.schema(
    [
        ("question", pa.string()),
        ("customer_id", pa.string()),
        *((f"{metric} {age}", pa.float64()) for metric in HEADLINE for age in (NEWER, OLDER)),
    ]
)


def stale(days: int) -> str:
    """What the state of the cut is compared with."""
    return f"a state {days} day{'s' if days != 1 else ''} old"


@dataclass(frozen=True)
class Visit:
    """When a customer came (microseconds), and what they bought; number: 0 is the first of the step."""

    customer: str
    number: int
    start: int
    items: tuple[int, ...]


class Freshness:
    """Measures step after step what the plan's first contender gains by fresher states.

    Args:
        panel: at most so many of the customers who buy in the backtest, drawn at random.
    """

    def __init__(self, ledger: Ledger, log: EventLog, plan: BacktestPlan, panel: int = PANEL) -> None:
        self.contender: Contender = plan.contenders[0]
        self._directory, self._panel = ledger.directory, panel
        self._first = to_micros(log.span[0])
        customers = draw_panel(log, plan, panel)
        self._histories = _histories_of(log, plan, customers)

    def measure(self, step: Step, runtime: Runtime) -> pa.Table:
        """SCORES of a step whose predictions are sealed; from disk where they were measured before.

        Args:
            runtime: what answers for the first contender in this step.
        """
        path = _path(self._directory, step.number, self._panel)
        if path.is_file():
            return pq.ParquetFile(path).read(use_threads=False)
        with answering():
            table = self._measure(step, runtime)
        aside = path.with_name(f".{path.name}")
        pq.write_table(table, aside, compression="zstd")
        aside.replace(path)
        return table

    def _measure(self, step: Step, runtime: Runtime) -> pa.Table:
        cut = to_micros(step.cut)
        visits = list(visits_of(self._histories, runtime.items, cut, to_micros(step.until)))
        bought: dict[str, set[int]] = {}
        for visit in visits:
            bought.setdefault(visit.customer, set()).update(visit.items)
        customers = list(bought)
        ages = [days for days in STALE_DAYS if self._first < cut - days * DAY]
        if not visits:
            return SCORES.empty_table()
        with progress_of(f"freshness, step {step.number}", 0) as progress:
            progress.expect(len(customers) * (1 + len(ages)) + len(visits))
            pipeline = Pipeline(runtime, ManualClock(step.cut))
            full = Answering(self.contender.name, pipeline, self.contender.strategy)
            lists = {days: self._at(full, customers, cut - days * DAY, progress) for days in (0, *ages)}
            whole = _truth(customers, [sorted(bought[customer]) for customer in customers], runtime)
            tables = [_scores([stale(days)] * len(customers), whole, lists[0], lists[days]) for days in ages]
            row = {customer: n for n, customer in enumerate(customers)}
            batch = lists[0][[row[visit.customer] for visit in visits]]
            stream = self._stream(runtime, visits, progress)
        came = _truth([visit.customer for visit in visits], [visit.items for visit in visits], runtime)
        questions = [LATER if visit.number else FIRST for visit in visits]
        return pa.concat_tables([*tables, _scores(questions, came, stream, batch)])

    def _at(self, full: Answering, customers: Sequence[str], moment: int, progress: Progress) -> Ints:
        """Lists from the states of a moment, int64[n, K]; the question is asked at the pipeline's own time."""
        asked = ask(full.pipeline.runtime, self._histories, customers, moment)
        return shown([full], asked, progress)[full.name]

    def _stream(self, runtime: Runtime, visits: Sequence[Visit], progress: Progress) -> Ints:
        """The list at each visit from the state just before it, int64[v, K]."""
        clock = ManualClock(from_micros(0))
        pipeline = Pipeline(runtime, clock)
        rows = np.full((len(visits), K), -1, np.int64)
        for row, visit in zip(rows, visits, strict=True):
            clock.set(from_micros(visit.start))
            state = self._histories.state(visit.customer, visit.start)
            request = RecommendationRequest(
                request_id=visit.customer, customer_id=visit.customer, k=K, strategy=self.contender.strategy
            )
            (answer,) = pipeline.recommend([request], [None if state is None else StoredCustomer(state)])
            row[: len(answer.items)] = [runtime.items.index[item.article_id] for item in answer.items]
            progress.advance()
        return rows


def draw_panel(log: EventLog, plan: BacktestPlan, panel: int) -> list[str]:
    """Of the customers who buy in the backtest, sorted ids."""
    found: set[str] = set()
    for batch in log.scan(plan.start, plan.end):
        found.update(pc.unique(batch["customer_id"].filter(pc.equal(batch["type"], "purchase"))).to_pylist())
    everyone = sorted(found)
    rng = np.random.default_rng(plan.seed)
    return [everyone[n] for n in np.sort(rng.choice(len(everyone), min(panel, len(everyone)), replace=False)).tolist()]


def visits_of(histories: Histories, items: ItemTable, start: int, until: int) -> Iterator[Visit]:
    """The visits that begin in [start, until) microseconds, customer after customer, with what was bought in them
    before `until` of the items; a visit in which none of these was bought counts, but is not given."""
    column = item_column(histories, items)
    gap = VISIT_GAP // timedelta(microseconds=1)
    for customer, first, last in zip(histories.customers, histories.offsets[:-1], histories.offsets[1:], strict=True):
        times = histories.occurred_at[first:last]
        within = (times >= start) & (times < until)
        begins = within & (np.diff(times, prepend=-gap - 1) > gap)
        ends = [*np.flatnonzero(begins).tolist(), int(np.searchsorted(times, until))]
        number = -1
        for here, there in pairwise(ends):
            mine = slice(int(first) + here, int(first) + there)
            bought = column[mine][histories.types[mine] == PURCHASE]
            number += len(bought) > 0
            if (bought >= 0).any():
                yield Visit(customer, number, int(times[here]), tuple(np.unique(bought[bought >= 0]).tolist()))


def freshness(ledger: Ledger, plan: BacktestPlan, panel: int = PANEL) -> dict[str, Any]:
    """What the report says of all measured steps: staleness, and batch_versus_stream, each a list of comparisons; empty
    where nothing was measured."""
    paths = [_path(ledger.directory, step.number, panel) for step in plan.steps]
    tables = [pq.ParquetFile(path).read(use_threads=False) for path in paths if path.is_file()]
    scores = pa.concat_tables([SCORES.empty_table(), *tables])
    if not scores.num_rows:
        return {}
    visits = [("visits", (FIRST, LATER)), ("first visits", (FIRST,)), ("later visits", (LATER,))]
    return {
        "contender": plan.contenders[0].name,
        "customers": len(set(scores["customer_id"].to_pylist())),
        "steps": len(tables),
        "staleness": [
            {"days": days, **row}
            for days in STALE_DAYS
            for row in _compared(scores, (stale(days),), ("a fresh state", stale(days)), "customers", plan.seed)
        ],
        "batch_versus_stream": [
            {"visits": name, **row}
            for name, questions in visits
            for row in _compared(scores, questions, ("stream", "batch"), name, plan.seed)
        ],
    }


def _compared(
    scores: pa.Table, questions: Sequence[str], names: tuple[str, str], of: str, seed: int
) -> list[dict[str, Any]]:
    """The newer against the older in the headline metrics, customers resampled with all that they answered."""
    part = scores.filter(pc.is_in(scores["question"], pa.array(questions)))
    if not part.num_rows:
        return []
    pool = Pool([(name, metric) for metric in HEADLINE for name in names])
    pool.add(part["customer_id"].to_pylist(), np.stack([part[c].to_numpy() for c in SCORES.names[2:]], axis=1))
    found = pool.result(seed)
    rows = []
    for metric in HEADLINE:
        row = found.compare(*names, metric)
        n = f"{found.customers:,} customers" + ("" if of == "customers" else f", {found.customer_steps:,} {of}")
        rows.append({**row, "scores": part.num_rows, "sentence": f"{verdict(row)} in {COLUMNS[metric]} ({n})"})
    return rows


def _histories_of(log: EventLog, plan: BacktestPlan, customers: Sequence[str]) -> Histories:
    wanted = pa.array(customers, pa.string())
    return build_histories(batch.filter(pc.is_in(batch["customer_id"], wanted)) for batch in log.scan(None, plan.end))


def _truth(names: list[str], items: Sequence[Sequence[int]], runtime: Runtime) -> Truth:
    n = len(runtime.items)
    keys = [row * n + item for row, mine in enumerate(items) for item in mine]
    return Truth(names, n, np.sort(np.array(keys, np.int64)))


def _scores(questions: list[str], truth: Truth, newer: Ints, older: Ints) -> pa.Table:
    found = {NEWER: score(newer, truth), OLDER: score(older, truth)}
    columns = [found[age][metric] for metric in HEADLINE for age in (NEWER, OLDER)]
    return pa.table([questions, truth.customers, *columns], schema=SCORES)


def _path(directory: Path, number: int, panel: int) -> Path:
    return directory / f"freshness-{number:04d}-of-{panel}.parquet"
