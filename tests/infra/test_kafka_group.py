"""Members of a group on a real broker: who is asked what, who reads on meanwhile, and what happens to sleepers."""

from __future__ import annotations

import asyncio
import math
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.consumer.subscription_state import SubscriptionState
from aiokafka.partitioner import DefaultPartitioner
from aiokafka.structs import TopicPartition

from infra.errors import BrokerUnavailable, ConfigurationError
from infra.kafka import Producer, TopicSpec, ensure_topics
from infra.kafka_group import GroupConsumer
from infra.kafka_membership import Membership
from infra.kafka_probe import GroupOffsets
from infra.kafka_security import bootstrap_servers
from infra.settings import KafkaSettings
from tests.support.consumers import Indifferent, Member, read

broker = pytest.mark.broker

PARTITIONS = 6
SESSION_S = 6.0  # the shortest that Apache Kafka's defaults allow


@pytest.fixture
def settings(kafka_url: str) -> KafkaSettings:
    return KafkaSettings(url=kafka_url, session_timeout_ms=int(SESSION_S * 1_000))


@pytest.fixture
async def topic(settings: KafkaSettings) -> str:
    name = f"test-{uuid.uuid4().hex[:8]}"
    await ensure_topics(settings, [TopicSpec(name, PARTITIONS)])
    return name


@pytest.fixture
def group() -> str:
    return f"g-{uuid.uuid4().hex[:8]}"


async def eventually(true: Callable[[], bool], *, seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"not so within {seconds:g} s"
        await asyncio.sleep(0.01)


def partition_of(key: bytes) -> int:
    return int(DefaultPartitioner()(key, list(range(PARTITIONS)), list(range(PARTITIONS))))


class Traffic:
    """A message every few milliseconds, with keys that reach all partitions; each value once.

    sent: value -> when.
    """

    def __init__(self, settings: KafkaSettings, topic: str) -> None:
        self._producer = Producer(settings)
        self._topic = topic
        self.sent: dict[bytes, float] = {}

    async def __aenter__(self) -> Traffic:
        await self._producer.start()
        self._task = asyncio.create_task(self._send())
        return self

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])

    async def __aexit__(self, *_: object) -> None:
        await self.stop()
        await self._producer.stop()

    async def _send(self) -> None:
        while True:
            value = b"%d" % len(self.sent)
            self.sent[value] = time.monotonic()
            await self._producer.send(self._topic, value, value)
            await asyncio.sleep(0.005)


