"""A log and a ledger out of a few lines that a reader can score by hand.

Two steps of a week, from CUT on. Bags and hats are sold, and a lamp that has no category; `late` is first heard of in
the first step. Before the cut ann bought a bag ten days ago, bea one seventy days ago, and of cid nothing is known.

    step 0   ann buys bag-1; bea hat-1 and lamp; cid bag-2 and late, which nobody could have named
    step 1   ann buys bag-2
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa

from offline.backtest.ledger import Ledger, StepNote
from offline.backtest.plan import BacktestPlan, contenders_of
from offline.event_log import EventLog, import_source
from offline.sources.base import ARTICLE_SCHEMA, CUSTOMER_SCHEMA, SOURCE_EVENT_SCHEMA, Findings
from serving.messages import Item, Recommendations
from tests.support.tiny import TINY

CUT = datetime(2020, 3, 1, tzinfo=UTC)
WEEK = timedelta(days=7)
PLAN = BacktestPlan(
    start=CUT,
    end=CUT + 2 * WEEK,
    step=WEEK,
    retrain=None,
    contenders=contenders_of(["full", "popular"], []),
    config=TINY,
)
ARTICLES: dict[str, str | None] = {
    "bag-1": "bags",
    "bag-2": "bags",
    "hat-1": "hats",
    "lamp": None,
    "late": "bags",
}

# Days after the cut (negative: before it), customer, article, sales channel.
Line = tuple[float, str, str, int | None]
LINES: list[Line] = [
    (-70, "bea", "bag-2", 1),
    (-10, "ann", "bag-1", 1),
    (1, "ann", "bag-1", 1),
    (2, "bea", "hat-1", 1),
    (2, "bea", "lamp", 2),
    (3, "cid", "bag-2", 2),
    (4, "cid", "late", 2),
    (8, "ann", "bag-2", 1),
]
SHOWN: list[dict[str, dict[str, list[str]]]] = [
    {
        "full": {"ann": ["bag-1", "bag-2"], "bea": ["hat-1", "bag-1", "lamp"], "cid": ["bag-1", "bag-2"]},
        "popular": {who: ["bag-1", "bag-2", "hat-1"] for who in ("ann", "bea", "cid")},
    },
    {"full": {"ann": ["bag-2"]}, "popular": {"ann": ["bag-1", "bag-2", "hat-1"]}},
]


@dataclass(frozen=True)
class LinesSource:
    """known_from: of articles that were not always known."""

    file: Path
    lines: Sequence[Line]
    known_from: Mapping[str, datetime] = field(default_factory=dict)
    categories: Mapping[str, str | None] = field(default_factory=lambda: ARTICLES)
    name: str = "lines"
    description: str = "a few lines"
    revision: int = 1
    event_rows: int | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.file,)

    def articles(self, findings: Findings) -> Iterator[pa.RecordBatch]:
        rows = [
            {"article_id": i, "title": i.title(), "category": kind, "known_from": self.known_from.get(i)}
            for i, kind in self.categories.items()
        ]
        yield from pa.Table.from_pylist(rows, schema=ARTICLE_SCHEMA).combine_chunks().to_batches()

    def customers(self, findings: Findings) -> Iterator[pa.RecordBatch]:
        names = sorted({line[1] for line in self.lines})
        table = pa.Table.from_pylist([{"customer_id": name} for name in names], schema=CUSTOMER_SCHEMA)
        yield from table.to_batches()

    def events(self, findings: Findings, known_articles: pa.Array | None) -> Iterator[pa.RecordBatch]:
        rows = [
            {
                "event_id": f"{row}",
                "type": "purchase",
                "occurred_at": CUT + timedelta(days=days),
                "customer_id": customer,
                "article_id": article,
                "price": 1.0,
                "quantity": 1,
                "sales_channel_id": channel,
                "row": row,
            }
            for row, (days, customer, article, channel) in enumerate(self.lines, start=1)
        ]
        yield from pa.Table.from_pylist(rows, schema=SOURCE_EVENT_SCHEMA).to_batches()


def log_of(
    directory: Path,
    lines: Sequence[Line] | None = None,
    known_from: Mapping[str, datetime] | None = None,
    categories: Mapping[str, str | None] | None = None,
) -> EventLog:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "input").write_text("the lines stand in the test")
    late = {"late": CUT + timedelta(days=4)}
    source = LinesSource(
        directory / "input",
        LINES if lines is None else lines,
        late if known_from is None else known_from,
        ARTICLES if categories is None else categories,
    )
    return import_source(source, directory / "log")


def ledger_of(
    directory: Path,
    shown: Sequence[Mapping[str, Mapping[str, Sequence[str]]]] = tuple(SHOWN),
    plan: BacktestPlan = PLAN,
) -> Ledger:
    """Sealed by the very code that seals: step -> contender -> customer -> article ids. Every answer took 2 ms."""
    directory.mkdir(parents=True, exist_ok=True)
    ledger = Ledger(directory)
    for step, lists in zip(plan.steps, shown, strict=True):
        answers = [(name, answer(who, articles)) for name, by in lists.items() for who, articles in by.items()]
        note = StepNote(
            number=step.number,
            cut=step.cut,
            until=step.until,
            bundle_ids={contender.name: f"bundle-{step.built}" for contender in plan.contenders},
            trained_through={contender.name: step.cut for contender in plan.contenders},
            learned=step.learned == step.number,
            built=step.built == step.number,
            events=10,
            outcomes={"applied": 10},
            customers=len({who for by in lists.values() for who in by}),
            seconds={"fold": 0.5, "build": 1.0, "answer": 2.0},
            peak_mb=100.0 + step.number,
        )
        ledger.seal(note, answers)
    return ledger


def answer(customer: str, articles: Sequence[str]) -> Recommendations:
    items = [Item(article_id=i, rank=n, score=1.0 / n, source="full") for n, i in enumerate(articles, start=1)]
    return Recommendations(
        request_id=customer, customer_id=customer, items=items, bundle_id="b", strategy="full", latency_ms=2.0
    )
