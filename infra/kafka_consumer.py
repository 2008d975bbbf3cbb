"""Consumers of the Kafka-protocol broker: one that closes cleanly, and one that reads whole batches.

Whoever shares its topics with others takes `infra.kafka_group.GroupConsumer`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from typing import Any, Self

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import IllegalStateError
from aiokafka.structs import ConsumerRecord, TopicPartition

from infra.kafka import begun, broker_errors, connecting
from infra.kafka_security import client_arguments
from infra.settings import KafkaSettings


class ClosingConsumer(AIOKafkaConsumer):  # type: ignore[misc]
    """aiokafka's consumer, whose `stop` ends also while the broker is away, and finds all that `start` began."""

    async def start(self) -> None:
        """Connect; see `infra.kafka.begun`."""
        await begun(super().start())

    async def stop(self) -> None:
        """Leave the group and disconnect.

        aiokafka 0.14 cancels the fetches under way and lets the cancellation of one that waits to be tried again out
        of `stop`, before it has closed its connections. That one is told from a cancellation of the caller's own task.
        """
        task = asyncio.current_task()
        asked = task.cancelling() if task is not None else 0
        try:
            await super().stop()
        except asyncio.CancelledError:
            await self._client.close()
            if task is None or task.cancelling() > asked:
                raise


class BatchConsumer:
    """An onlooker that reads batches: all partitions of its topics, or those that `assign` names; no group, no commits.

    Args:
        topics: all of whose partitions are read; none of them: those that `assign` names.
        batch_size: most messages one `getmany` returns.
        from_beginning: begin with what there is; else with what comes from now on.
        hold_ms: how long the broker may hold a fetch that finds nothing; None: as the settings say, which is short. Who
            can wait costs both sides less.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        topics: Sequence[str],
        *,
        batch_size: int,
        from_beginning: bool = True,
        hold_ms: int | None = None,
    ) -> None:
        self._settings = settings
        self._topics = list(topics)
        self._batch_size = batch_size
        self._from_beginning = from_beginning
        self._hold_ms = settings.fetch_wait_ms if hold_ms is None else hold_ms
        self._consumer: Any = None

    async def start(self) -> None:
        """Connect.

        Raises:
            ConfigurationError: the URL names no server, or it refuses us. BrokerUnavailable: it does not answer.
        """
        consumer = ClosingConsumer(
            enable_auto_commit=False,
            auto_offset_reset="earliest" if self._from_beginning else "latest",
            fetch_max_wait_ms=self._hold_ms,
            request_timeout_ms=self._settings.request_timeout_ms,
            max_poll_records=self._batch_size,
            **client_arguments(self._settings),
        )
        if self._topics:
            consumer.subscribe(self._topics)
        else:
            consumer.assign([])
        try:
            async with connecting(self._settings):
                await consumer.start()
        except BaseException:
            await consumer.stop()
            raise
        self._consumer = consumer

    async def stop(self) -> None:
        """Disconnect."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            with broker_errors(self._settings):
                await consumer.stop()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def assignment(self) -> frozenset[TopicPartition]:
        return frozenset(self._consumer.assignment()) if self._consumer is not None else frozenset()

    def assign(self, positions: Mapping[TopicPartition, int]) -> None:
        """Read these partitions from these offsets on, and no others; what was fetched ahead is dropped. An offset that
        is not there any more stands for the first that is."""
        self._consumer.assign(list(positions))
        for place, offset in positions.items():
            self._consumer.seek(place, offset)

    async def positions(self, *, wait_s: float = 1.0) -> dict[TopicPartition, int]:
        """The next offset to read of each partition; those not known within `wait_s` are left out."""
        found: dict[TopicPartition, int] = {}
        with contextlib.suppress(TimeoutError, IllegalStateError):  # the latter: taken away meanwhile
            async with asyncio.timeout(wait_s):
                for tp in self.assignment:
                    found[tp] = await self._consumer.position(tp)
        return found

    async def at_end(self) -> bool:
        """Whether all that was on the partitions at the last fetch of each has been returned; False before that."""
        positions = await self.positions()
        if not positions or len(positions) < len(self.assignment):
            return False
        ends = {tp: self._consumer.highwater(tp) for tp in positions}
        return all(end is not None and positions[tp] >= end for tp, end in ends.items())

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Read `partition` from `offset` on; what was fetched ahead is dropped."""
        self._consumer.seek(partition, offset)

    async def getmany(self, timeout_ms: int = 100) -> dict[TopicPartition, list[ConsumerRecord]]:
        """Up to `batch_size` messages by partition, in order within it; empty when none came in time.

        Raises:
            BrokerUnavailable: the library gave up on the broker; calling again tries again.
        """
        with broker_errors(self._settings):
            records: dict[TopicPartition, list[ConsumerRecord]] = await self._consumer.getmany(
                timeout_ms=timeout_ms, max_records=self._batch_size
            )
            return records
