"""The fold: any order, any repetition, one state; and a bounded one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import streams.state as state_module
from infra.errors import DataError
from streams.events import EVENT_TYPES, Event
from streams.state import CustomerState, Outcome, decode_state, empty_state, encode_state, fold

START = datetime(2017, 3, 1, tzinfo=UTC)


def purchase(event_id: str, minute: int, article_id: str = "hat") -> Event:
    return Event(
        event_id=event_id,
        type="purchase",
        occurred_at=START + timedelta(minutes=minute),
        customer_id="anna",
        article_id=article_id,
    )


# An id fixes its event, as it does for real producers; few minutes, so that many events share a time.
any_event = st.builds(
    lambda n, kind, minute, price, quantity: Event(
        event_id=f"e{n}-{kind}-{minute}-{price}-{quantity}",
        type=kind,
        occurred_at=START + timedelta(minutes=minute),
        customer_id="anna",
        article_id=f"a{n % 3}",
        price=price,
        quantity=quantity,
    ),
    st.integers(0, 20),
    st.sampled_from(EVENT_TYPES),
    st.integers(0, 5),
    st.none() | st.floats(0, 1e6, width=32),
    st.integers(1, 65_535),
)
histories = st.lists(any_event, max_size=40)


def folded(*batches: list[Event]) -> CustomerState:
    state = empty_state("anna")
    for batch in batches:
        state, _ = fold(state, batch)
    return state


@pytest.fixture(params=[4, 1_000], ids=["small window", "window"], autouse=True)
def window(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(state_module, "MAX_EVENTS", request.param)
    return int(request.param)


@given(data=st.data())
def test_order_of_arrival_changes_nothing(data: st.DataObject) -> None:
    events = data.draw(histories)
    shuffled = data.draw(st.permutations(events))
    assert encode_state(folded(events)) == encode_state(folded(shuffled))


@given(events=histories, cut=st.integers(0, 40))
def test_batches_change_nothing(events: list[Event], cut: int) -> None:
    assert encode_state(folded(events)) == encode_state(folded(events[:cut], events[cut:]))
    assert encode_state(folded(events)) == encode_state(folded(*[[event] for event in events]))


@given(events=histories)
def test_redelivery_changes_nothing(events: list[Event]) -> None:
    once = folded(events)
    again, outcomes = fold(once, events)
    assert again is once
    assert set(outcomes) <= {Outcome.DUPLICATE, Outcome.LATE}


@given(events=histories)
def test_state_is_bounded_and_sorted(events: list[Event]) -> None:
    state = folded(events)
    distinct = {event.event_id for event in events}
    assert len(state) == min(len(distinct), state_module.MAX_EVENTS)
    rows = list(zip(state.occurred_at.tolist(), state.keys.tolist(), strict=True))
    assert all(a < b for a, b in pairwise(rows))


@given(events=histories)
def test_encoded_state_comes_back(events: list[Event]) -> None:
    state = folded(events)
    raw = encode_state(state)
    back = decode_state(raw)
    assert encode_state(back) == raw
    assert back.customer_id == "anna"
    assert back.article_ids == state.article_ids
    assert np.array_equal(back.prices, state.prices, equal_nan=True)


def test_outcomes_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_module, "MAX_EVENTS", 2)
    state, outcomes = fold(empty_state("anna"), [purchase("a", 10), purchase("a", 10), purchase("b", 20)])
    assert outcomes == [Outcome.APPLIED, Outcome.DUPLICATE, Outcome.APPLIED]
    state, outcomes = fold(state, [purchase("old", 1), purchase("c", 30)])
    assert outcomes == [Outcome.LATE, Outcome.APPLIED]
    assert state.as_of == 1_488_326_400_000_000 + 30 * 60_000_000


def test_late_event_is_put_in_its_place() -> None:
    state = folded([purchase("a", 10, "hat"), purchase("b", 30, "bag")], [purchase("c", 20, "tie")])
    assert state.article_ids == ("hat", "tie", "bag")


def test_event_of_another_customer_is_a_programming_error() -> None:
    with pytest.raises(ValueError, match="'anna' folded into 'bo'"):
        fold(empty_state("bo"), [purchase("a", 1)])


@pytest.mark.parametrize("raw", [b"", b"\x00", b"not a state", encode_state(empty_state("anna"))[:-1]])
def test_foreign_bytes_are_refused(raw: bytes) -> None:
    with pytest.raises(DataError, match="not a customer state"):
        decode_state(raw)
