"""The Kafka-protocol broker: topics from plain specs, and a producer; `infra.kafka_consumer` has the consumers.

Behaves the same on Apache Kafka and on the embedded development broker, so it builds on neither idempotent
producers nor transactions, end offsets or lookup by timestamp. Errors of the library become ours.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, for_code
from aiokafka.structs import TopicPartition

from infra.errors import BrokerUnavailable
from infra.kafka_security import client_arguments, refusal, why_away
from infra.settings import KafkaSettings

logger = logging.getLogger(__name__)

TOPIC_EXISTS = 36
# How long whoever is cancelled waits for a connection that is being made; a broker that is there takes ms.
BEGUN_S = 1.0
# Acknowledgements a caller of send_many waits for at a time; bounds memory on a slow broker.
SEND_WINDOW = 5_000


@contextlib.contextmanager
def broker_errors(settings: KafkaSettings) -> Iterator[None]:
    """Turn the library's errors into ours, inside `with`.

    Raises:
        ConfigurationError: the broker refuses our credentials, certificate or rights.
        BrokerUnavailable: anything else; trying again can help.
    """
    try:
        yield
    except (KafkaError, OSError) as error:
        refused = refusal(settings, error)
        if refused is not None:
            raise refused from error
        reason = str(error) or type(error).__name__
        raise BrokerUnavailable(f"the broker at {settings.url} does not serve: {reason}") from error


@contextlib.asynccontextmanager
async def connecting(settings: KafkaSettings) -> AsyncIterator[None]:
    """As `broker_errors`, around a client's start: asks the broker once more why it would not have us."""
    try:
        yield
    except (KafkaError, OSError) as error:
        raise await why_away(settings, error) from error


async def begun(starting: Coroutine[Any, Any, None]) -> None:
    """Await a client's start, to its end also where we are cancelled meanwhile, so that `stop` finds all of it.

    aiokafka 0.14 forgets the connection on which it is asking for its first metadata.
    """
    task = asyncio.create_task(starting)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task], timeout=BEGUN_S)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        raise


@dataclass(frozen=True)
class TopicSpec:
    """What a topic must be.

    compacted keeps the last message of a key; `retention_ms` None leaves the broker's default.
    """

    name: str
    partitions: int
    compacted: bool = False
    retention_ms: int | None = None

    @property
    def configs(self) -> dict[str, str]:
        configs = {"cleanup.policy": "compact"} if self.compacted else {}
        if self.retention_ms is not None:
            configs["retention.ms"] = str(self.retention_ms)
        return configs


@contextlib.asynccontextmanager
async def _admin(settings: KafkaSettings) -> AsyncIterator[Any]:
    with broker_errors(settings):
        admin = AIOKafkaAdminClient(request_timeout_ms=settings.request_timeout_ms, **client_arguments(settings))
        try:
            async with connecting(settings):
                await begun(admin.start())
            yield admin
        finally:
            await admin.close()


async def ensure_topics(settings: KafkaSettings, specs: Sequence[TopicSpec]) -> list[str]:
    """Create the topics that do not exist; returns their names.

    One server keeps one replica, several keep the cluster's default. A topic that exists is left as it is;
    fewer partitions than specified are logged.

    Raises:
        BrokerUnavailable: no answer, or the broker refuses a topic for a reason other than that it exists.
    """
    async with _admin(settings) as admin:
        existing = await _partitions(admin)
        missing = [spec for spec in specs if spec.name not in existing]
        for spec in specs:
            if 0 < existing.get(spec.name, 0) < spec.partitions:
                logger.warning(
                    "topic %s has %d partitions, fewer than the %d of the settings; it is left as it is",
                    spec.name,
                    existing[spec.name],
                    spec.partitions,
                )
        if not missing:
            return []
        replicas = 1 if settings.url.count(",") == 0 else -1
        answer = await admin.create_topics(
            [NewTopic(spec.name, spec.partitions, replicas, topic_configs=spec.configs) for spec in missing]
        )
        for name, code, *detail in answer.topic_errors:
            if code not in (0, TOPIC_EXISTS):  # another process may have created it meanwhile
                text = detail[0] if detail and detail[0] else for_code(code).__name__
                refused = refusal(settings, for_code(code)(f"topic {name}: {text}"))
                if refused is not None:
                    raise refused
                raise BrokerUnavailable(f"the broker at {settings.url} refuses topic {name}: {text}")
        return [spec.name for spec in missing]


async def list_topics(settings: KafkaSettings) -> dict[str, int]:
    """Topic -> number of partitions, internal topics left out."""
    async with _admin(settings) as admin:
        return {name: n for name, n in sorted((await _partitions(admin)).items()) if not name.startswith("__")}


async def _partitions(admin: Any) -> dict[str, int]:
    names = await admin.list_topics()
    described = await admin.describe_topics(names) if names else []
    return {topic["topic"]: len(topic["partitions"]) for topic in described}


