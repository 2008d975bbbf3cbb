"""Replay: columns, processor and plain fold end in the same bytes."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.clock import ManualClock
from infra.errors import DataError
from streams.events import EVENT_TYPES, Event, id_key
from streams.processor import Processor
from streams.replay import replay, replay_columns, replay_states
from streams.state import BOUNDS, Bounds, CustomerState, Outcome, empty_state, fold
from streams.state_format import encode_state
from streams.store import MemoryStore

START = datetime(2017, 3, 1, tzinfo=UTC)

event = st.builds(
    lambda n, customer, kind, second, price, quantity: Event(
        event_id=f"e{n}-{kind}-{second}-{price}-{quantity}",
        type=kind,
        occurred_at=START + timedelta(seconds=second, microseconds=n),
        customer_id=customer,
        article_id=f"a{n % 3}",
        price=price,
        quantity=quantity,
    ),
    st.integers(0, 9),
    st.sampled_from(["anna", "bo", "ärger ✓"]),
    st.sampled_from(EVENT_TYPES),
    st.integers(0, 4),
    st.none() | st.floats(0, 1e6),
    st.integers(1, 65_535),
)


def columns(events: Sequence[Event]) -> pa.Table:
    return pa.table(
        {
            "event_id": pa.array([e.event_id for e in events], pa.string()),
            "type": pa.array([e.type for e in events], pa.string()),
            "occurred_at": pa.array([e.occurred_at for e in events], pa.timestamp("us", "UTC")),
            "customer_id": pa.array([e.customer_id for e in events], pa.string()),
            "article_id": pa.array([e.article_id for e in events], pa.string()),
            "price": pa.array([e.price for e in events], pa.float64()),
            "quantity": pa.array([e.quantity for e in events], pa.int32()),
            "sales_channel_id": pa.nulls(len(events), pa.int8()),
        }
    )


def folded(events: Sequence[Event], bounds: Bounds) -> dict[str, bytes]:
    states: dict[str, CustomerState] = {}
    for e in events:
        before = states.get(e.customer_id, empty_state(e.customer_id))
        states[e.customer_id], _ = fold(before, [e], bounds)
    return encoded(states)


def encoded(states: dict[str, CustomerState]) -> dict[str, bytes]:
    return {name: encode_state(state) for name, state in sorted(states.items())}


each_bounds = pytest.mark.parametrize("bounds", [Bounds(3, 60), BOUNDS], ids=["small window", "window"])


@each_bounds
@given(events=st.lists(event, max_size=60), batch_rows=st.integers(1, 20))
def test_columns_give_the_states_of_fold(bounds: Bounds, events: list[Event], batch_rows: int) -> None:
    states = replay_states(columns(events).to_batches(max_chunksize=batch_rows), bounds)
    assert encoded(states) == folded(events, bounds)
    assert list(states) == sorted(states)


@given(events=st.lists(event, max_size=60))
def test_columns_in_time_order_give_the_states_of_fold_also_beyond_the_ledger(events: list[Event]) -> None:
    """What is never too late is counted, however long ago it left the ledger."""
    bounds = Bounds(3, 4)
    in_order = sorted(events, key=lambda e: (e.occurred_at, id_key(e.event_id)))
    assert encoded(replay_states([columns(events)], bounds)) == folded(in_order, bounds)


@each_bounds
@given(events=st.lists(event, max_size=60), batch_size=st.integers(1, 20))
def test_processor_gives_the_states_of_fold(bounds: Bounds, events: list[Event], batch_size: int) -> None:
    async def stored() -> dict[str, bytes]:
        store, clock = MemoryStore(), ManualClock(START)
        outcomes = await replay(events, Processor(store, clock, bounds=bounds), clock, batch_size=batch_size)
        assert sum(outcomes.values()) == len(events)
        found = await store.load(await store.customer_ids(100))
        return {f.state.customer_id: encode_state(f.state) for f in found if f is not None}

    assert asyncio.run(stored()) == folded(events, bounds)


@each_bounds
@given(
    events=st.lists(event, max_size=60),
    again=st.lists(st.integers(0, 59), max_size=10),
    batch_size=st.integers(1, 20),
    chunk=st.integers(1, 20),
)
def test_columns_through_the_processor_are_as_json_through_it(
    bounds: Bounds, events: list[Event], again: list[int], batch_size: int, chunk: int
) -> None:
    """Any order, with repetitions: the same outcomes, and the same bytes, versions and embeddings in the store."""
    events += [events[n] for n in again if n < len(events)]

    async def by_json() -> Replayed:
        store, clock = MemoryStore(), ManualClock(START)
        processor = Processor(store, clock, TallyEncoder(), bounds=bounds)
        return await replayed(store, clock, await replay(events, processor, clock, batch_size=batch_size))

    async def by_columns() -> Replayed:
        store, clock = MemoryStore(), ManualClock(START)
        processor = Processor(store, clock, TallyEncoder(), bounds=bounds)
        batches = columns(events).to_batches(max_chunksize=chunk)
        return await replayed(store, clock, await replay_columns(batches, processor, clock, batch_size=batch_size))

    assert asyncio.run(by_columns()) == asyncio.run(by_json())


@dataclass(frozen=True)
class Replayed:
    """All that a replay leaves; values: customer -> encoded state, version, space, embedding."""

    values: dict[str, tuple[bytes, int, str | None, bytes]]
    outcomes: dict[Outcome, int]
    now: datetime


async def replayed(store: MemoryStore, clock: ManualClock, outcomes: Counter[Outcome]) -> Replayed:
    found = await store.load(await store.customer_ids(100))
    values = {
        f.state.customer_id: (encode_state(f.state), f.version, f.space, f.embedding.tobytes())
        for f in found
        if f is not None and f.embedding is not None
    }
    assert len(values) == len(found)
    return Replayed(values, dict(outcomes), clock.now())


class TallyEncoder:
    """Encodes a state as its number of events and the sum of its quantities."""

    space = "tally"

    def encode(self, states: Sequence[CustomerState]) -> npt.NDArray[np.float32]:
        return np.array([[len(s), float(s.quantities.sum())] for s in states], np.float32)


WRONG = {
    "type": "return",
    "price": -1.0,
    "quantity": 0,
    "event_id": "",
    "customer_id": "c" * 129,
    "article_id": "",
    "occurred_at": datetime(1969, 12, 31, tzinfo=UTC),
}


@pytest.mark.parametrize("column", WRONG)
async def test_what_the_topic_would_refuse_is_refused_of_columns_too(column: str) -> None:
    right = Event(event_id="1", type="view", occurred_at=START, customer_id="anna", article_id="hat")
    wrong = {**msgspec.structs.asdict(right), "event_id": "2", column: WRONG[column]}
    table = pa.Table.from_pylist([*columns([right]).to_pylist(), wrong], columns([]).schema)
    store, clock = MemoryStore(), ManualClock(START)
    outcomes = await replay_columns(table.to_batches(), Processor(store, clock), clock)
    assert outcomes == {Outcome.APPLIED: 1, Outcome.REJECTED: 1}
    assert await store.customer_ids(10) == ["anna"]


async def test_columns_ahead_of_the_clock_are_refused() -> None:
    table = columns(
        [
            Event(event_id=str(n), type="view", occurred_at=START + ahead, customer_id="anna", article_id="hat")
            for n, ahead in enumerate((timedelta(days=1), timedelta(days=1, microseconds=1)))
        ]
    )
    outcomes = await Processor(MemoryStore(), ManualClock(START)).process_columns(table)
    assert outcomes == {Outcome.APPLIED: 1, Outcome.REJECTED: 1}


@pytest.mark.parametrize("price", [float("nan"), None])
async def test_a_price_that_is_no_number_is_unknown(price: float | None) -> None:
    table = columns([Event(event_id="1", type="view", occurred_at=START, customer_id="anna", article_id="hat")])
    table = table.set_column(5, "price", pa.array([price], pa.float64()))
    store = MemoryStore()
    outcomes = await Processor(store, ManualClock(START)).process_columns(table)
    (found,) = await store.load(["anna"])
    assert outcomes == {Outcome.APPLIED: 1}
    assert found is not None
    assert np.isnan(found.state.prices).all()


async def test_replay_of_columns_moves_the_clock_to_the_newest_event() -> None:
    clock = ManualClock(START)
    events = [
        Event(
            event_id=str(day),
            type="purchase",
            occurred_at=START + timedelta(days=day),
            customer_id="anna",
            article_id="hat",
        )
        for day in (400, 800, 100)
    ]
    outcomes = await replay_columns(columns(events).to_batches(), Processor(MemoryStore(), clock), clock, batch_size=1)
    assert outcomes == {Outcome.APPLIED: 3}
    assert clock.now() == START + timedelta(days=800)
    assert await replay_columns([], Processor(MemoryStore(), clock), clock) == {}


async def test_replay_moves_the_clock_to_the_newest_event() -> None:
    clock = ManualClock(START)
    events = [
        Event(
            event_id=str(day),
            type="purchase",
            occurred_at=START + timedelta(days=day),
            customer_id="anna",
            article_id="hat",
        )
        for day in (400, 800, 100)
    ]
    outcomes = await replay(events, Processor(MemoryStore(), clock), clock, batch_size=1)
    assert outcomes == {Outcome.APPLIED: 3}  # none is "from the future": the clock went along
    assert clock.now() == START + timedelta(days=800)


def test_no_events_give_no_states() -> None:
    assert replay_states([]) == {}
    assert replay_states([columns([])]) == {}


@pytest.mark.parametrize("column", ["event_id", "occurred_at", "quantity"])
def test_missing_column_and_null_are_named(column: str) -> None:
    table = columns([Event(event_id="1", type="view", occurred_at=START, customer_id="anna", article_id="hat")])
    with pytest.raises(DataError, match=f"column {column}: missing"):
        replay_states([table.drop_columns([column])])
    place = table.schema.get_field_index(column)
    empty = table.set_column(place, column, pa.nulls(1, table.schema.field(column).type))
    with pytest.raises(DataError, match=f"column {column}: holds a null"):
        replay_states([empty])


def test_unknown_type_is_named() -> None:
    table = columns([Event(event_id="1", type="return", occurred_at=START, customer_id="anna", article_id="hat")])
    with pytest.raises(DataError, match="type 'return'; allowed: purchase, view, cart"):
        replay_states([table])
