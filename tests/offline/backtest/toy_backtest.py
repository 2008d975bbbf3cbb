"""A backtest of three weeks in a shop whose log is written here line by line, articles with their changes included.

Sixteen customers in two camps: even ones buy tops, odd ones shoes; every week the staple of the camp (`top-0`,
`shoe-0`) and one more article of the camp by a die. Prices are told by the shop, from the first day.

As a program: `python -m tests.offline.backtest.toy_backtest LOG LEDGER DATA` runs it and says each step it has sealed.
"""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa

from infra.bundle import Bundle
from offline.backtest.builder import BundleBuilder
from offline.backtest.builder_process import BuilderProcess
from offline.backtest.engine import Afterwards, Backtest
from offline.backtest.inprocess import InProcess
from offline.backtest.ledger import Ledger
from offline.backtest.plan import BacktestPlan, Step, contenders_of
from offline.backtest.runner import Runner
from offline.event_log import EventLog, import_source
from offline.run import limit_threads
from offline.sources.base import ARTICLE_SCHEMA, CUSTOMER_SCHEMA, SOURCE_EVENT_SCHEMA, Findings
from tests.support.tiny import TINY

START = datetime(2020, 6, 1, tzinfo=UTC)
WEEK = timedelta(days=7)
WEEKS = 8
CUSTOMERS = [f"customer-{n:02d}" for n in range(16)]
KINDS = 4
CONFIG = replace(
    TINY,
    learn=replace(
        TINY.learn,
        tower=replace(TINY.learn.tower, examples=400, epochs=1),
        refresh_examples=200,
        ranking=replace(TINY.learn.ranking, weeks=2, steps=10, every=5),
    ),
)
PLAN = BacktestPlan(
    start=START + 5 * WEEK,
    end=START + 8 * WEEK,
    step=WEEK,
    retrain=None,
    contenders=contenders_of(["full", "popular", "repurchase"], []),
    config=CONFIG,
    k=6,
    everyone=True,
)

# When, who, what, for how much.
Purchase = tuple[datetime, str, str, float]


def ordinary() -> list[Purchase]:
    dice = random.Random(7)
    lines = []
    for week in range(WEEKS):
        for number, customer in enumerate(CUSTOMERS):
            kind = "shoe" if number % 2 else "top"
            moment = START + week * WEEK + timedelta(days=number % 7, hours=number)
            lines.append((moment, customer, f"{kind}-0", 10.0))
            lines.append((moment, customer, f"{kind}-{dice.randrange(1, KINDS)}", 10.0))
    return lines


@dataclass(frozen=True)
class ToySource:
    """more: purchases beside the ordinary ones · told: versions of articles beside those of the first day, as
    (article, price, known from)."""

    file: Path
    more: list[Purchase] = field(default_factory=list)
    told: list[tuple[str, float, datetime]] = field(default_factory=list)
    name: str = "toy"
    description: str = "a shop for tests"
    revision: int = 1
    event_rows: int | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.file,)

    def articles(self, findings: Findings) -> Iterator[pa.RecordBatch]:
        first = [(f"{kind}-{n}", 10.0, None) for kind in ("top", "shoe") for n in range(KINDS)]
        rows = [
            {"article_id": i, "title": i, "category": i.split("-")[0], "text": i, "price": price, "known_from": since}
            for i, price, since in [*first, *self.told]
        ]
        yield from pa.Table.from_pylist(rows, schema=ARTICLE_SCHEMA).combine_chunks().to_batches()

    def customers(self, findings: Findings) -> Iterator[pa.RecordBatch]:
        yield from pa.Table.from_pylist(
            [{"customer_id": customer} for customer in CUSTOMERS], schema=CUSTOMER_SCHEMA
        ).to_batches()

    def events(self, findings: Findings, known_articles: pa.Array | None) -> Iterator[pa.RecordBatch]:
        rows = [
            {
                "event_id": f"{moment.isoformat()}-{customer}-{article}",
                "type": "purchase",
                "occurred_at": moment,
                "customer_id": customer,
                "article_id": article,
                "price": price,
                "quantity": 1,
                "sales_channel_id": 1,
                "row": row,
            }
            for row, (moment, customer, article, price) in enumerate([*ordinary(), *self.more], start=1)
        ]
        yield from pa.Table.from_pylist(rows, schema=SOURCE_EVENT_SCHEMA).to_batches()


def toy_log(
    directory: Path, more: list[Purchase] | None = None, told: list[tuple[str, float, datetime]] | None = None
) -> EventLog:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "input").write_text("the lines stand in the test")
    return import_source(ToySource(directory / "input", more or [], told or []), directory / "log")


def run_backtest(
    log: EventLog,
    ledger: Path,
    data_dir: Path,
    plan: BacktestPlan = PLAN,
    afterwards: Afterwards | None = None,
    runner: InProcess | None = None,
) -> Ledger:
    """Networks lie in `data_dir`, so that runs over one log learn them once."""

    async def opened() -> Runner:
        return runner or InProcess()

    held = Ledger(ledger)
    ledger.mkdir(parents=True, exist_ok=True)
    job = Backtest(log, plan, held, BundleBuilder(log, plan, ledger, data_dir), {})
    asyncio.run(job.run(opened, afterwards))
    return held


def _say(step: Step, bundles: Mapping[str, Bundle]) -> None:
    print(f"sealed {step.number}", flush=True)


async def _in_process() -> Runner:
    return InProcess()


def main(log: EventLog, ledger: Path, data_dir: Path) -> None:
    """As the command does it, with the builder in a process of its own."""
    limit_threads(1)
    ledger.mkdir(parents=True, exist_ok=True)
    with BuilderProcess(log, PLAN, ledger, data_dir) as builder:
        asyncio.run(Backtest(log, PLAN, Ledger(ledger), builder, {}).run(_in_process, _say))


if __name__ == "__main__":
    main(EventLog(Path(sys.argv[1])), Path(sys.argv[2]), Path(sys.argv[3]))
