"""Topics, producer and batch consumer on a real broker; addresses and waiting times without one."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.conn import AIOKafkaConnection, create_conn
from aiokafka.structs import TopicPartition

from infra.embedded import tansu
from infra.errors import BrokerUnavailable, ConfigurationError
from infra.kafka import Producer, TopicSpec, backoff_s, ensure_topics, list_topics
from infra.kafka_consumer import BatchConsumer, ClosingConsumer
from infra.kafka_group import GroupConsumer
from infra.kafka_membership import Membership
from infra.kafka_probe import GroupOffsets, unread
from infra.kafka_security import bootstrap_servers
from infra.settings import KafkaSettings
from tests.support.consumers import Indifferent, read
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
        await BatchConsumer(nobody, ["t"], batch_size=1).start()


@broker
async def test_topics_are_created_once(settings: KafkaSettings) -> None:
    spec = TopicSpec(f"test-{uuid.uuid4().hex[:8]}", 3)
    assert await ensure_topics(settings, [spec]) == [spec.name]
    assert await ensure_topics(settings, [spec]) == []
    assert (await list_topics(settings))[spec.name] == 3


async def test_a_consumer_closes_while_its_broker_is_away(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    server, spec = tansu(), TopicSpec("t", 1)
    kafka = KafkaSettings(url=server.url, request_timeout_ms=2_000)
    consumer = BatchConsumer(kafka, [spec.name], batch_size=1)
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
    async with BatchConsumer(settings, [topic], batch_size=100) as consumer:
        values = await read(consumer, 501)
    assert values == [str(n).encode() for n in range(500)] + [b"last"]


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
        async with GroupConsumer(settings, [topic], group, Indifferent(), batch_size=10) as consumer:
            assert len(await read(consumer, 4)) == 4
            assert await offsets.committed([partition]) == {partition: 0}
            assert await consumer.commit({partition: 3})
        assert await offsets.committed([partition]) == {partition: 3}


async def test_a_broker_that_is_away_tells_nothing_of_a_group() -> None:
    nobody = KafkaSettings(url="kafka://127.0.0.1:1", request_timeout_ms=500, session_timeout_ms=500)
    with pytest.raises(BrokerUnavailable, match=r"127\.0\.0\.1:1"):
        async with GroupOffsets(nobody, "g"):
            pass


async def list_them(kafka: KafkaSettings) -> None:
    await list_topics(kafka)


async def look(kafka: KafkaSettings) -> None:
    await unread(kafka, {TopicPartition("t", 0): 0})


@broker
@pytest.mark.parametrize(
    "start",
    [
        list_them,
        look,
        lambda kafka: Producer(kafka).start(),
        lambda kafka: BatchConsumer(kafka, ["t"], batch_size=1).start(),
        lambda kafka: Membership(kafka, ["t"], "g", lambda: None).start(),
        lambda kafka: GroupOffsets(kafka, "g").__aenter__(),
    ],
    ids=["admin", "probe", "producer", "consumer", "member", "offsets"],
)
async def test_who_is_cancelled_while_connecting_leaves_no_connection_open(
    kafka_url: str, monkeypatch: pytest.MonkeyPatch, start: Callable[[KafkaSettings], Coroutine[Any, Any, object]]
) -> None:
    """Cancelled in the moment in which the first connection is there and nobody but the start itself knows it."""
    opened: list[AIOKafkaConnection] = []

    async def connect(*arguments: Any, **named: Any) -> AIOKafkaConnection:
        opened.append(await create_conn(*arguments, **named))
        starting.cancel()
        return opened[-1]

    monkeypatch.setattr("aiokafka.client.create_conn", connect)
    starting = asyncio.create_task(start(KafkaSettings(url=kafka_url)))
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert opened and not any(connection.connected() for connection in opened)
