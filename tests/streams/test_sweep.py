"""The sweep: everybody once, live events first, bounded, and again without doing it twice."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
import pytest

from infra.errors import StoreUnavailable
from streams.events import Event
from streams.state import CustomerState, empty_state, fold
from streams.store import MemoryStore, StoredCustomer
from streams.sweep import sweep


class Encoder:
    """Encodes every state as its number of events."""

    def __init__(self, space: str) -> None:
        self.space = space
        self.encoded: list[str] = []

    def encode(self, states: Sequence[CustomerState]) -> npt.NDArray[np.float32]:
        self.encoded += [state.customer_id for state in states]
        return np.array([[len(state)] for state in states], np.float32)


def state(number: int) -> CustomerState:
    customer = f"customer-{number:04d}"
    event = Event(
        event_id="1",
        type="purchase",
        occurred_at=datetime(2017, 3, 1, tzinfo=UTC),
        customer_id=customer,
        article_id="hat",
    )
    return fold(empty_state(customer), [event])[0]


async def filled(n: int, space: str | None = "old") -> MemoryStore:
    store = MemoryStore()
    await store.save([StoredCustomer(state(number), 0, space, np.zeros(1, np.float32)) for number in range(n)])
    return store


async def test_everybody_is_encoded_and_a_second_sweep_finds_nothing() -> None:
    store, encoder = await filled(450), Encoder("new")
    done = await sweep(store, encoder, per_second=1_000_000)
    assert (done.seen, done.encoded, done.overtaken) == (450, 450, 0)
    assert all(s is not None and s.space == "new" for s in await store.load([f"customer-{n:04d}" for n in range(450)]))
    again = await sweep(store, encoder, per_second=1_000_000)
    assert (again.seen, again.encoded) == (450, 0)
    assert len(encoder.encoded) == 450


async def test_a_live_event_wins_against_the_sweep() -> None:
    store = await filled(3)

    class Slow(Encoder):
        def encode(self, states: Sequence[CustomerState]) -> npt.NDArray[np.float32]:
            (live,) = asyncio.run(store.load(["customer-0001"]))
            assert live is not None
            asyncio.run(store.save([StoredCustomer(live.state, live.version, "live", np.ones(1, np.float32))]))
            return super().encode(states)

    done = await sweep(store, Slow("new"), per_second=1_000_000)
    assert (done.encoded, done.overtaken) == (2, 1)
    (live,) = await store.load(["customer-0001"])
    assert live is not None and live.space == "live"


async def test_it_is_bounded_and_lets_live_batches_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.sweep.CHUNK", 10)
    store = await filled(40)
    began = time.monotonic()
    await sweep(store, Encoder("new"), per_second=100)
    assert time.monotonic() - began >= 0.3
    idle, encoder = asyncio.Event(), Encoder("newer")
    task = asyncio.create_task(sweep(store, encoder, per_second=1_000_000, idle=idle))
    await asyncio.sleep(0.1)
    assert encoder.encoded == []
    idle.set()
    assert (await task).encoded == 40


async def test_it_works_for_a_third_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four chunks that take 20 ms each: 40 ms of rest after each."""
    monkeypatch.setattr("streams.sweep.CHUNK", 10)

    class Busy(Encoder):
        def encode(self, states: Sequence[CustomerState]) -> npt.NDArray[np.float32]:
            time.sleep(0.02)
            return super().encode(states)

    store = await filled(40)
    began = time.monotonic()
    assert (await sweep(store, Busy("new"), per_second=1_000_000)).encoded == 40
    assert time.monotonic() - began >= 4 * 0.06


async def test_it_leaves_the_processor_to_those_who_load_first() -> None:
    encoder = Encoder("new")
    task = asyncio.create_task(sweep(await filled(5), encoder, per_second=1_000_000, delay_s=0.2))
    await asyncio.sleep(0.05)
    assert encoder.encoded == []
    assert (await task).encoded == 5


async def test_a_store_that_is_away_is_waited_for() -> None:
    store = await filled(5)
    real, failures = store.load, 2

    async def load(ids: Sequence[str]) -> list[StoredCustomer | None]:
        nonlocal failures
        failures -= 1
        if failures >= 0:
            raise StoreUnavailable("gone")
        return await real(ids)

    store.load = load  # type: ignore[method-assign]
    assert (await sweep(store, Encoder("new"), per_second=1_000_000)).encoded == 5
