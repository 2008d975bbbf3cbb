"""Work beside requests rests between its steps; what lives for ever is not looked through for garbage."""

from __future__ import annotations

import gc
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from infra.pauses import MAX_REST_S, keep_what_is_loaded, rest, unhurried


class Clock:
    """Time passes for who works and who sleeps."""

    def __init__(self) -> None:
        self.worked = self.slept = 0.0

    def thread_time(self) -> float:
        return self.worked

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
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
    with unhurried(share=0.2):
        clock.step(0.01)
        assert clock.slept == pytest.approx(0.04)
        clock.step(0.03)
    assert clock.slept == pytest.approx(0.04 + 0.12)


def test_a_step_that_cannot_be_cut_up_is_not_paid_for_in_full(clock: Clock) -> None:
    with unhurried(share=0.2):
        clock.step(60)
    assert clock.slept == MAX_REST_S


def test_who_is_waited_for_rests_no_longer_than_that_in_all(clock: Clock) -> None:
    with unhurried(share=0.5, most_s=0.25):
        for _ in range(4):
            clock.step(0.1)
        assert clock.slept == pytest.approx(0.25)
    with unhurried(share=0.5):
        clock.step(0.1)
    assert clock.slept == pytest.approx(0.35)


def test_nobody_else_rests(clock: Clock) -> None:
    clock.step(1)
    with unhurried(share=0.5):
        pass
    clock.step(1)
    assert clock.slept == 0


def test_nobody_else_rests_beside_it(clock: Clock) -> None:
    with unhurried(share=0.5), ThreadPoolExecutor(1) as other:
        other.submit(clock.step, 1).result()
    assert clock.slept == 0


def test_who_is_told_to_hurry_rests_no_more() -> None:
    hurry = threading.Event()
    with unhurried(hurry, share=0.001):
        worked = time.thread_time()
        while time.thread_time() < worked + 0.001:  # which would be paid for with a second
            pass
        hurry.set()
        began = time.monotonic()
        rest()
        assert time.monotonic() - began < MAX_REST_S / 2


def test_what_is_loaded_is_kept() -> None:
    try:
        keep_what_is_loaded()
        assert gc.get_freeze_count() > 10_000
    finally:
        gc.unfreeze()
