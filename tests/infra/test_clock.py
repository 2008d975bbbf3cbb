"""Time is handed in: four clocks, one protocol."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from infra import clock
from infra.clock import Clock, ManualClock, ReplayClock, SharedClock, SystemClock
from infra.errors import ConfigurationError
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


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The machine's time, [seconds]."""
    held = [1_000.0]
    monkeypatch.setattr(clock.time, "time", lambda: held[0])
    return held


def test_a_shared_clock_stands_until_it_is_moved(tmp_path: Path, wall: list[float]) -> None:
    driver = SharedClock(tmp_path / "clock.json")
    driver.set(ORIGIN)
    reader = make_clock(load_settings({"MODISTE_CLOCK__FILE": str(driver.path)}).clock)
    wall[0] += 3_600
    assert reader.now() == ORIGIN
    driver.set(ORIGIN + timedelta(microseconds=1))
    assert reader.now() == ORIGIN + timedelta(microseconds=1)


def test_pause_and_resume_of_a_shared_clock_do_not_jump(tmp_path: Path, wall: list[float]) -> None:
    shared = SharedClock(tmp_path / "clock.json")
    shared.set(ORIGIN, 60.0)
    wall[0] += 10
    assert shared.now() == ORIGIN + timedelta(minutes=10)
    shared.run(0.0)
    wall[0] += 500
    assert (shared.now(), shared.speed) == (ORIGIN + timedelta(minutes=10), 0.0)
    shared.run(2.0)
    assert shared.now() == ORIGIN + timedelta(minutes=10)
    wall[0] += 30
    assert shared.now() == ORIGIN + timedelta(minutes=11)


def test_a_reader_never_sees_half_of_a_move(tmp_path: Path) -> None:
    """The driver jumps between two times, each with a speed and a length of its own, while another process reads."""
    shared = SharedClock(tmp_path / "clock.json")
    here, there = (ORIGIN, 0.0), (ORIGIN.replace(year=2018, microsecond=123_456), 1e-9)
    shared.set(*here)
    script = (
        "import sys; from pathlib import Path; from infra.clock import SharedClock\n"
        "shared = SharedClock(Path(sys.argv[1])); print('ready', flush=True)\n"
        "for _ in range(3_000): r = shared._read(); print(r.origin.isoformat(), r.speed)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(shared.path)], stdout=subprocess.PIPE, text=True
    ) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "ready\n"
        moves = 0
        while reader.poll() is None and moves < 20_000:
            shared.set(*(there if moves % 2 == 0 else here))
            moves += 1
        seen = reader.stdout.read().splitlines()
    assert reader.returncode == 0
    assert len(seen) == 3_000
    assert set(seen) <= {f"{moment.isoformat()} {speed}" for moment, speed in (here, there)}


def test_what_is_no_clock_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "clock.json"
    with pytest.raises(ConfigurationError, match=r"clock\.json cannot be read.*whoever moves the clock makes it"):
        make_clock(ClockSettings(file=path))
    path.write_text('{"origin": 5}')
    with pytest.raises(ConfigurationError, match="is not a clock"):
        make_clock(ClockSettings(file=path))
    with pytest.raises(ConfigurationError, match="not both"):
        load_settings(
            {
                "MODISTE_CLOCK__FILE": str(path),
                "MODISTE_CLOCK__ORIGIN": "2017-12-24T00:00:00Z",
                "MODISTE_CLOCK__STARTED_AT": "5",
            }
        )


@pytest.mark.parametrize("speed", [-1.0, float("nan"), float("inf")])
def test_a_shared_clock_refuses_a_speed_that_is_none(tmp_path: Path, speed: float) -> None:
    with pytest.raises(ValueError, match="a number from 0 on"):
        SharedClock(tmp_path / "clock.json").set(ORIGIN, speed)


def test_a_shared_clock_refuses_a_time_without_a_zone(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no time zone"):
        SharedClock(tmp_path / "clock.json").set(ORIGIN.replace(tzinfo=None))