class Sleeper:
    """A member on an event loop of its own, which runs only when told: asleep it does not even heartbeat."""

    def __init__(self, settings: KafkaSettings, topic: str, group: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._make = lambda: Member(settings, topic, group)
        self.member: Member | None = None

    def wake(self, true: Callable[[Member], bool]) -> None:
        """Run until it is true of the member, then sleep again."""

        async def run() -> None:
            if self.member is None:
                self.member = self._make()
                await self.member.start()
            member = self.member
            await eventually(lambda: true(member))

        self._run(run())

    def end(self) -> None:
        async def run() -> None:
            assert self.member is not None
            await self.member.stop()

        self._run(run())
        self._loop.close()

    def _run(self, coroutine: object) -> None:
        failed: list[BaseException] = []

        def body() -> None:
            try:
                self._loop.run_until_complete(coroutine)  # type: ignore[arg-type]
            except BaseException as error:  # told to the test's own thread
                failed.append(error)

        thread = threading.Thread(target=body)
        thread.start()
        thread.join()
        if failed:
            raise failed[0]


async def test_broker_that_is_away_is_unavailable() -> None:
    nobody = KafkaSettings(url="kafka://127.0.0.1:1", request_timeout_ms=500, session_timeout_ms=500)
    with pytest.raises(BrokerUnavailable, match=r"127\.0\.0\.1:1"):
        await GroupConsumer(nobody, ["t"], "g", Indifferent(), batch_size=1).start()


@broker
async def test_a_group_of_another_kind_is_told_from_a_broker_that_is_away(
    settings: KafkaSettings, topic: str, group: str
) -> None:
    other = AIOKafkaConsumer(topic, bootstrap_servers=bootstrap_servers(settings.url), group_id=group)
    await other.start()
    try:
        with pytest.raises(ConfigurationError, match=f"{group}.*another protocol.*stop them all first"):
            await GroupConsumer(settings, [topic], group, Indifferent(), batch_size=1).start()
    finally:
        await other.stop()


@broker
async def test_group_goes_on_after_its_last_commit(settings: KafkaSettings, topic: str, group: str) -> None:
    async with Producer(settings) as producer:
        await producer.send_many((topic, b"anna", str(n).encode()) for n in range(10))
    async with GroupConsumer(settings, [topic], group, Indifferent(), batch_size=4) as consumer:
        first: dict[TopicPartition, int] = {}
        while not first:
            batch = await consumer.getmany(200)
            assert all(len(records) <= 4 for records in batch.values())
            first = {tp: records[-1].offset + 1 for tp, records in batch.items()}
        assert await consumer.commit(first)
        assert not await consumer.commit({TopicPartition(topic, 99): 1})  # not ours
    (taken,) = first.values()
    async with GroupConsumer(settings, [topic], group, Indifferent(), batch_size=100) as consumer:
        values = await read(consumer, 10 - taken)
    assert values == [str(n).encode() for n in range(taken, 10)]


@broker
async def test_each_is_told_what_moves_and_nothing_else(settings: KafkaSettings, topic: str, group: str) -> None:
    async with Member(settings, topic, group) as first:
        assert first.assigned == [first.consumer.assignment]
        assert len(first.consumer.assignment) == PARTITIONS
        async with Member(settings, topic, group) as second:
            await eventually(lambda: len(second.consumer.assignment) == PARTITIONS // 2)
            assert first.revoked == [second.consumer.assignment]
            assert first.consumer.assignment.isdisjoint(second.consumer.assignment)
            theirs = second.consumer.assignment
        await eventually(lambda: len(first.consumer.assignment) == PARTITIONS)
        assert first.assigned[1:] == [theirs]
        assert first.lost == second.lost == second.revoked == []


@broker
async def test_one_more_member_is_two_rebalances_and_one_less_is_one(
    settings: KafkaSettings, topic: str, group: str
) -> None:
    """One says what is asked back, the next that it is there: more would be a rebalance more for all each."""
    async with Member(settings, topic, group) as first:
        coordinator = first.consumer._membership._coordinator  # counts the group's rebalances
        before = coordinator.generation
        async with Member(settings, topic, group) as second:
            await eventually(lambda: len(second.consumer.assignment) == PARTITIONS // 2)
            await asyncio.sleep(1.0)
            assert coordinator.generation == before + 2
        await eventually(lambda: len(first.consumer.assignment) == PARTITIONS)
        await asyncio.sleep(1.0)
        assert coordinator.generation == before + 3


@broker
async def test_while_members_come_and_go_every_message_is_read_once(
    settings: KafkaSettings, topic: str, group: str
) -> None:
    members = [Member(settings, topic, group) for _ in range(4)]
    async with members[0], Traffic(settings, topic) as traffic:
        for member in members[1:]:
            async with member:
                await eventually(lambda new=member: bool(new.seen))  # type: ignore[misc]
        await traffic.stop()
        await eventually(lambda: sum(len(member.seen) for member in members) >= len(traffic.sent))
    counts = Counter(value for member in members for value in member.values)
    assert counts == dict.fromkeys(traffic.sent, 1)
    assert not any(member.lost for member in members)


@broker
async def test_who_keeps_its_partitions_reads_on_while_the_group_waits_for_a_sleeper(
    settings: KafkaSettings, topic: str, group: str
) -> None:
    """The broker lets nobody finish a join before the sleeper's session has ended; members of an eager group would
    read nothing for as long."""
    sleeper = Sleeper(settings, topic, group)
    async with Member(settings, topic, group) as first, Traffic(settings, topic) as traffic:
        await asyncio.to_thread(sleeper.wake, lambda member: bool(member.seen))
        await eventually(lambda: len(first.consumer.assignment) == PARTITIONS // 2)
        joining = asyncio.create_task(Member(settings, topic, group).consumer.start())
        started = time.monotonic()
        await asyncio.sleep(SESSION_S / 2)
        assert not joining.done()
        seen, now = dict(first.seen), time.monotonic()
        kept = {place.partition for place in first.consumer.assignment}
        theirs = [v for v, at in traffic.sent.items() if partition_of(v) in kept and started < at < now - 1.0]
        assert len(theirs) > 50
        assert max(seen.get(value, math.inf) - traffic.sent[value] for value in theirs) < 1.0
        joining.cancel()
        await asyncio.wait([joining])
    await asyncio.to_thread(sleeper.end)


@broker
async def test_a_sleeper_that_wakes_never_sets_its_successor_back(
    settings: KafkaSettings, topic: str, group: str
) -> None:
    sleeper = Sleeper(settings, topic, group)
    async with Member(settings, topic, group) as first, Traffic(settings, topic) as traffic:
        await asyncio.to_thread(sleeper.wake, lambda member: bool(member.seen))
        asleep = sleeper.member
        assert asleep is not None
        stale = asleep.consumer.assignment
        await eventually(lambda: len(first.consumer.assignment) == PARTITIONS)
        await eventually(lambda: bool(first.seen) and first.values[-1] == b"%d" % (len(traffic.sent) - 1))
        await traffic.stop()
        assert await first.commit(first.consumer.assignment)
        async with GroupOffsets(settings, group) as offsets:
            before = await offsets.committed(stale)
            await asyncio.to_thread(sleeper.wake, lambda member: bool(member.lost))
            assert asleep.lost[0] <= stale
            await asyncio.to_thread(sleeper.end)
            after = await offsets.committed(stale)
        assert {place: at for place, at in before.items() if after[place] < at} == {}


@broker
async def test_a_sleeper_begins_anew_also_with_what_nobody_else_took(
    settings: KafkaSettings, topic: str, group: str
) -> None:
    """Somebody might have, and gone again."""
    sleeper = Sleeper(settings, topic, group)
    await asyncio.to_thread(sleeper.wake, lambda member: len(member.consumer.assignment) == PARTITIONS)
    await asyncio.sleep(SESSION_S * 1.2)
    await asyncio.to_thread(sleeper.wake, lambda member: len(member.assigned) == 2)
    member = sleeper.member
    assert member is not None
    assert member.lost == member.assigned[1:] == member.assigned[:1]
    await asyncio.to_thread(sleeper.end)


async def test_who_hears_nothing_of_the_group_for_long_counts_its_partitions_as_lost() -> None:
    changes: list[int] = []
    brief = KafkaSettings(url="kafka://127.0.0.1:1", session_timeout_ms=20)
    membership = Membership(brief, ["t"], "g", lambda: changes.append(len(membership.held)))
    membership._assignor.held = {TopicPartition("t", 0): 1}
    await membership.on_partitions_revoked(())
    assert membership.held  # not yet
    await eventually(lambda: changes == [0], seconds=2)


async def test_a_commit_without_an_answer_ends_with_the_session() -> None:
    """aiokafka would try for ever, and whoever waits for the commit with it."""

    class Silent:
        async def commit_offsets(self, *_: object) -> None:
            await asyncio.sleep(60)

    place = TopicPartition("t", 0)
    brief = KafkaSettings(url="kafka://127.0.0.1:1", session_timeout_ms=50)
    membership = Membership(brief, ["t"], "g", lambda: None)
    membership._coordinator = Silent()
    membership._subscription = SubscriptionState()
    membership._subscription.subscribe({"t"})
    membership._assignor.held = {place: 1}
    membership._joined.set()
    async with asyncio.timeout(2):
        assert not await membership.commit({place: 5}, {place: 1}, 0.0)
        assert await membership.commit({}, {}, 60.0)
