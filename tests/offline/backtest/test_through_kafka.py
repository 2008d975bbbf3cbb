"""A replay by real processes: one that dies changes nothing, a pause holds it, waiting in vain ends with a reason."""

from __future__ import annotations

import asyncio
import os
import signal
from datetime import timedelta
from pathlib import Path

import pytest

from infra.bundle import Bundle
from infra.errors import DataError, Unavailable
from offline.backtest.inprocess import InProcess
from offline.backtest.through_kafka import ThroughKafka
from serving.messages import RecommendationRequest
from streams.state import Outcome
from tests.suites.runner_suite import CUT, WEEK, as_bytes, everything
from tests.support.remade import remade
from tests.support.tiny import CUSTOMERS, customer_id
from tests.support.tiny_fixture import Tiny


async def test_it_must_be_started(tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="before start"):
        await ThroughKafka(tmp_path).fold(tiny.log, None, CUT)


@pytest.mark.broker
@pytest.mark.slow
async def test_killed_processes_and_a_pause_change_no_answer(tiny: Tiny, tmp_path: Path) -> None:
    alone = InProcess()
    await alone.take(tiny.bundle)
    await alone.fold(tiny.log, None, CUT + WEEK)
    expected = as_bytes(await alone.answer(everything(), CUT + WEEK))
    async with ThroughKafka(tmp_path, kafka="tansu") as runner:
        await runner.take(tiny.bundle)
        assert await runner.fold(tiny.log, None, CUT) == {Outcome.APPLIED: 7 * CUSTOMERS * 2}
        pids = runner.pids()
        os.kill(pids["worker"], signal.SIGKILL)
        runner.pace.pause()
        folding = asyncio.create_task(runner.fold(tiny.log, CUT, CUT + WEEK))
        await asyncio.sleep(1.0)
        assert not folding.done()
        os.kill(os.getpid(), signal.SIGUSR2)
        assert await folding == {Outcome.APPLIED: CUSTOMERS * 2}
        os.kill(pids["responder"], signal.SIGKILL)
        assert as_bytes(await runner.answer(everything(), CUT + WEEK)) == expected
        with pytest.raises(DataError, match="request_id 'r' stands 2 times"):
            await runner.answer([RecommendationRequest(request_id="r", customer_id=customer_id(0))] * 2, CUT + WEEK)
    assert not (tmp_path / "registry").exists()
    assert "bundle" in (tmp_path / "processes.log").read_text()


@pytest.mark.broker
@pytest.mark.slow
async def test_history_at_a_speed_takes_its_time(tiny: Tiny, tmp_path: Path) -> None:
    """A week, and the day after it, at four days a second; the clock stands again once all is folded."""
    loop = asyncio.get_running_loop()
    async with ThroughKafka(tmp_path, kafka="tansu", speed=4 * 86_400.0) as runner:
        await runner.take(tiny.bundle)
        began = loop.time()
        assert await runner.fold(tiny.log, CUT, CUT + WEEK + timedelta(days=1)) == {Outcome.APPLIED: CUSTOMERS * 2}
        assert loop.time() - began >= 2.0
        assert runner.pace.clock.now() == CUT + WEEK + timedelta(days=1)


@pytest.mark.broker
@pytest.mark.slow
async def test_a_bundle_that_is_refused_is_named_with_the_log(tiny: Tiny, tmp_path: Path) -> None:
    def vouch_for_nothing(copy: Path) -> None:
        (copy / "golden.jsonl").write_bytes(b"")

    refused: Bundle = remade(tiny.bundle, tmp_path, vouch_for_nothing)
    async with ThroughKafka(tmp_path / "processes", kafka="tansu", patience_s=15.0) as runner:
        await runner.take(tiny.bundle)
        with pytest.raises(Unavailable, match=rf"did not take bundle {refused.bundle_id}.*answers by {tiny.bundle_id}"):
            await runner.take(refused)
    assert "golden.jsonl holds no case" in (tmp_path / "processes" / "processes.log").read_text()
