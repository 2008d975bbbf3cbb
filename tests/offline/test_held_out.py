"""Warm states up to a cut, then the purchases after it, each exactly once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from offline.held_out import fill_store, purchases, take
from offline.histories import load_histories
from streams.events import encode_event, parse_event, to_micros
from streams.state import empty_state, fold
from streams.state_format import encode_state
from streams.store import MemoryStore, StoredCustomer
from tests.support.tiny import CUSTOMERS, customer_id
from tests.support.tiny_fixture import Tiny

CUT = datetime(2020, 7, 20, tzinfo=UTC)


async def test_filled_states_are_what_the_worker_would_have_folded(tiny: Tiny) -> None:
    store = MemoryStore()
    encoder = tiny.runtime.encoder
    assert await fill_store(store, load_histories(tiny.log), CUT, encoder) == CUSTOMERS
    ids = [customer_id(n) for n in range(CUSTOMERS)]
    before = list(purchases(tiny.log, tiny.log.span[0], CUT))
    for name, stored in zip(ids, await store.load(ids), strict=True):
        assert stored is not None
        folded, _ = fold(empty_state(name), [e for e in before if e.customer_id == name])
        assert encode_state(stored.state) == encode_state(folded)
        assert stored.space == encoder.space == tiny.bundle_id
        assert stored.embedding is not None
        assert stored.embedding.tobytes() == encoder.encode([folded])[0].tobytes()
        assert stored.state.occurred_at.max() < to_micros(CUT)


async def test_a_customer_with_live_events_is_left_alone(tiny: Tiny) -> None:
    store = MemoryStore()
    live = next(purchases(tiny.log, CUT, CUT + timedelta(days=7)))
    state, _ = fold(empty_state(live.customer_id), [live])
    await store.save([StoredCustomer(state)])
    saved = await fill_store(store, load_histories(tiny.log), CUT, tiny.runtime.encoder)
    assert saved == CUSTOMERS - 1
    (kept,) = await store.load([live.customer_id])
    assert kept is not None
    assert encode_state(kept.state) == encode_state(state)


def test_purchases_come_in_time_order_from_start_to_before_until(tiny: Tiny) -> None:
    events = list(purchases(tiny.log, CUT, CUT + timedelta(days=2)))
    times = [event.occurred_at for event in events]
    assert times == sorted(times)
    assert {moment.date() for moment in times} == {CUT.date(), (CUT + timedelta(days=1)).date()}
    everything = list(purchases(tiny.log, tiny.log.span[0], tiny.log.span[1] + timedelta(days=1)))
    assert len(everything) == tiny.log.manifest.counts["events"]
    assert len({event.event_id for event in everything}) == len(everything)
    assert all(parse_event(encode_event(event)) == event for event in events)


def test_take_leaves_the_rest_for_the_next_reader(tiny: Tiny) -> None:
    whole = [e.event_id for e in purchases(tiny.log, CUT, CUT + timedelta(days=7))]
    stream = purchases(tiny.log, CUT, CUT + timedelta(days=7))
    first = [e.event_id for e in take(stream, 5)]
    assert first + [e.event_id for e in stream] == whole
    assert len(first) == 5
    assert take(iter([]), 3) == []
