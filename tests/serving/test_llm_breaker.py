"""An endpoint that fails is left alone and tried again; what it said is kept for a while. Time is a number here."""

from __future__ import annotations

from serving.llm_breaker import LONGEST_PAUSE_S, Breaker, Kept


class Time:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_it_pauses_after_so_many_failures_in_a_row_and_not_before() -> None:
    time = Time()
    breaker = Breaker(3, 10.0, time)
    assert [breaker.failed(), breaker.failed()] == [None, None]
    breaker.succeeded()
    assert [breaker.failed(), breaker.failed()] == [None, None] and breaker.admits()
    assert breaker.failed() == 10.0
    assert not breaker.admits()


def test_after_the_pause_one_call_is_let_through_and_decides() -> None:
    time = Time()
    breaker = Breaker(1, 10.0, time)
    breaker.failed()
    time.now += 9.9
    assert not breaker.admits()
    time.now += 0.1
    assert [breaker.admits(), breaker.admits()] == [True, False]
    breaker.failed()
    assert not breaker.admits()
    time.now += 10.0
    assert breaker.admits()
    breaker.succeeded()
    assert [breaker.admits(), breaker.admits()] == [True, True]


def test_a_trial_that_was_not_made_leaves_room_for_another() -> None:
    time = Time()
    breaker = Breaker(1, 10.0, time)
    breaker.failed()
    time.now += 10.0
    assert breaker.admits()
    breaker.abandoned()
    assert breaker.admits()


def test_a_pause_that_the_endpoint_asks_for_begins_at_once_and_is_bounded() -> None:
    time = Time()
    breaker = Breaker(5, 10.0, time)
    assert breaker.failed(30.0) == 30.0
    time.now += 29.0
    assert not breaker.admits()
    time.now += 1.0
    assert breaker.admits()
    assert breaker.failed(1e9) == LONGEST_PAUSE_S


def test_a_value_is_kept_until_its_time_is_over() -> None:
    time = Time()
    kept: Kept[str] = Kept(10, 60.0, time)
    kept.put(b"a", "one")
    time.now += 59.9
    assert kept.get(b"a") == "one"
    time.now += 0.1
    assert kept.get(b"a") is None and len(kept) == 0


def test_the_one_longest_unused_makes_room() -> None:
    kept: Kept[int] = Kept(2, 60.0, Time())
    kept.put(b"a", 1)
    kept.put(b"b", 2)
    assert kept.get(b"a") == 1
    kept.put(b"c", 3)
    assert [kept.get(key) for key in (b"a", b"b", b"c")] == [1, None, 3]
    assert len(kept) == 2
