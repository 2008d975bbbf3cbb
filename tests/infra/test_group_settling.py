"""What a member of a group makes of the group's word, when the words come at awkward moments."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from typing import Any

import pytest
from aiokafka.structs import ConsumerRecord, TopicPartition

from infra.errors import BrokerUnavailable
from infra.kafka_assignor import NONE, Partitions
from infra.kafka_group import GroupConsumer
from infra.settings import KafkaSettings

P0, P1 = TopicPartition("t", 0), TopicPartition("t", 1)


class Broker:
    """Membership and reader of one consumer, as a script: `say` is the group's word, `told` what came of it in order.

    asked: awaited within every look for committed offsets, which begin at `begin`.
    """

    def __init__(self) -> None:
        self.held: dict[TopicPartition, int] = {}
        self.asked_back: Partitions = NONE
        self.begin = 100
        self.asked: Callable[[], Awaitable[None]] | None = None
        self.told: list[tuple[str, Any]] = []
        self.reading: dict[TopicPartition, int] = {}
        self.error: Exception | None = None
        self._changed: Callable[[], None] = lambda: None

    def say(self, held: Mapping[TopicPartition, int], asked_back: Iterable[TopicPartition] = ()) -> None:
        self.held, self.asked_back = dict(held), frozenset(asked_back)
        self._changed()

    def membership(self, *arguments: Any) -> Broker:
        self._changed = arguments[-1]
        return self

    def reader(self, *_: Any, **__: Any) -> Reader:
        return Reader(self)

    async def start(self) -> None:
        """Always there."""

    async def stop(self) -> None:
        """Nothing to close."""

    def check(self) -> None:
        if self.error is not None:
            raise self.error

    async def committed(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        wanted = list(partitions)
        if wanted and self.asked is not None:
            asked, self.asked = self.asked, None
            await asked()
        return dict.fromkeys(wanted, self.begin)

    def give_up(self, partitions: Iterable[TopicPartition]) -> None:
        for place in partitions:
            self.told.append(("given up", place))
            self.held.pop(place, None)
        self.asked_back = NONE

    def announce(self) -> None:
        """Heard at once."""

    async def on_assigned(self, partitions: Partitions) -> None:
        self.told.append(("assigned", set(partitions)))
        assert not partitions & self.reading.keys()

    async def on_revoked(self, partitions: Partitions) -> None:
        self.told.append(("revoked", set(partitions)))
        assert not partitions & self.reading.keys()
        assert partitions <= self.held.keys()

    async def on_lost(self, partitions: Partitions) -> None:
        self.told.append(("lost", set(partitions)))
        assert not partitions & self.reading.keys()


class Reader:
    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    @property
    def assignment(self) -> Partitions:
        return frozenset(self._broker.reading)

    def assign(self, positions: Mapping[TopicPartition, int]) -> None:
        self._broker.reading = dict(positions)

    async def start(self) -> None:
        """Always there."""

    async def stop(self) -> None:
        """Nothing to close."""

    async def getmany(self, _: int) -> dict[TopicPartition, list[ConsumerRecord]]:
        """The next message of every partition that is read."""
        return {
            place: [ConsumerRecord(*place, offset, 0, 0, None, b"", None, 0, 0, ())]
            for place, offset in self._broker.reading.items()
        }


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Broker:
    broker = Broker()
    monkeypatch.setattr("infra.kafka_group.Membership", broker.membership)
    monkeypatch.setattr("infra.kafka_group.BatchConsumer", broker.reader)
    return broker


@pytest.fixture
async def consumer(broker: Broker) -> AsyncIterator[GroupConsumer]:
    async with GroupConsumer(KafkaSettings(), ["t"], "g", broker, batch_size=1) as consumer:
        yield consumer


async def rest() -> None:
    await asyncio.sleep(0.02)


async def test_what_stays_is_read_on_from_where_it_is_and_what_is_new_from_its_commit(
    broker: Broker, consumer: GroupConsumer
) -> None:
    broker.say({P0: 1})
    await rest()
    await consumer.getmany()
    broker.say({P0: 1, P1: 2})
    await rest()
    assert broker.told == [("assigned", {P0}), ("assigned", {P1})]
    assert broker.reading == {P0: 101, P1: 100}


async def test_what_is_asked_back_is_finished_and_then_given_up(broker: Broker, consumer: GroupConsumer) -> None:
    broker.say({P0: 1, P1: 1})
    await rest()
    broker.say({P0: 1, P1: 1}, asked_back=[P1])
    await rest()
    assert broker.told[1:] == [("revoked", {P1}), ("given up", P1)]
    assert broker.reading.keys() == consumer.assignment == {P0}


async def test_what_is_asked_back_before_it_was_taken_over_is_given_up_at_once(
    broker: Broker, consumer: GroupConsumer
) -> None:
    async def asked() -> None:
        broker.say({P0: 1, P1: 1}, asked_back=[P1])

    broker.asked = asked
    broker.say({P0: 1, P1: 1})
    await rest()
    assert broker.told == [("assigned", {P0}), ("given up", P1)]
    assert consumer.assignment == {P0}


async def test_what_was_lost_and_is_back_before_anybody_looked_begins_anew(
    broker: Broker, consumer: GroupConsumer
) -> None:
    broker.say({P0: 1})
    await rest()
    await consumer.getmany()
    broker.say({})
    broker.begin = 500  # so far another has come meanwhile
    broker.say({P0: 2})
    await rest()
    assert broker.told == [("assigned", {P0}), ("lost", {P0}), ("assigned", {P0})]
    assert broker.reading == {P0: 500}


async def test_what_changes_hands_while_its_beginning_is_asked_for_is_asked_for_again(
    broker: Broker, consumer: GroupConsumer
) -> None:
    async def asked() -> None:
        broker.say({P0: 2})

    broker.asked = asked
    broker.say({P0: 1})
    await rest()
    assert broker.told == [("assigned", {P0})]
    assert consumer._places[P0].taken == 2


async def test_a_look_that_fails_is_tried_again(broker: Broker, consumer: GroupConsumer) -> None:
    async def asked() -> None:
        raise BrokerUnavailable("away")

    broker.asked = asked
    broker.say({P0: 1})
    async with asyncio.timeout(5):
        while not consumer.assignment:
            await rest()
    assert broker.told == [("assigned", {P0})]


async def test_what_a_listener_raises_reaches_the_reader(
    broker: Broker, consumer: GroupConsumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(_: Partitions) -> None:
        raise RuntimeError("no room")

    monkeypatch.setattr(broker, "on_assigned", fails)
    broker.say({P0: 1})
    await rest()
    with pytest.raises(RuntimeError, match="no room"):
        await consumer.getmany()


async def test_what_is_wrong_with_the_membership_is_said_at_every_read(broker: Broker, consumer: GroupConsumer) -> None:
    broker.error = BrokerUnavailable("coordination has ended")
    for _ in range(2):
        with pytest.raises(BrokerUnavailable, match="coordination has ended"):
            await consumer.getmany()
