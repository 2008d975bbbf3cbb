"""Topics, producer and batch consumer on a real broker; addresses and waiting times without one."""

from __future__ import annotations

import asyncio
import time
import uuid
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.structs import TopicPartition

from infra.embedded import tansu
from infra.errors import BrokerUnavailable, ConfigurationError
from infra.kafka import Producer, TopicSpec, backoff_s, ensure_topics, list_topics
from infra.kafka_consumer import BatchConsumer, ClosingConsumer, _assignor
from infra.kafka_probe import GroupOffsets
from infra.kafka_security import bootstrap_servers
from infra.settings import KafkaSettings
from tests.support.servers import running

broker = pytest.mark.broker


@pytest.fixture
def settings(kafka_url: str) -> KafkaSettings:
    return KafkaSettings(url=kafka_url, session_timeout_ms=6_000)


@pytest.fixture
async def topic(settings: KafkaSettings) -> str:
    name = f"test-{uuid.uuid4().hex[:8]}"
    await ensure_topics(settings, [TopicSpec(name, 2)])
    return name


async def read(consumer: BatchConsumer, count: int, *, seconds: float = 30.0) -> list[bytes]:
    """Values in order of partition and offset, once `count` are there."""
    found: list[tuple[int, int, bytes]] = []
    end = time.monotonic() + seconds
    while len(found) < count and time.monotonic() < end:
        for tp, records in (await consumer.getmany(100)).items():
            found += [(tp.partition, r.offset, r.value or b"") for r in records]
    return [value for _, _, value in sorted(found)]


def test_address_is_the_url_without_its_scheme() -> None:
    assert bootstrap_servers("kafka://a:9092,b:9093") == "a:9092,b:9093"


@pytest.mark.parametrize("url", ["embedded://", "kafka://", "redis://a:1"])
def test_url_without_a_server_says_what_to_write(url: str) -> None:
    with pytest.raises(ConfigurationError, match="kafka://host:port"):
        bootstrap_servers(url)


def test_waiting_doubles_up_to_its_limit_and_never_ends_at_once() -> None:
    for attempt, full in enumerate([0.1, 0.2, 0.4, 0.8, 1.0, 1.0]):
        for _ in range(20):
            assert full / 2 <= backoff_s(attempt, base_s=0.1, limit_s=1.0) <= full
    assert backoff_s(10_000) <= 5.0


def test_topic_settings_in_the_broker_s_words() -> None:
    assert TopicSpec("t", 1, compacted=True).configs == {"cleanup.policy": "compact"}
    assert TopicSpec("t", 1, retention_ms=5).configs == {"retention.ms": "5"}


async def test_broker_that_is_away_is_unavailable() -> None:
    nobody = KafkaSettings(url="kafka://127.0.0.1:1", request_timeout_ms=500, session_timeout_ms=500)
    with pytest.raises(BrokerUnavailable, match=r"127\.0\.0\.1:1"):
        await Producer(nobody).start()
    with pytest.raises(BrokerUnavailable, match=r"127\.0\.0\.1:1"):
        await ensure_topics(nobody, [TopicSpec("t", 1)])
    with pytest.raises(BrokerUnavailable, match=r"127\.0\.0\.1:1"):
        await BatchConsumer(nobody, ["t"], "g", batch_size=1).start()


def test_members_of_one_process_do_not_share_what_they_own() -> None:
    first, second = _assignor(), _assignor()
    first.on_assignment(ConsumerProtocolMemberAssignment(0, [("t", [0, 1])], b""))
    assert second.metadata({"t"}).user_data == b""
    assert first.metadata({"t"}).user_data != b""


@broker
async def test_topics_are_created_once(settings: KafkaSettings) -> None:
    spec = TopicSpec(f"test-{uuid.uuid4().hex[:8]}", 3)
    assert await ensure_topics(settings, [spec]) == [spec.name]
    assert await ensure_topics(settings, [spec]) == []
    assert (await list_topics(settings))[spec.name] == 3