class Producer:
    """Sends messages; every send is acknowledged by all in-sync replicas before it counts as done."""

    def __init__(self, settings: KafkaSettings, *, linger_ms: int = 0) -> None:
        self._settings = settings
        self._linger_ms = linger_ms
        self._producer: Any = None

    async def start(self) -> None:
        """Connect.

        Raises:
            ConfigurationError: the URL names no server, or it refuses us. BrokerUnavailable: it does not answer.
        """
        producer = AIOKafkaProducer(
            acks="all",
            linger_ms=self._linger_ms,
            request_timeout_ms=self._settings.request_timeout_ms,
            max_batch_size=256 * 1024,
            **client_arguments(self._settings),
        )
        try:
            async with connecting(self._settings):
                await begun(producer.start())
        except BaseException:
            await producer.stop()
            raise
        self._producer = producer

    async def stop(self) -> None:
        """Send what is buffered and disconnect."""
        producer, self._producer = self._producer, None
        if producer is not None:
            with broker_errors(self._settings):
                await producer.stop()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def send(
        self, topic: str, key: bytes | None, value: bytes, *, headers: Sequence[tuple[str, bytes]] = ()
    ) -> None:
        """Send one message and wait until the broker has it.

        Raises:
            BrokerUnavailable: no acknowledgement within the request timeout.
        """
        with broker_errors(self._settings):
            await self._connected().send_and_wait(topic, value, key=key, headers=list(headers))

    async def send_many(self, messages: Iterable[tuple[str, bytes | None, bytes | None]]) -> int:
        """Send (topic, key, value) triples in order and wait until the broker has all; returns how many.

        Raises:
            BrokerUnavailable: at least one was not acknowledged; others may have been.
        """
        sent = 0
        async for placed in self._placed(messages):
            sent += len(placed)
        return sent

    async def place_many(self, messages: Iterable[tuple[str, bytes | None, bytes | None]]) -> dict[TopicPartition, int]:
        """As `send_many`; returns the offset after the last of them in each partition that took some.

        Raises:
            BrokerUnavailable: at least one was not acknowledged; others may have been.
        """
        ends: dict[TopicPartition, int] = {}
        async for placed in self._placed(messages):
            for record in placed:
                ends[record.topic_partition] = max(record.offset + 1, ends.get(record.topic_partition, 0))
        return ends

    async def _placed(self, messages: Iterable[tuple[str, bytes | None, bytes | None]]) -> AsyncIterator[list[Any]]:
        """Where the broker has put them, a window at a time."""
        waiting: list[asyncio.Future[Any]] = []
        with broker_errors(self._settings):
            for topic, key, value in messages:
                waiting.append(await self._connected().send(topic, value, key=key))
                if len(waiting) >= SEND_WINDOW:
                    yield await asyncio.gather(*waiting)
                    waiting = []
            yield await asyncio.gather(*waiting)

    async def send_in_order(
        self, topic: str, partition: int, messages: Iterable[tuple[bytes | None, bytes, Sequence[tuple[str, bytes]]]]
    ) -> None:
        """Send (key, value, headers) to one partition, a batch after the other, and wait until the broker has them.

        No batch leaves before the one ahead of it is acknowledged, so the partition never holds a message without
        those before it, whatever fails. A batch whose acknowledgement was lost is sent again by the library: it may
        stand there twice.

        Raises:
            BrokerUnavailable: the rest was not sent, from a batch on that may or may not have arrived.
        """
        with broker_errors(self._settings):
            producer = self._connected()
            batch = producer.create_batch()
            for key, value, headers in messages:
                if batch.append(timestamp=None, key=key, value=value, headers=list(headers)) is None:
                    await (await producer.send_batch(batch, topic, partition=partition))
                    batch = producer.create_batch()
                    batch.append(timestamp=None, key=key, value=value, headers=list(headers))
            if batch.record_count():
                await (await producer.send_batch(batch, topic, partition=partition))

    def _connected(self) -> Any:
        if self._producer is None:
            raise BrokerUnavailable(f"the producer for {self._settings.url} is not started, or has been stopped")
        return self._producer

    async def ping(self) -> None:
        """Return when the broker has answered a question just now.

        Raises:
            BrokerUnavailable: it has not.
        """
        with broker_errors(self._settings):
            if self._producer is None or not await self._producer.client.force_metadata_update():
                raise BrokerUnavailable(f"the broker at {self._settings.url} does not answer")

    async def flush(self) -> None:
        """Wait until the broker has everything sent so far."""
        with broker_errors(self._settings):
            await self._producer.flush()


def backoff_s(attempt: int, *, base_s: float = 0.05, limit_s: float = 5.0) -> float:
    """Seconds to wait before try number `attempt` + 1: doubles up to a limit, with half of it at random.

    The random half keeps many clients of one server from coming back at the same moment.
    """
    full = min(limit_s, base_s * 2.0 ** min(attempt, 30))
    return full * (0.5 + 0.5 * random.random())
