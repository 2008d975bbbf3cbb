"""A batch through the processor: outcomes, one value a customer, retries, embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt
import pytest

from infra.clock import ManualClock
from infra.errors import DataError, StoreConflict, StoreUnavailable
from streams.events import Event, encode_event
from streams.processor import Processor, RawMessage
from streams.state import CustomerState, Outcome
from streams.store import MemoryStore, StoredCustomer

NOON = datetime(2017, 3, 1, 12, tzinfo=UTC)


def event(event_id: str, customer_id: str = "anna", minute: int = 0, article_id: str = "hat") -> Event:
    return Event(
        event_id=event_id,
        type="purchase",
        occurred_at=NOON + timedelta(minutes=minute),
        customer_id=customer_id,
        article_id=article_id,
    )


def raw(*events: Event | bytes | None) -> list[RawMessage]:
    values = [encode_event(e) if isinstance(e, Event) else e for e in events]
    return [RawMessage("transactions", 0, i, b"key", value) for i, value in enumerate(values)]


class CountingEncoder:
    """Encodes a state as (events, articles that are hats); knows how often it was asked."""

    def __init__(self, space: str) -> None:
        self.space = space
        self.asked = 0

    def encode(self, states: Sequence[CustomerState]) -> npt.NDArray[np.float32]:
        self.asked += len(states)
        return np.array([[len(s), s.article_ids.count("hat")] for s in states], np.float32)


class FlakyStore(MemoryStore):
    """Is away for the first `away` calls of load."""

    def __init__(self, away: int) -> None:
        super().__init__()
        self.away = away

    async def load(self, customer_ids: Sequence[str]) -> list[StoredCustomer | None]:
        if self.away:
            self.away -= 1
            raise StoreUnavailable("the store is away")
        return await super().load(customer_ids)


class RacingStore(MemoryStore):
    """Before each of the first `races` saves another writer adds an event of its own."""

    def __init__(self, clock: ManualClock, races: int) -> None:
        super().__init__()
        self._clock = clock
        self._races = races

    async def save(self, updates: Sequence[StoredCustomer]) -> list[bool]:
        if self._races:
            self._races -= 1
            rival = MemoryStore()
            rival._values = self._values
            await Processor(rival, self._clock).process(raw(event(f"rival-{self._races}", article_id="bag")))
        return await super().save(updates)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.processor.backoff_s", lambda attempt: 0.0)


async def test_outcomes_stand_in_the_order_of_the_messages(clock: ManualClock) -> None:
    store = MemoryStore()
    results = await Processor(store, clock).process(
        raw(event("1"), b"not json", event("2", "bo"), event("1"), None, event("3", minute=5))
    )
    assert [r.outcome.value for r in results] == [
        "applied",
        "rejected",
        "applied",
        "duplicate",
        "rejected",
        "applied",
    ]
    assert [r.customer_id for r in results] == ["anna", None, "bo", "anna", None, "anna"]
    anna, bo = await store.load(["anna", "bo"])
    assert anna is not None and bo is not None
    assert (len(anna.state), len(bo.state)) == (2, 1)
    assert anna.version == 1  # one write a customer and batch


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"", "not an event"),
        (b"{}", "event_id"),
        (b"\xff\xfe", "not an event"),
        (encode_event(event("1")).replace(b"purchase", b"return"), "type 'return'; allowed: purchase"),
        (encode_event(event("1")).replace(b"2017", b"1917"), "before 1970"),
        (encode_event(event("1")).replace(b"2017", b"2027"), "is after 2018-01-02"),
        (b" " * 20_000, "event of 20000 bytes"),
    ],
)
async def test_bad_message_is_rejected_with_a_reason(clock: ManualClock, value: bytes, reason: str) -> None:
    (result,) = await Processor(MemoryStore(), clock).process(raw(value))
    assert result.outcome is Outcome.REJECTED
    assert reason in (result.reason or "")


async def test_same_batch_again_writes_nothing(clock: ManualClock) -> None:
    store = MemoryStore()
    processor = Processor(store, clock)
    await processor.process(raw(event("1"), event("2")))
    results = await processor.process(raw(event("1"), event("2")))
    assert {r.outcome for r in results} == {Outcome.DUPLICATE}
    (anna,) = await store.load(["anna"])
    assert anna is not None and anna.version == 1


async def test_store_that_comes_back_gets_the_batch(clock: ManualClock) -> None:
    store = FlakyStore(away=3)
    (result,) = await Processor(store, clock).process(raw(event("1")))
    assert result.outcome is Outcome.APPLIED
    assert len(await store.customer_ids(10)) == 1


async def test_store_that_stays_away_is_raised(clock: ManualClock) -> None:
    store = FlakyStore(away=100)
    with pytest.raises(StoreUnavailable, match="away"):
        await Processor(store, clock, attempts=3).process(raw(event("1")))
    assert store.away == 97


async def test_lost_race_is_folded_again_onto_the_winner(clock: ManualClock) -> None:
    store = RacingStore(clock, races=2)
    (result,) = await Processor(store, clock).process(raw(event("mine", minute=9)))
    assert result.outcome is Outcome.APPLIED
    (anna,) = await store.load(["anna"])
    assert anna is not None
    assert anna.state.article_ids == ("bag", "bag", "hat")  # both rivals' events, and ours


async def test_race_without_end_is_a_conflict(clock: ManualClock) -> None:
    with pytest.raises(StoreConflict, match="1 customers"):
        await Processor(RacingStore(clock, races=99), clock, attempts=3).process(raw(event("mine")))


async def test_unreadable_value_rejects_only_its_customer(clock: ManualClock) -> None:
    class HalfBroken(MemoryStore):
        async def load(self, customer_ids: Sequence[str]) -> list[StoredCustomer | None]:
            if "anna" in customer_ids:
                raise DataError("stored state of customer 'anna': not a customer state")
            return await super().load(customer_ids)

    store = HalfBroken()
    results = await Processor(store, clock).process(raw(event("1", "anna"), event("2", "bo")))
    assert [r.outcome.value for r in results] == ["rejected", "applied"]
    assert "'anna'" in (results[0].reason or "")
    assert (results[0].letter, results[1].letter) == ("state_unreadable", "rejected")
    assert await store.customer_ids(10) == ["bo"]  # and nothing was written over anna's value


async def test_one_unreadable_value_costs_a_few_round_trips_not_one_a_customer(clock: ManualClock) -> None:
    asked: list[int] = []

    class OneBroken(MemoryStore):
        async def load(self, customer_ids: Sequence[str]) -> list[StoredCustomer | None]:
            asked.append(len(customer_ids))
            if "c77" in customer_ids:
                raise DataError("stored state of customer 'c77': not a customer state")
            return await super().load(customer_ids)

    messages = raw(*(event(str(n), f"c{n}") for n in range(128)))
    results = await Processor(OneBroken(), clock).process(messages)
    assert [i for i, r in enumerate(results) if r.outcome is Outcome.REJECTED] == [77]
    assert len(asked) == 1 + 2 * 7


async def test_embedding_follows_the_state(clock: ManualClock) -> None:
    store = MemoryStore()
    processor = Processor(store, clock, CountingEncoder("a"))
    await processor.process(raw(event("1"), event("2", article_id="bag")))
    (anna,) = await store.load(["anna"])
    assert anna is not None and anna.embedding is not None
    assert (anna.space, anna.embedding.tolist()) == ("a", [2.0, 1.0])


async def test_new_encoder_moves_a_customer_at_the_next_event_even_a_repeated_one(clock: ManualClock) -> None:
    store = MemoryStore()
    first, second = CountingEncoder("a"), CountingEncoder("b")
    processor = Processor(store, clock, first)
    await processor.process(raw(event("1")))
    await processor.process(raw(event("1")))
    assert first.asked == 1  # nothing new, nothing encoded
    processor.encoder = second
    await processor.process(raw(event("1")))
    (anna,) = await store.load(["anna"])
    assert anna is not None
    assert (anna.space, anna.version, second.asked) == ("b", 2, 1)


async def test_state_changed_without_encoder_drops_the_stale_embedding(clock: ManualClock) -> None:
    store = MemoryStore()
    processor = Processor(store, clock, CountingEncoder("a"))
    await processor.process(raw(event("1")))
    processor.encoder = None
    await processor.process(raw(event("2")))
    (anna,) = await store.load(["anna"])
    assert anna is not None
    assert (anna.space, anna.embedding) == (None, None)
