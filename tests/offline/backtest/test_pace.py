"""History's time for a replay: in steps as fast as it goes, or running, stopped and continued by a person."""

from __future__ import annotations

import asyncio
import os
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from infra.clock import SharedClock
from infra.errors import ConfigurationError
from offline.backtest.pace import Pace, parse_speed

START = datetime(2017, 12, 10, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
def clock(tmp_path: Path) -> SharedClock:
    return SharedClock(tmp_path / "clock.json")


async def test_as_fast_as_it_goes_the_clock_steps_and_never_back(clock: SharedClock) -> None:
    pace = Pace(clock)
    assert await pace.reach(START) == START
    await pace.reach(START + HOUR)
    assert clock.now() == START + HOUR
    await pace.reach(START)
    assert clock.now() == START + HOUR
    assert clock.speed == 0.0


async def test_at_a_speed_a_moment_is_waited_for_while_the_clock_runs(clock: SharedClock) -> None:
    """An hour at 36,000 times is a tenth of a second."""
    pace = Pace(clock, 36_000.0)
    loop = asyncio.get_running_loop()
    began = loop.time()
    await pace.reach(START)
    assert clock.speed == 36_000.0
    assert await pace.reach(START + HOUR) >= START + HOUR
    assert loop.time() - began >= 0.1


async def test_what_stands_goes_on_where_it_stood(clock: SharedClock) -> None:
    pace = Pace(clock, 36_000.0)
    await pace.reach(START)
    pace.stand(START + HOUR)
    await asyncio.sleep(0.01)
    assert clock.now() == START + HOUR
    assert await pace.reach(START + HOUR) >= START + HOUR
    assert clock.speed == 36_000.0


@pytest.mark.parametrize("speed", [None, 36_000.0])
async def test_a_signal_pauses_and_another_goes_on(clock: SharedClock, speed: float | None) -> None:
    pace = Pace(clock, speed)
    with pace.signals():
        await pace.reach(START)
        os.kill(os.getpid(), signal.SIGUSR1)
        for _ in range(10_000):
            if pace.paused:
                break
            await asyncio.sleep(0.001)
        then = clock.now()
        waiting = asyncio.create_task(pace.reach(START + 2 * HOUR))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        assert clock.now() == then
        os.kill(os.getpid(), signal.SIGUSR2)
        async with asyncio.timeout(10):
            assert await waiting >= START + 2 * HOUR


async def test_a_pause_while_waiting_holds_the_moment_off(clock: SharedClock) -> None:
    pace = Pace(clock, 60.0)
    await pace.reach(START)
    waiting = asyncio.create_task(pace.reach(START + HOUR))
    await asyncio.sleep(0)
    pace.pause()
    then = clock.now()
    await asyncio.sleep(0.2)
    assert not waiting.done()
    assert START <= then == clock.now() < START + HOUR
    pace.speed = 1e6
    pace.resume()
    async with asyncio.timeout(10):
        await waiting


@pytest.mark.parametrize(("text", "speed"), [("60x", 60.0), ("3600", 3_600.0), ("0.5x", 0.5)])
def test_a_speed(text: str, speed: float) -> None:
    assert parse_speed(text) == speed


@pytest.mark.parametrize("text", ["", "x", "fast", "0x", "-1x", "nan", "inf"])
def test_what_is_no_speed(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"give a number above 0 such as 60x"):
        parse_speed(text)
