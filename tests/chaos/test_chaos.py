"""The short form of `make chaos`: real servers, real processes, real kills, and a worker that the oracle must catch."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from infra.apache_kafka import available
from tests.chaos.oracle import LOST
from tests.chaos.report import as_text, by_fault
from tests.chaos.run import Plan, run
from tests.support.tiny_fixture import Tiny, tiny

__all__ = ["tiny"]

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]


async def test_nothing_is_lost_doubled_or_different_whatever_is_killed(tiny: Tiny, tmp_path: Path) -> None:
    kafka = "tansu" if available() else "apache"
    faults = (
        "worker kill -9",
        "responder kill -9",
        "broker restart",
        "redis kill -9",
        "redis away 10 s",
        "rebalance storm",
        "clock jump",
    )
    plan = Plan(seed=11, kafka=kafka, minutes=4.0, rounds=1, faults=faults, pause_s=1.0, on_top=0.0)
    outcome = await run(plan, tmp_path, tiny.registry_url)
    assert outcome.ok, as_text(outcome)
    counts = outcome.verdict.counts
    assert len(outcome.done) == len(faults) - (kafka == "tansu")
    assert counts["events on the log"] > counts["distinct events"] > 1_000
    assert counts["answers: ok"] > 100
    assert counts["refused messages"] > 0


async def test_a_worker_that_commits_before_it_saves_is_caught(tiny: Tiny, tmp_path: Path) -> None:
    words = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from tests.chaos.broken_worker import main; main()"
    plan = Plan(
        seed=12,
        kafka="tansu",
        minutes=4.0,
        rounds=2,
        faults=("worker kill -9",),
        workers=1,
        pause_s=1.0,
        on_top=0.0,
        worker_argv=(sys.executable, "-c", words),
    )
    outcome = await run(plan, tmp_path, tiny.registry_url)
    assert not outcome.ok
    assert outcome.verdict.count(LOST) > 0, as_text(outcome)
    assert by_fault(outcome)["worker kill -9"][LOST] > 0
