"""The folding worker without Faust: what it encodes with, what it tells, what it refuses."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from infra.bundle import Bundle
from infra.clock import ManualClock
from infra.errors import BrokerUnavailable, BundleError, StoreUnavailable
from infra.registry import Registry
from infra.settings import RedisSettings, RegistrySettings, Settings
from streams.dead_letters import decode_dead_letter
from streams.events import Event, encode_event
from streams.processor import RawMessage
from streams.state import CustomerState
from streams.store import StateStore
from streams.subscriptions import Subscription, parse_update
from streams.worker import FoldWorker
from tests.support.toy_bundles import toy_bundle

HAT = encode_event(
    Event(
        event_id="1",
        type="purchase",
        occurred_at=datetime(2017, 3, 1, tzinfo=UTC),
        customer_id="anna",
        article_id="hat",
    )
)


class BundleEncoder:
    """Encodes every state as (1, 0) in the space named like its bundle."""

    def __init__(self, bundle: Bundle) -> None:
        if "broken" in bundle.file("words.txt").read_text():
            raise BundleError(f"bundle {bundle.bundle_id}: no query encoder in it")
        self.space = bundle.bundle_id

    def encode(self, states: Sequence[CustomerState]) -> npt.NDArray[np.float32]:
        return np.tile(np.array([1, 0], np.float32), (len(states), 1))


class Tray:
    """Stands in for the producer: keeps what is sent, or is away."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, bytes | None, bytes]] = []
        self.away = False

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def send_many(self, messages: Iterable[tuple[str, bytes | None, bytes]]) -> int:
        if self.away:
            raise BrokerUnavailable("the broker is away")
        self.messages += messages
        return len(self.messages)


class Subscribed:
    """Who is subscribed: nobody at first."""

    def __init__(self) -> None:
        self.customers: set[str] = set()

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    def __bool__(self) -> bool:
        return bool(self.customers)

    def of(self, customer_id: str, now: datetime) -> Subscription | None:
        return Subscription(customer_id=customer_id) if customer_id in self.customers else None


class Toy:
    """A worker on a memory store, a registry in a directory and a tray."""

    def __init__(self, worker: FoldWorker, registry: Registry, tray: Tray, directory: Path) -> None:
        self.worker = worker
        self.registry = registry
        self.tray = tray
        self._directory = directory

    def publish(self, words: str) -> str:
        directory = self._directory / f"made-{words}"
        toy_bundle(directory, words)
        bundle_id = self.registry.publish(directory)
        self.registry.activate("production", bundle_id)
        return bundle_id

    async def fold(self, *values: bytes) -> None:
        await self.worker([RawMessage("transactions", 0, i, b"k", value) for i, value in enumerate(values)])

    async def space_of(self, customer_id: str) -> str | None:
        store: StateStore | None = self.worker._store
        assert store is not None
        (found,) = await store.load([customer_id])
        assert found is not None
        return found.space


