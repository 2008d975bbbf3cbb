"""A second look at a topic, by a connection of its own: is there something to read where a consumer stands, and how far
has a group come?"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any, Self

from aiokafka.structs import TopicPartition

from infra.errors import BrokerUnavailable
from infra.kafka import broker_errors, connecting
from infra.kafka_consumer import ClosingConsumer
from infra.kafka_security import client_arguments
from infra.settings import KafkaSettings

LOOK_S = 2.0


async def unread(
    settings: KafkaSettings, positions: Mapping[TopicPartition, int], *, look_s: float = LOOK_S
) -> dict[TopicPartition, int]:
    """The first message at or after each position, as its offset; partitions with nothing there are left out.

    Reads messages rather than end offsets, which also count what a consumer is never given (transaction markers).

    Raises:
        BrokerUnavailable: no answer in time; says nothing about the other consumer then.
    """
    if not positions:
        return {}
    consumer = ClosingConsumer(
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=settings.fetch_wait_ms,
        request_timeout_ms=settings.request_timeout_ms,
        max_partition_fetch_bytes=65_536,
        **client_arguments(settings),
    )
    found: dict[TopicPartition, int] = {}
    try:
        with broker_errors(settings):
            async with asyncio.timeout(max(look_s, settings.request_timeout_ms / 1_000)):
                await consumer.start()
                consumer.assign(list(positions))
                for tp, offset in positions.items():
                    consumer.seek(tp, offset)
                records = await consumer.getmany(timeout_ms=int(look_s * 1_000))
                found = {tp: part[0].offset for tp, part in records.items() if part}
    except TimeoutError as error:
        raise BrokerUnavailable(f"the broker at {settings.url} did not answer a second connection") from error
    finally:
        await consumer.stop()
    return found


class GroupOffsets:
    """What a consumer group has committed, seen from outside it."""

    def __init__(self, settings: KafkaSettings, group: str) -> None:
        self._settings = settings
        self._group = group
        self._consumer: Any = None

    async def __aenter__(self) -> Self:
        """Connect, without joining the group.

        Raises:
            ConfigurationError: the broker refuses us. BrokerUnavailable: it does not answer.
        """
        consumer = ClosingConsumer(
            group_id=self._group,
            enable_auto_commit=False,
            request_timeout_ms=self._settings.request_timeout_ms,
            **client_arguments(self._settings),
        )
        try:
            async with connecting(self._settings):
                await consumer.start()
        except BaseException:
            await consumer.stop()
            raise
        self._consumer = consumer
        return self

    async def __aexit__(self, *_: object) -> None:
        consumer, self._consumer = self._consumer, None
        await consumer.stop()

    async def committed(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """The next offset that the group would read of each partition; 0 where it has committed none.

        Raises:
            BrokerUnavailable: no answer.
        """
        with broker_errors(self._settings):
            return {tp: await self._consumer.committed(tp) or 0 for tp in partitions}
