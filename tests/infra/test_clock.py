"""Time is handed in: three clocks, one protocol."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from infra import clock
from infra.clock import Clock, ManualClock, ReplayClock, SystemClock
from infra.settings import ClockSettings, load_settings, make_clock

ORIGIN = datetime(2017, 12, 24, tzinfo=UTC)


def test_the_system_clock_is_aware_and_now() -> None:
    before = datetime.now(UTC)
    now = SystemClock().now()
    assert before <= now <= datetime.now(UTC)
    assert now.utcoffset() == timedelta(0)


def test_the_manual_clock_moves_only_when_told() -> None:
    held = ManualClock(ORIGIN)
    assert held.now() == held.now() == ORIGIN
    held.advance(timedelta(hours=2))
    assert held.now() == ORIGIN + timedelta(hours=2)
    held.set(ORIGIN)
    assert held.now() == ORIGIN


@pytest.mark.parametrize(("speed", "passed"), [(1.0, 10), (60.0, 600), (0.5, 5)])
def test_the_replay_clock_runs_at_its_speed(monkeypatch: pytest.MonkeyPatch, speed: float, passed: int) -> None:
    monkeypatch.setattr(clock.time, "time", lambda: 1_010.0)
    assert ReplayClock(ORIGIN, 1_000.0, speed).now() == ORIGIN + timedelta(seconds=passed)


def test_two_processes_of_one_replay_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    env = {"MODISTE_CLOCK__ORIGIN": "2017-12-24T01:00:00+01:00", "MODISTE_CLOCK__STARTED_AT": "1000"}
    monkeypatch.setattr(clock.time, "time", lambda: 1_003.0)
    clocks: list[Clock] = [make_clock(load_settings(env).clock) for _ in range(2)]
    assert [held.now() for held in clocks] == [ORIGIN + timedelta(seconds=3)] * 2


def test_without_an_origin_it_is_the_systems_time() -> None:
    assert isinstance(make_clock(ClockSettings()), SystemClock)
