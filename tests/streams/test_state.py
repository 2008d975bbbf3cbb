"""The fold: any order, any repetition, one state; a bounded one, whose totals are not bounded."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from streams.events import EVENT_TYPES, Event, id_key, to_micros
from streams.state import BOUNDS, Bounds, CustomerState, Outcome, _among, empty_state, fold, state_before
from streams.state_format import decode_state, encode_state
from streams.totals import Totals, price_micros

START = datetime(2017, 3, 1, tzinfo=UTC)
MIDNIGHT = 1_488_326_400_000_000


def purchase(event_id: str, minute: int, article_id: str = "hat", price: float | None = None) -> Event:
    return Event(
        event_id=event_id,
        type="purchase",
        occurred_at=START + timedelta(minutes=minute),
        customer_id="anna",
        article_id=article_id,
        price=price,
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


def folded(*batches: list[Event], bounds: Bounds = BOUNDS) -> CustomerState:
    state = empty_state("anna")
    for batch in batches:
        state, _ = fold(state, batch, bounds)
    return state


def distinct(events: list[Event]) -> list[Event]:
    return list({event.event_id: event for event in events}.values())


def counted(events: list[Event]) -> Totals:
    """Totals by the plainest loop."""
    counts, pieces, spent = [0, 0, 0], [0, 0, 0], [0, 0, 0]
    for event in distinct(events):
        code = EVENT_TYPES.index(event.type)
        counts[code] += 1
        pieces[code] += event.quantity
        spent[code] += 0 if event.price is None else int(price_micros(np.array([event.price], np.float32))[0])
    times = [to_micros(event.occurred_at) for event in events]
    first, last = (min(times), max(times)) if times else (None, None)
    return Totals(tuple(counts), tuple(pieces), tuple(spent), first, last)


def in_time(events: list[Event]) -> list[Event]:
    return sorted(distinct(events), key=lambda e: (e.occurred_at, id_key(e.event_id)))


# The third holds each of the at most 40 events in window or ledger, but never in the window alone.
each_bounds = pytest.mark.parametrize(
    "bounds", [BOUNDS, Bounds(4, 36), Bounds(1, 39, 1)], ids=["default", "small window", "one event, one article"]
)


@each_bounds
@given(data=st.data())
def test_order_repetition_and_batches_change_nothing(bounds: Bounds, data: st.DataObject) -> None:
    """Window, totals and ledger: the same bytes, however a set of events arrives."""
    events = data.draw(histories)
    repeated = events + data.draw(st.lists(st.sampled_from(events), max_size=20)) if events else []
    arriving = data.draw(st.permutations(repeated))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(arriving)), max_size=6)))
    batches = [arriving[a:b] for a, b in pairwise([0, *cuts, len(arriving)])]
    expected = encode_state(folded(in_time(events), bounds=bounds))
    assert encode_state(folded(*batches, bounds=bounds)) == expected
    assert encode_state(folded(*[[event] for event in arriving], bounds=bounds)) == expected


@each_bounds
@given(data=st.data())
def test_states_that_were_stored_in_between_end_in_the_same_bytes(bounds: Bounds, data: st.DataObject) -> None:
    events = data.draw(histories)
    state = empty_state("anna")
    for event in data.draw(st.permutations(events)):
        state, _ = fold(decode_state(encode_state(state)), [event], bounds)
    assert encode_state(state) == encode_state(folded(in_time(events), bounds=bounds))


@each_bounds
@given(data=st.data())
def test_totals_count_each_event_once_beyond_the_window(bounds: Bounds, data: st.DataObject) -> None:
    events = data.draw(histories)
    state = folded(data.draw(st.permutations(events + events)), bounds=bounds)
    assert state.totals == counted(events)
    assert len(state.totals) == len(distinct(events))


@given(data=st.data(), bounds=st.builds(Bounds, st.integers(1, 8), st.integers(1, 40), st.integers(1, 4)))
def test_every_article_bought_before_the_window_is_known(data: st.DataObject, bounds: Bounds) -> None:
    """By the key of its id; beyond a bound the smallest keys alone are, and the state says so."""
    events = data.draw(histories)
    arriving = data.draw(st.permutations(events + events))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(arriving)), max_size=6)))
    state = folded(*[arriving[a:b] for a, b in pairwise([0, *cuts, len(arriving)])], bounds=bounds)
    window, bought = bounds.window, bounds.bought
    left = in_time(events)[:-window]
    keys = sorted({id_key(event.article_id) for event in left if event.type == "purchase"})
    assert (state.past is None) == (not left)
    if state.past is not None:
        assert state.past.bought.tolist() == keys[:bought]
        assert state.past.whole == (len(keys) <= bought)


@given(data=st.data(), ledger=st.integers(1, 6), window=st.integers(1, 4))
def test_beyond_the_ledger_an_event_is_counted_unless_it_expired_and_never_twice(
    data: st.DataObject, ledger: int, window: int
) -> None:
    """The guarantee of the module: what arrives with fewer than window + ledger newer events known is exact."""
    bounds = Bounds(window, ledger)
    events = data.draw(histories)
    state = empty_state("anna")
    accepted: list[Event] = []
    for event in data.draw(st.permutations(events + events)):
        state, (outcome,) = fold(state, [event], bounds)
        rank = (event.occurred_at, id_key(event.event_id))
        newer = sum((e.occurred_at, id_key(e.event_id)) > rank for e in accepted)
        if outcome is Outcome.EXPIRED:
            assert newer >= window + ledger
        elif outcome is Outcome.DUPLICATE:
            assert event in accepted
        else:
            assert event not in accepted
            accepted.append(event)
    assert encode_state(state) == encode_state(folded(in_time(accepted), events, bounds=bounds))
    assert state.totals == counted(accepted)


def test_a_purchase_too_late_to_be_counted_is_remembered_as_bought() -> None:
    bounds = Bounds(window=1, ledger=1)
    known = folded([purchase(f"e{n}", n) for n in (10, 20, 30)], bounds=bounds)
    late = purchase("late", 5, "scarf")
    state, outcomes = fold(known, [late], bounds)
    assert outcomes == [Outcome.EXPIRED]
    assert known.past is not None and state.past is not None
    assert known.past.bought.tolist() == [id_key("hat")]
    assert state.past.bought.tolist() == sorted([id_key("hat"), id_key("scarf")])
    assert state.totals == known.totals
    # Told once more, or only looked at: nothing new.
    same, _ = fold(state, [late, structs.replace(late, event_id="seen", type="view", article_id="tie")], bounds)
    assert same is state


@each_bounds
@given(events=histories)
def test_redelivery_changes_nothing(bounds: Bounds, events: list[Event]) -> None:
    once = folded(events, bounds=bounds)
    again, outcomes = fold(once, events, bounds)
    assert again is once
    assert set(outcomes) <= {Outcome.DUPLICATE}


@each_bounds
@given(events=histories)
def test_state_is_bounded_and_sorted(bounds: Bounds, events: list[Event]) -> None:
    state = folded(events, bounds=bounds)
    assert len(state) == min(len(distinct(events)), bounds.window)
    rows = list(zip(state.occurred_at.tolist(), state.keys.tolist(), strict=True))
    if state.past is not None:
        assert len(state.past.keys) <= bounds.ledger
        rows = [*zip(state.past.occurred_at.tolist(), state.past.keys.tolist(), strict=True), *rows]
    assert all(a < b for a, b in pairwise(rows))


def test_what_left_the_window_by_hand() -> None:
    bounds = Bounds(window=2, ledger=2)
    state, outcomes = fold(empty_state("anna"), [purchase("a", 10), purchase("a", 10), purchase("b", 20)], bounds)
    assert outcomes == [Outcome.APPLIED, Outcome.DUPLICATE, Outcome.APPLIED]
    assert state.past is None
    state, outcomes = fold(state, [purchase("old", 1), purchase("c", 30)], bounds)
    assert outcomes == [Outcome.LATE, Outcome.APPLIED]
    assert state.as_of == MIDNIGHT + 30 * 60_000_000
    # The window holds b and c; a and old have left it, and are still told from new ones.
    assert state.totals == Totals((4, 0, 0), (4, 0, 0), (0, 0, 0), MIDNIGHT + 60_000_000, MIDNIGHT + 30 * 60_000_000)
    assert state.past is not None
    assert state.past.keys.tolist() == [id_key("old"), id_key("a")]
    same, outcomes = fold(state, [purchase("a", 10), purchase("old", 1)], bounds)
    assert same is state
    assert outcomes == [Outcome.DUPLICATE, Outcome.DUPLICATE]
    # A fifth event: nothing was forgotten yet, so the oldest of all is still known to be new.
    state, outcomes = fold(state, [purchase("oldest", 0)], bounds)
    assert outcomes == [Outcome.LATE]
    assert len(state.totals) == 5
    # Now `oldest` has left the ledger: it and anything before `old` may be a duplicate.
    same, outcomes = fold(state, [purchase("oldest", 0), purchase("unheard of", 0), purchase("old", 1)], bounds)
    assert same is state
    assert outcomes == [Outcome.EXPIRED, Outcome.EXPIRED, Outcome.DUPLICATE]
    state, outcomes = fold(state, [purchase("between", 5)], bounds)
    assert outcomes == [Outcome.LATE]
    assert len(state.totals) == 6
    assert state.article_ids == ("hat", "hat")


def test_many_duplicates_of_the_ledger_in_one_batch() -> None:
    bounds = Bounds(window=2, ledger=100)
    events = [purchase(f"e{n}", n) for n in range(60)]
    state, _ = fold(empty_state("anna"), events, bounds)
    same, outcomes = fold(state, events, bounds)
    assert same is state
    assert outcomes == [Outcome.DUPLICATE] * 60


def test_cutting_a_state_keeps_its_past_while_one_event_of_the_window_stays() -> None:
    state = folded([purchase(f"e{n}", n) for n in range(6)], bounds=Bounds(3, 10))
    before = state_before(state, MIDNIGHT + 4 * 60_000_000)
    assert len(before) == 1
    assert len(before.totals) == 4
    assert len(state_before(state, MIDNIGHT + 3 * 60_000_000).totals) == 0


@pytest.mark.parametrize("split", [False, True])
def test_a_zero_price_has_no_sign(split: bool) -> None:
    """-0.0 is a legal price in JSON; its sign must not make the bytes depend on the batches."""
    events = [
        purchase("a", 1, price=-0.0),
        purchase("b", 2, price=0.123456),
    ]
    batches = [[event] for event in events] if split else [events]
    state = empty_state("anna")
    for batch in batches:
        state, _ = fold(decode_state(encode_state(state)), batch)
    assert not np.signbit(state.prices).any()


@pytest.mark.parametrize(("few", "short"), [(0, 0), (16, 0), (16, 128), (0, 128)])
@given(column=st.lists(st.integers(0, 2**64 - 1), max_size=9), other=st.lists(st.integers(0, 2**64 - 1), max_size=3))
def test_keys_are_found_however_they_are_looked_up(few: int, short: int, column: list[int], other: list[int]) -> None:
    keys = [*column[::2], *other]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("streams.state._FEW", few)
        patch.setattr("streams.state._SHORT", short)
        assert _among(np.array(column, np.uint64), keys) == set(keys) & set(column)


def test_late_event_is_put_in_its_place() -> None:
    state = folded([purchase("a", 10, "hat"), purchase("b", 30, "bag")], [purchase("c", 20, "tie")])
    assert state.article_ids == ("hat", "tie", "bag")


def test_event_of_another_customer_is_a_programming_error() -> None:
    with pytest.raises(ValueError, match="'anna' folded into 'bo'"):
        fold(empty_state("bo"), [purchase("a", 1)])
