"""The newest messages of a topic's partitions, read from their ends backwards.

End offsets are not asked for: the embedded broker counts batches there, and others count what no consumer is given. A
fetch says where the end is, and what is found shortly before it is what there is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from aiokafka.structs import ConsumerRecord, TopicPartition

from infra.errors import BrokerUnavailable
from infra.kafka import broker_errors, connecting
from infra.kafka_consumer import ClosingConsumer
from infra.kafka_security import client_arguments
from infra.settings import KafkaSettings

FIRST_LOOK = 8  # messages before the end; each further look goes back so many times as far
POLL_MS = 200


@dataclass(frozen=True)
class Tail:
    """end: the next offset to be written · newest: the last wanted message, None if none is left."""

    end: int
    newest: ConsumerRecord | None


async def newest_messages(
    settings: KafkaSettings, topic: str, partitions: Iterable[int], wanted: Callable[[ConsumerRecord], bool]
) -> dict[int, Tail]:
    """The newest message of each partition that is `wanted`, in constant memory.

    Costs a few round trips a partition; where nothing wanted is near the end, the partition is read twice at most.

    Raises:
        ConfigurationError: the URL names no server, or it refuses us. BrokerUnavailable: it does not answer.
    """
    consumer = ClosingConsumer(
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=settings.fetch_wait_ms,
        request_timeout_ms=settings.request_timeout_ms,
        **client_arguments(settings),
    )
    patience_s = settings.request_timeout_ms / 1_000
    try:
        with broker_errors(settings):
            async with connecting(settings):
                await consumer.start()
            return {
                partition: await _tail(consumer, TopicPartition(topic, partition), wanted, patience_s)
                for partition in partitions
            }
    except TimeoutError as error:
        raise BrokerUnavailable(f"the broker at {settings.url} did not tell the end of topic {topic}") from error
    finally:
        await consumer.stop()


async def _tail(
    consumer: Any, place: TopicPartition, wanted: Callable[[ConsumerRecord], bool], patience_s: float
) -> Tail:
    consumer.assign([place])
    consumer.seek(place, 0)
    async with asyncio.timeout(patience_s):
        while (end := consumer.highwater(place)) is None:
            await consumer.getmany(timeout_ms=POLL_MS, max_records=1)
    until, back = end, FIRST_LOOK
    while until > 0:
        start = max(0, end - back)
        found = await _last_between(consumer, place, start, until, wanted, patience_s)
        if found is not None:
            return Tail(end, found)
        until, back = start, back * FIRST_LOOK
    return Tail(end, None)


async def _last_between(
    consumer: Any,
    place: TopicPartition,
    start: int,
    until: int,
    wanted: Callable[[ConsumerRecord], bool],
    patience_s: float,
) -> ConsumerRecord | None:
    found: ConsumerRecord | None = None
    consumer.seek(place, start)
    position = start
    while position < until:
        async with asyncio.timeout(patience_s):
            # What is not there any more is skipped by the broker: the position says so, not the messages.
            while (following := await consumer.position(place)) == position:
                records = (await consumer.getmany(place, timeout_ms=POLL_MS)).get(place, [])
                for record in records:
                    if record.offset < until and wanted(record):
                        found = record
        position = following
    return found