async def test_a_consumer_closes_while_its_broker_is_away(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    server, spec = tansu(), TopicSpec("t", 1)
    kafka = KafkaSettings(url=server.url, request_timeout_ms=2_000)
    consumer = BatchConsumer(kafka, [spec.name], None, batch_size=1)
    with running(server, tmp_path / "broker.log"):
        await ensure_topics(kafka, [spec])
        await consumer.start()
        await consumer.getmany(100)
    async with asyncio.timeout(10):
        while "Failed fetch messages" not in caplog.text:
            await consumer.getmany(10)
    await consumer.stop()  # while the fetch waits to be tried again


async def test_a_consumer_told_to_hurry_is_cancelled_as_anything_else(monkeypatch: pytest.MonkeyPatch) -> None:
    consumer = ClosingConsumer()
    with monkeypatch.context() as patch, pytest.raises(TimeoutError):
        patch.setattr(AIOKafkaConsumer, "stop", lambda self: asyncio.sleep(60))
        async with asyncio.timeout(0.01):
            await consumer.stop()
    await consumer.stop()


@broker
async def test_one_key_keeps_its_order_and_nothing_is_lost(settings: KafkaSettings, topic: str) -> None:
    async with Producer(settings) as producer:
        sent = await producer.send_many((topic, b"anna", str(n).encode()) for n in range(500))
        await producer.send(topic, b"anna", b"last")
        await producer.ping()
    assert sent == 500
    async with BatchConsumer(settings, [topic], None, batch_size=100) as consumer:
        values = await read(consumer, 501)
    assert values == [str(n).encode() for n in range(500)] + [b"last"]


@broker
async def test_group_goes_on_after_its_last_commit(settings: KafkaSettings, topic: str) -> None:
    group = f"g-{uuid.uuid4().hex[:8]}"
    async with Producer(settings) as producer:
        await producer.send_many((topic, b"anna", str(n).encode()) for n in range(10))
    async with BatchConsumer(settings, [topic], group, batch_size=4) as consumer:
        first: dict[TopicPartition, int] = {}
        while not first:
            batch = await consumer.getmany(200)
            assert all(len(records) <= 4 for records in batch.values())
            first = {tp: records[-1].offset + 1 for tp, records in batch.items()}
        assert await consumer.commit(first)
        assert not await consumer.commit({TopicPartition(topic, 99): 1})  # not ours
    (taken,) = first.values()
    async with BatchConsumer(settings, [topic], group, batch_size=100) as consumer:
        values = await read(consumer, 10 - taken)
    assert values == [str(n).encode() for n in range(taken, 10)]


@broker
async def test_member_is_asked_before_its_partitions_are_shared(settings: KafkaSettings, topic: str) -> None:
    group = f"g-{uuid.uuid4().hex[:8]}"
    revoked: list[set[TopicPartition]] = []

    async def note(partitions: set[TopicPartition]) -> None:
        if partitions:
            revoked.append(partitions)

    both = {TopicPartition(topic, 0), TopicPartition(topic, 1)}
    async with BatchConsumer(settings, [topic], group, batch_size=10, on_revoked=note) as first:
        while first.assignment != both:
            await first.getmany(50)
        async with BatchConsumer(settings, [topic], group, batch_size=10) as second:
            async with asyncio.timeout(30):
                while len(first.assignment) != 1 or len(second.assignment) != 1:
                    await asyncio.gather(first.getmany(50), second.getmany(50))
        assert revoked == [both]
        assert first.assignment != second.assignment


@broker
async def test_one_more_member_is_one_rebalance(settings: KafkaSettings, topic: str) -> None:
    """Each join more is a rebalance more for all, and members whose joins cross may never come to rest."""
    group = f"g-{uuid.uuid4().hex[:8]}"
    async with BatchConsumer(settings, [topic], group, batch_size=10) as first:
        while not first.assignment:
            await first.getmany(50)
        before = first._consumer._coordinator.generation  # the group's rebalances so far
        async with BatchConsumer(settings, [topic], group, batch_size=10) as second:
            async with asyncio.timeout(30):
                while not second.assignment or len(first.assignment) != 1:
                    await asyncio.gather(first.getmany(50), second.getmany(50))
            assert second._consumer._coordinator.generation == before + 1


@broker
async def test_how_far_a_group_has_come_is_seen_from_outside_it(settings: KafkaSettings, topic: str) -> None:
    """Keys a and b share a partition or not, as the partitioner says; the ends count what each of them took."""
    group = f"group-{uuid.uuid4().hex[:8]}"
    async with Producer(settings) as producer:
        first = await producer.place_many((topic, b"a", b"%d" % n) for n in range(3))
        ((partition, end),) = first.items()
        assert (partition.topic, end) == (topic, 3)
        assert await producer.place_many([(topic, b"a", b"3")]) == {partition: 4}
        assert await producer.place_many([]) == {}
    async with GroupOffsets(settings, group) as offsets:
        assert await offsets.committed([partition]) == {partition: 0}
        async with BatchConsumer(settings, [topic], group, batch_size=10) as consumer:
            assert len(await read(consumer, 4)) == 4
            assert await offsets.committed([partition]) == {partition: 0}
            assert await consumer.commit({partition: 3})
        assert await offsets.committed([partition]) == {partition: 3}


async def test_a_broker_that_is_away_tells_nothing_of_a_group() -> None:
    nobody = KafkaSettings(url="kafka://127.0.0.1:1", request_timeout_ms=500, session_timeout_ms=500)
    with pytest.raises(BrokerUnavailable, match=r"127\.0\.0\.1:1"):
        async with GroupOffsets(nobody, "g"):
            pass
