"""Consumers of the Kafka-protocol broker: one that closes cleanly, and a group member that reads whole batches."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Self

from aiokafka import AIOKafkaConsumer
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.coordinator.assignors.abstract import AbstractPartitionAssignor
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import CommitFailedError, IllegalStateError
from aiokafka.structs import ConsumerRecord, TopicPartition

from infra.errors import BrokerUnavailable
from infra.kafka import broker_errors, connecting
from infra.kafka_security import client_arguments
from infra.settings import KafkaSettings

# A consumer whose store is down does not poll for long; it must not be thrown out of the group for it.
MAX_POLL_INTERVAL_MS = 3_600_000
# A member learns of a rebalance by its heartbeat, and all of them read nothing until the last one has learned of it.
HEARTBEAT_MS = 300

RebalanceHook = Callable[[set[TopicPartition]], Awaitable[None]]


class ClosingConsumer(AIOKafkaConsumer):  # type: ignore[misc]
    """aiokafka's consumer, whose `stop` ends also while the broker is away."""

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
            if task is None or task.cancelling() > asked:
                raise
            await self._client.close()


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    def __init__(self, on_revoked: RebalanceHook | None, on_assigned: RebalanceHook | None) -> None:
        self._on_revoked = on_revoked
        self._on_assigned = on_assigned

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        if self._on_revoked is not None:
            await self._on_revoked(set(revoked))

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        if self._on_assigned is not None:
            await self._on_assigned(set(assigned))


def _assignor() -> type[AbstractPartitionAssignor]:
    """Partitions stay with their members where they can.

    One and no more: with several, aiokafka 0.14 joins once for each, every time with another list, and at every change
    of it the broker begins a rebalance. Two members whose joins cross then keep each other rebalancing for minutes.
    The protocol itself is the eager one: that version sends no owned partitions along, so it has no cooperative one.
    """

    class Sticky(StickyPartitionAssignor):  # type: ignore[misc]
        """The library keeps what a member owns on the class: one class a consumer, or two of a process mix theirs."""

    return Sticky


class BatchConsumer:
    """A member of a consumer group that reads batches and commits only when told to.

    Args:
        group: None reads all partitions as an onlooker, without a group and without commits.
        batch_size: most messages one `getmany` returns.
        from_beginning: where a group without a committed offset begins; else with what comes from now on.
        hold_ms: how long the broker may hold a fetch that finds nothing; None: as the settings say, which is short. Who
            can wait costs both sides less.
        on_revoked: awaited before partitions are given up; finish and commit their messages here, in less
            than the session timeout.
        on_assigned: awaited when partitions have been taken over.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        topics: Sequence[str],
        group: str | None,
        *,
        batch_size: int,
        from_beginning: bool = True,
        hold_ms: int | None = None,
        on_revoked: RebalanceHook | None = None,
        on_assigned: RebalanceHook | None = None,
    ) -> None:
        self._settings = settings
        self._topics = list(topics)
        self._group = group
        self._batch_size = batch_size
        self._from_beginning = from_beginning
        self._hold_ms = settings.fetch_wait_ms if hold_ms is None else hold_ms
        self._listener = _Listener(on_revoked, on_assigned)
        self._consumer: Any = None

    async def start(self) -> None:
        """Connect and join the group.

        Raises:
            ConfigurationError: the URL names no server, or it refuses us. BrokerUnavailable: it does not answer.
        """
        settings = self._settings
        consumer = ClosingConsumer(
            group_id=self._group,
            enable_auto_commit=False,
            auto_offset_reset="earliest" if self._from_beginning else "latest",
            fetch_max_wait_ms=self._hold_ms,
            session_timeout_ms=settings.session_timeout_ms,
            heartbeat_interval_ms=max(1, min(HEARTBEAT_MS, settings.session_timeout_ms // 5)),
            request_timeout_ms=max(settings.request_timeout_ms, settings.session_timeout_ms),
            max_poll_interval_ms=MAX_POLL_INTERVAL_MS,
            max_poll_records=self._batch_size,
            partition_assignment_strategy=(_assignor(),),
            **client_arguments(settings),
        )
        consumer.subscribe(self._topics, listener=self._listener)
        try:
            async with connecting(settings):
                await consumer.start()
        except BaseException:
            await consumer.stop()
            raise
        self._consumer = consumer

    async def stop(self) -> None:
        """Leave the group and disconnect. Commits nothing."""
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

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> bool:
        """Commit the next offset to read of each partition, for those still assigned to us.

        Returns False when the group has moved on (a rebalance took them): the new owner reads the messages
        again.

        Raises:
            BrokerUnavailable: no answer.
        """
        mine = {tp: offset for tp, offset in offsets.items() if tp in self.assignment}
        if not mine:
            return not offsets
        try:
            with broker_errors(self._settings):
                await self._consumer.commit(mine)
        except BrokerUnavailable as error:
            if isinstance(error.__cause__, CommitFailedError | IllegalStateError):
                return False
            raise
        return len(mine) == len(offsets)