@pytest.fixture
def toy(tmp_path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> Toy:
    async def nothing_to_create(*_: object) -> list[str]:
        return []

    tray = Tray()
    monkeypatch.setattr("streams.worker.ensure_topics", nothing_to_create)
    monkeypatch.setattr("streams.worker.open_encoder", BundleEncoder)
    monkeypatch.setattr("streams.worker.Producer", lambda *_, **__: tray)
    monkeypatch.setattr("streams.worker.Subscriptions", lambda _: Subscribed())
    settings = Settings(
        redis=RedisSettings(url="memory://"), registry=RegistrySettings(url=f"file://{tmp_path}/registry")
    )
    return Toy(FoldWorker(settings, clock=clock), Registry(settings.registry.url), tray, tmp_path)


async def test_worker_without_a_bundle_says_so_and_folds(toy: Toy, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    await toy.worker.start()
    assert "no bundle on channel production yet" in caplog.text
    await toy.fold(HAT)
    assert await toy.space_of("anna") is None
    assert toy.worker.totals == {"applied": 1}
    await toy.worker.stop()


async def test_bundle_of_the_channel_encodes_and_the_next_one_takes_over(toy: Toy) -> None:
    first = toy.publish("red")
    await toy.worker.start()
    await toy.fold(HAT)
    assert await toy.space_of("anna") == first
    second = toy.publish("blue")
    await toy.fold(HAT)
    assert await toy.space_of("anna") == first  # nothing moves before the worker is told, or looks
    await toy.worker.reload(b'{"channel": "production"}')
    await toy.fold(HAT)
    assert await toy.space_of("anna") == second
    await toy.worker.stop()


async def test_refused_bundle_is_named_once_and_the_old_one_stays(toy: Toy, caplog: pytest.LogCaptureFixture) -> None:
    good = toy.publish("red")
    await toy.worker.start()
    bad = toy.publish("broken")
    await toy.worker.reload()
    await toy.worker.reload()
    (line,) = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]
    assert line.startswith(f"bundle {bad} refused, {good} stays in use: ")
    await toy.fold(HAT)
    assert await toy.space_of("anna") == good
    toy.registry.rollback("production")
    await toy.worker.reload()
    await toy.worker.stop()


async def test_worker_looks_for_a_new_bundle_by_itself(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toy.worker._follower, "_poll_s", 0.01)
    await toy.worker.start()
    first = toy.publish("red")
    for _ in range(200):
        await toy.fold(HAT)
        if await toy.space_of("anna") == first:
            break
        await asyncio.sleep(0.01)
    assert await toy.space_of("anna") == first
    await toy.worker.stop()


async def test_who_is_stored_is_encoded_anew_without_an_event(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.worker.SWEEP_DELAY_S", 0.0)
    toy.publish("red")
    await toy.worker.start()
    await toy.fold(HAT)
    second = toy.publish("blue")
    await toy.worker.reload()
    for _ in range(200):
        if await toy.space_of("anna") == second:
            break
        await asyncio.sleep(0.01)
    assert await toy.space_of("anna") == second
    await toy.worker.stop()


async def test_refused_message_goes_to_dead_letters_under_its_key(toy: Toy) -> None:
    await toy.worker.start()
    await toy.fold(HAT, b"not json")
    ((topic, key, value),) = toy.tray.messages
    letter = decode_dead_letter(value)
    assert (topic, key) == ("dead-letters", b"k")
    assert (letter.raw_bytes, letter.offset, letter.reason) == (b"not json", 1, "rejected")
    await toy.worker.stop()


async def test_batch_is_not_done_while_its_dead_letters_cannot_be_sent(toy: Toy) -> None:
    await toy.worker.start()
    toy.tray.away = True
    with pytest.raises(BrokerUnavailable):
        await toy.fold(HAT, b"not json")
    toy.tray.away = False
    await toy.fold(HAT, b"not json")  # the same batch again: the event counts once, the letter is sent
    assert toy.worker.totals == {"duplicate": 1, "rejected": 1}
    assert len(toy.tray.messages) == 1
    await toy.worker.stop()


async def test_articles_are_looked_through_and_those_nobody_can_use_told_of(toy: Toy) -> None:
    await toy.worker.start()
    good = RawMessage("articles", 0, 0, b"hat", b'{"article_id":"hat","price":9.5}')
    taken_back = RawMessage("articles", 0, 1, b"hat", None)
    bad = RawMessage("articles", 0, 2, b"cap", b'{"article_id":"hat"}')
    await toy.worker([good, RawMessage("transactions", 0, 0, b"anna", HAT), taken_back, bad])
    assert toy.worker.totals == {"applied": 1}
    ((topic, key, value),) = toy.tray.messages
    letter = decode_dead_letter(value)
    assert (topic, key, letter.topic, letter.offset) == ("dead-letters", b"cap", "articles", 2)
    assert "must be equal" in letter.error
    await toy.worker.stop()


async def test_a_batch_that_waits_for_the_store_tells_of_nothing_yet(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes again every few seconds until the store is back, and a letter each time would be many."""
    await toy.worker.start()
    batch = [RawMessage("subscriptions", 0, 0, b"anna", b"not json"), RawMessage("transactions", 0, 0, b"anna", HAT)]
    with monkeypatch.context() as away:

        async def load(_: object) -> None:
            raise StoreUnavailable("redis is away")

        away.setattr(toy.worker._store, "load", load)
        for _ in range(3):
            with pytest.raises(StoreUnavailable):
                await toy.worker(batch)
    assert toy.tray.messages == []
    await toy.worker(batch)
    assert [(topic, key) for topic, key, _ in toy.tray.messages] == [("dead-letters", b"anna")]
    await toy.worker.stop()


def purchase(number: int, customer: str) -> bytes:
    return HAT.replace(b'"1"', b'"%d"' % number).replace(b"anna", customer.encode())


async def test_one_word_a_subscribed_customer_after_the_save(toy: Toy) -> None:
    await toy.worker.start()
    await toy.fold(purchase(1, "anna"))
    assert not toy.tray.messages  # nobody is subscribed
    subscribed: Any = toy.worker._subscriptions
    subscribed.customers = {"anna", "carl"}
    await toy.fold(purchase(2, "anna"), purchase(3, "bert"), purchase(4, "anna"), purchase(5, "carl"), b"not json")
    told = [(key, parse_update(value)) for topic, key, value in toy.tray.messages if topic == "customer-updates"]
    assert [(key, update.customer_id, update.event) for key, update in told] == [
        (b"anna", "anna", "transactions-0-2"),
        (b"carl", "carl", "transactions-0-3"),
    ]
    # Given again after a crash, the same is told again.
    toy.tray.messages.clear()
    await toy.fold(purchase(2, "anna"), purchase(3, "bert"), purchase(4, "anna"))
    assert [parse_update(value).event for _, _, value in toy.tray.messages] == ["transactions-0-2"]
    await toy.worker.stop()


async def test_a_batch_is_not_done_while_nobody_could_be_told(toy: Toy) -> None:
    await toy.worker.start()
    subscribed: Any = toy.worker._subscriptions
    subscribed.customers = {"anna"}
    toy.tray.away = True
    with pytest.raises(BrokerUnavailable):
        await toy.fold(HAT)
    toy.tray.away = False
    await toy.fold(HAT)
    assert len(toy.tray.messages) == 1
    await toy.worker.stop()
