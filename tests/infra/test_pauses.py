"""Work beside requests rests between its steps; what lives for ever is not looked through for garbage."""

from __future__ import annotations

import asyncio
import gc

import pytest

from infra.pauses import MAX_REST_S, keep_what_is_loaded, rest, unhurried


class Clock:
    """Time passes for who works and who sleeps."""

    def __init__(self) -> None:
        self.worked = self.slept = 0.0

    def thread_time(self) -> float:
        return self.worked

    def sleep(self, seconds: float) -> None:
        self.slept += seconds

    def step(self, seconds: float) -> None:
        self.worked += seconds
        rest()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("infra.pauses.time", made)
    return made


def test_work_takes_its_share_of_the_time_and_no_more(clock: Clock) -> None:
    with unhurried(0.2):
        clock.step(0.01)
        assert clock.slept == pytest.approx(0.04)
        clock.step(0.05)
    assert clock.slept == pytest.approx(0.04 + 0.20)


def test_a_step_that_cannot_be_cut_up_is_not_paid_for_in_full(clock: Clock) -> None:
    with unhurried(0.2):
        clock.step(60)
    assert clock.slept == MAX_REST_S


def test_nobody_else_rests(clock: Clock) -> None:
    clock.step(1)
    with unhurried(0.5):
        pass
    clock.step(1)
    assert clock.slept == 0


async def test_a_thread_rests_for_itself(clock: Clock) -> None:
    with unhurried(0.5):
        await asyncio.to_thread(clock.step, 0.1)
    assert clock.slept == pytest.approx(0.1)


def test_what_is_loaded_is_kept() -> None:
    try:
        keep_what_is_loaded()
        assert gc.get_freeze_count() > 10_000
    finally:
        gc.unfreeze()
