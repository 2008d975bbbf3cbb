"""The standing feed without a broker: when a customer is due, what is told, what may be committed."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest
from aiokafka.structs import TopicPartition

from infra.clock import Clock, ManualClock
from infra.errors import BrokerUnavailable
from infra.settings import Settings
from serving.debounce import PATIENCE, Debounce
from serving.feed import Feed
from serving.responder import Responder
from streams.dead_letters import decode_dead_letter
from streams.subscriptions import CustomerUpdate, Subscription, encode_update
from tests.serving.toy_shop import NOON, CountingStore, ToyLink, ToySource, buy

HALF = timedelta(milliseconds=500)
ZERO = TopicPartition("customer-updates", 0)


def update(customer: str, n: int) -> CustomerUpdate:
    return CustomerUpdate(customer_id=customer, event=f"transactions-0-{n}")


def test_many_events_are_one_answer_after_the_last() -> None:
    waits: Debounce[int] = Debounce()
    for n in range(4):
        waits.add(update("anna", n), NOON + n * HALF / 2, HALF, 0, n)
    last = NOON + 3 * HALF / 2
    assert waits.take(last + HALF - timedelta(microseconds=1), 10) == []
    assert waits.next_due() == last + HALF
    assert waits.take(last + HALF, 10) == [update("anna", 3)]
    waits.answered([update("anna", 3)])
    assert waits.next_due() is None


def test_who_never_rests_is_answered_all_the_same() -> None:
    waits: Debounce[int] = Debounce()
    for n in range(100):
        waits.add(update("anna", n), NOON + n * HALF / 2, HALF, 0, n)
    assert waits.next_due() == NOON + PATIENCE * HALF


def test_who_acts_while_being_answered_waits_on() -> None:
    waits: Debounce[int] = Debounce()
    waits.add(update("anna", 0), NOON, HALF, 0, 0)
    taken = waits.take(NOON + HALF, 10)
    waits.add(update("anna", 1), NOON + HALF, HALF, 0, 1)
    waits.answered(taken)
    assert waits.take(NOON + 2 * HALF, 10) == [update("anna", 1)]


def test_only_what_was_answered_is_committed() -> None:
    waits: Debounce[int] = Debounce()
    waits.read(0, 4)
    waits.add(update("anna", 5), NOON, HALF, 0, 5)
    waits.add(update("bert", 6), NOON, 2 * HALF, 0, 6)
    waits.add(update("carl", 1), NOON, HALF, 1, 1)
    waits.read(0, 7)
    assert waits.committable() == {0: 5, 1: 1}
    waits.answered([update("anna", 5), update("carl", 1)])
    assert waits.committable() == {0: 6, 1: 2}
    waits.answered([update("bert", 6)])
    assert waits.committable() == {0: 8, 1: 2}


def test_a_partition_that_went_elsewhere_takes_its_customers_along() -> None:
    waits: Debounce[int] = Debounce()
    waits.add(update("anna", 5), NOON, HALF, 0, 5)
    waits.add(update("carl", 1), NOON, HALF, 1, 1)
    waits.drop({0})
    assert waits.take(NOON + HALF, 10) == [update("carl", 1)]
    assert waits.committable() == {1: 1}


class Subscribed:
    def __init__(self, **given: Subscription) -> None:
        self.given = given

    async def start(self) -> None:
        """Knows all from the beginning."""

    async def stop(self) -> None:
        """Has nothing to let go of."""

    def of(self, customer_id: str, now: datetime) -> Subscription | None:
        return self.given.get(customer_id)


class Shop:
    """A feed over the toy shop, whose customers anna and bert are subscribed."""

    def __init__(self, settings: Settings | None = None, wall: Clock | None = None) -> None:
        self.source, self.store, self.link = ToySource(), CountingStore(), ToyLink()
        self.clock = ManualClock(NOON)
        responder = Responder(self.source, self.store, self.link, self.clock, deadline_ms=60_000)
        given: Any = Subscribed(
            anna=Subscription(customer_id="anna", k=2), bert=Subscription(customer_id="bert", debounce_ms=0)
        )
        self.subscribed = given
        self.feed = Feed(settings or Settings(), responder, given, self.clock, wall=wall or self.clock)
        self._offset = 0

    def hear(self, customer: str) -> None:
        self.read(encode_update(update(customer, self._offset)))

    def read(self, value: bytes) -> None:
        record: Any = type("Record", (), {})()
        record.offset, record.key, record.value, record.headers = self._offset, b"k", value, ()
        self._offset += 1
        self.feed.note(ZERO, record)

    async def turn(self) -> list[Any]:
        """What is due now is answered; returns what the topic has got by it."""
        before = len(self.link.on("recommendations"))
        due = self.feed._debounce.take(self.clock.now(), 10)
        if due:
            await self.feed.answer(due)
        return self.link.on("recommendations")[before:]


async def test_a_subscribed_customer_is_told_once_of_a_burst() -> None:
    shop = Shop()
    await buy(shop.store, "anna", "milk")
    for _ in range(3):
        shop.hear("anna")
        shop.hear("stranger")
        shop.clock.advance(HALF / 2)
    assert await shop.turn() == []
    shop.clock.advance(HALF / 2)
    (told,) = await shop.turn()
    assert (told["trigger"], told["customer_id"], told["request_id"]) == ("feed", "anna", "feed-transactions-0-4")
    assert [item["article_id"] for item in told["items"]] == ["milk", "tea"]
    assert msgspec.json.decode(shop.link.sent[0][2])["request_id"] == told["request_id"]
    assert shop.link.sent[0][1] == b"anna"
    assert [i["request_id"] for i in shop.link.on("impressions")] == ["feed-transactions-0-4"]
    assert await shop.turn() == []
    assert shop.feed._debounce.committable() == {ZERO: 6}


async def test_who_unsubscribes_while_waiting_gets_nothing() -> None:
    shop = Shop()
    shop.hear("anna")
    del shop.subscribed.given["anna"]
    shop.clock.advance(HALF)
    assert await shop.turn() == []
    assert shop.feed._debounce.committable() == {ZERO: 1}


@pytest.mark.parametrize("missing", ["store", "bundle"])
async def test_a_feed_waits_for_what_makes_it_true(missing: str) -> None:
    shop = Shop()
    shop.store.away, shop.source.gone = missing == "store", missing == "bundle"
    shop.hear("bert")
    assert await shop.turn() == []
    assert shop.feed._debounce.committable() == {ZERO: 0}
    shop.store.away = shop.source.gone = False
    assert await shop.turn() == []
    shop.clock.advance(timedelta(seconds=1))
    assert [told["customer_id"] for told in await shop.turn()] == ["bert"]


async def test_a_broker_that_is_away_loses_no_update() -> None:
    shop = Shop()
    shop.hear("bert")
    shop.link.away = True
    with pytest.raises(BrokerUnavailable):
        await shop.turn()
    assert shop.feed._debounce.committable() == {ZERO: 0}


class Committed:
    """A consumer that takes every commit."""

    def __init__(self) -> None:
        self.offsets: list[dict[TopicPartition, int]] = []

    async def commit(self, offsets: dict[TopicPartition, int], *, wait_s: float = 0.0) -> bool:
        assert wait_s > 0
        self.offsets.append(offsets)
        return True


class Reading(Committed):
    """A consumer that finds no more."""

    async def getmany(self, timeout_ms: int) -> dict[TopicPartition, list[Any]]:
        return {}

    async def commit(self, offsets: dict[TopicPartition, int], *, wait_s: float = 0.0) -> bool:
        return await super().commit(offsets, wait_s=1.0)


NEWER = b'{"schema_version":2,"who":"anna"}'


async def test_an_update_of_a_newer_major_is_a_dead_letter_before_it_is_committed() -> None:
    shop, consumer = Shop(), Reading()
    shop.read(NEWER)
    shop.link.away = True
    with pytest.raises(BrokerUnavailable):
        await shop.feed._turn(consumer)  # type: ignore[arg-type]
    assert consumer.offsets == []
    shop.link.away = False
    await shop.feed._turn(consumer)  # type: ignore[arg-type]
    (letter,) = [decode_dead_letter(value) for topic, _, value in shop.link.sent if topic == "dead-letters"]
    assert (letter.topic, letter.partition, letter.offset, letter.raw_bytes) == ("customer-updates", 0, 0, NEWER)
    assert "schema_version 2 is newer than version 1" in letter.error
    assert consumer.offsets == [{ZERO: 1}]


async def test_what_is_refused_while_letters_are_on_their_way_is_a_letter_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A partition that goes sends its letters while those that stay are read."""
    shop, consumer = Shop(), Reading()
    shop.feed._consumer = consumer  # type: ignore[assignment]
    send = shop.link.send_many
    sent = 0

    async def slowly(messages: Any) -> int:
        nonlocal sent
        sent += 1
        if sent == 1:
            shop.read(NEWER)
        return await send(messages)

    monkeypatch.setattr(shop.link, "send_many", slowly)
    shop.read(NEWER)
    await shop.feed.on_revoked(frozenset({TopicPartition("customer-updates", 1)}))
    await shop.feed._turn(consumer)  # type: ignore[arg-type]
    letters = [decode_dead_letter(value) for topic, _, value in shop.link.sent if topic == "dead-letters"]
    assert [letter.offset for letter in letters] == [0, 1]
    assert consumer.offsets[-1] == {ZERO: 2}


async def test_a_partition_goes_with_its_dead_letters_sent() -> None:
    shop, consumer = Shop(), Committed()
    shop.feed._consumer = consumer  # type: ignore[assignment]
    shop.read(NEWER)
    await shop.feed.on_revoked(frozenset({ZERO}))
    assert [topic for topic, *_ in shop.link.sent] == ["dead-letters"]
    assert consumer.offsets == [{ZERO: 1}]


async def test_a_partition_goes_with_what_was_answered_committed_and_the_rest_for_its_next_owner() -> None:
    """The answer that is being given then is waited for: two owners would give it twice."""
    shop, consumer = Shop(), Committed()
    shop.feed._consumer = consumer  # type: ignore[assignment]
    shop.hear("bert")
    shop.hear("anna")
    async with shop.feed._answering:
        going = asyncio.create_task(shop.feed.on_revoked(frozenset({ZERO})))
        await asyncio.sleep(0.01)
        assert not going.done()
        assert len(await shop.turn()) == 1  # bert; anna still waits
    await going
    assert consumer.offsets == [{ZERO: 1}]
    shop.clock.advance(HALF)
    assert await shop.turn() == []
    assert shop.feed._debounce.committable() == {}
