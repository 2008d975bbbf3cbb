"""What training saw of a customer is what serving sees: the same states, and from them the same features."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.clock import ManualClock
from offline.examples import build_examples
from offline.histories import load_histories
from serving.messages import RecommendationRequest
from serving.pipeline import Pipeline
from serving.retrieval.candidates import Floats
from streams.events import EVENT_TYPES, Event, encode_event, to_micros
from streams.histories import Histories, build_histories
from streams.processor import Processor, RawMessage
from streams.state import BOUNDS, Bounds, Outcome, empty_state, fold
from streams.state_format import encode_state
from streams.store import MemoryStore
from tests.support.tiny_fixture import Tiny

START = datetime(2020, 6, 1, tzinfo=UTC)

# An id fixes its event, as it does for real producers; few minutes, so that many events share a time.
any_event = st.builds(
    lambda n, kind, minute, price, quantity, customer: Event(
        event_id=f"{customer}-{n}-{kind}-{minute}-{price}-{quantity}",
        type=kind,
        occurred_at=START + timedelta(minutes=minute, microseconds=n),
        customer_id=customer,
        article_id=f"a{n % 3}",
        price=price,
        quantity=quantity,
    ),
    st.integers(0, 9),
    st.sampled_from(EVENT_TYPES),
    st.integers(0, 5),
    st.none() | st.floats(0, 1e6),
    st.integers(1, 65_535),
    st.sampled_from(["anna", "ben", "zoë"]),
)


def table(events: list[Event]) -> pa.Table:
    """The columns of the event log."""
    return pa.table(
        {
            "event_id": pa.array([e.event_id for e in events], pa.string()),
            "type": pa.array([e.type for e in events], pa.string()),
            "occurred_at": pa.array([e.occurred_at for e in events], pa.timestamp("us", "UTC")),
            "customer_id": pa.array([e.customer_id for e in events], pa.string()),
            "article_id": pa.array([e.article_id for e in events], pa.string()),
            "price": pa.array([e.price for e in events], pa.float64()),
            "quantity": pa.array([e.quantity for e in events], pa.int32()),
        }
    )


@pytest.mark.parametrize("bounds", [Bounds(3, 40), BOUNDS], ids=["small window", "window"])
@given(events=st.lists(any_event, max_size=30), minute=st.none() | st.integers(0, 6), data=st.data())
def test_states_of_training_are_folded_states(
    bounds: Bounds, events: list[Event], minute: int | None, data: st.DataObject
) -> None:
    until = None if minute is None else START + timedelta(minutes=minute, microseconds=4)
    arrived = data.draw(st.permutations(events))
    histories = build_histories([table(events[:11]), table(events[11:])])
    for customer in ("anna", "ben", "zoë"):
        live = empty_state(customer)
        for event in arrived:
            if event.customer_id == customer and (until is None or event.occurred_at < until):
                live, _ = fold(live, [event], bounds)
        state = histories.state(customer, None if until is None else to_micros(until), bounds)
        assert (state is None) == (len(live) == 0)
        if state is not None:
            assert encode_state(state) == encode_state(live)


class RecordingRanker:
    """Keeps the features it is asked to score."""

    def __init__(self, ranker: Any) -> None:
        self._ranker = ranker
        self.seen: list[Floats] = []

    def score(self, features: Floats) -> Floats:
        self.seen.append(features)
        scores: Floats = self._ranker.score(features)
        return scores


class Silent:
    def advance(self, n: int, note: str = "") -> None: ...


async def live_store(tiny: Tiny, until: datetime | None) -> MemoryStore:
    """Play the log through the worker's own processor, newest first, with the bundle's encoder."""
    rows = tiny.log.read(until=until).select(table([]).column_names).to_pylist()
    messages = [
        RawMessage("transactions", 0, n, row["customer_id"].encode(), encode_event(Event(**row)))
        for n, row in enumerate(reversed(rows))
    ]
    store = MemoryStore()
    end = tiny.log.span[1] + timedelta(days=1)
    processor = Processor(store, ManualClock(end), tiny.runtime.encoder)
    for first in range(0, len(messages), 50):
        outcomes = await processor.process(messages[first : first + 50])
        assert {o.outcome for o in outcomes} == {Outcome.APPLIED}
    return store


async def test_features_of_examples_are_features_of_requests(tiny: Tiny) -> None:
    """The log goes through the worker event by event; then every customer asks at the very moment of the cut."""
    cut = tiny.runtime.manifest.trained_through
    everything = load_histories(tiny.log)
    horizon = to_micros(cut + timedelta(days=7)) - to_micros(cut)
    examples = build_examples(everything, tiny.runtime.catalog, to_micros(cut), horizon, Silent(), limit=1_000, seed=1)
    customers = buyers(everything, to_micros(cut), to_micros(cut) + horizon)
    assert len(customers) > 10
    assert int(examples.group.max()) + 1 == len(customers)

    for until in (cut, None):  # None: the store already knows the future, and its vectors have seen it
        store = await live_store(tiny, until)
        recorder: Any = RecordingRanker(tiny.runtime.ranker)
        pipeline = Pipeline(replace(tiny.runtime, ranker=recorder), ManualClock(cut))
        requests = [RecommendationRequest(request_id=c, customer_id=c) for c in customers]
        answers = pipeline.recommend(requests, await store.load(customers))
        assert all(answer.error is None and not answer.degraded for answer in answers)
        assert len(recorder.seen) == len(customers)
        for group, seen in enumerate(recorder.seen):
            trained = examples.features[examples.group == group]
            assert seen.shape == trained.shape
            np.testing.assert_allclose(seen, trained, atol=1e-6)


def buyers(histories: Histories, start: int, end: int) -> list[str]:
    """Customers with a purchase in [start, end) and a past before it, in order."""
    found = []
    for customer in histories.customers:
        state = histories.state(customer)
        if state is not None and state.occurred_at[0] < start and any(start <= t < end for t in state.occurred_at):
            found.append(customer)
    return found
