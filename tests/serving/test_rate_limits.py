"""A bucket of tokens: so many at once, then so many a second, whoever else asks."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from serving.rate_limits import Buckets


class Watch:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_burst_then_rate() -> None:
    watch = Watch()
    buckets = Buckets(3, now=watch)
    assert [buckets.take("anna", 2.0).remaining for _ in range(3)] == [2, 1, 0]
    refused = buckets.take("anna", 2.0)
    assert (refused.allowed, refused.wait_s, refused.full_s) == (False, 0.5, 1.5)
    assert buckets.take("bert", 2.0).allowed
    watch.now = 0.5
    assert buckets.take("anna", 2.0).allowed
    assert not buckets.take("anna", 2.0).allowed


@given(
    waits=st.lists(st.floats(0, 3), max_size=60),
    rate=st.sampled_from([0.1, 1.0, 7.5]),
    burst=st.integers(1, 5),
)
def test_never_more_than_the_burst_and_what_time_gave(waits: list[float], rate: float, burst: int) -> None:
    watch = Watch()
    buckets = Buckets(burst, now=watch)
    allowed = 0
    for wait in waits:
        watch.now += wait
        taken = buckets.take("anna", rate)
        allowed += taken.allowed
        assert allowed <= burst + rate * watch.now + 1e-6
        assert taken.allowed or taken.wait_s > 0


@given(waits=st.lists(st.floats(0.5, 5), min_size=1, max_size=30))
def test_who_waits_as_told_is_never_refused(waits: list[float]) -> None:
    watch = Watch()
    buckets = Buckets(1, now=watch)
    for wait in waits:
        assert buckets.take("anna", 2.0).allowed
        watch.now += wait + 1e-9


def test_callers_are_kept_in_bounded_number_the_longest_silent_go() -> None:
    watch = Watch()
    buckets = Buckets(1, now=watch, max_callers=2)
    for caller in ("anna", "bert", "anna", "carl"):
        watch.now += 1
        buckets.take(caller, 0.001)
    assert not buckets.take("anna", 0.001).allowed
    assert buckets.take("bert", 0.001).allowed, "bert was forgotten, not anna"
