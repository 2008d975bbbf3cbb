"""The reading side of a worker: from the consumer to a bounded channel, commits behind what is applied, and a watch
over both. No Faust in here.

    broker -> consumer -> read -> hand_over (bounded) -> handler
       ^          ^                                         |
       |          +-- replaced when it stops reading        |
       +---------- commit, oldest batch first <--- finished +

A consumer that has stalled (`streams.stall`) is drained, closed and replaced, and a line says why.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from aiokafka.structs import ConsumerRecord, TopicPartition

from infra.errors import BrokerUnavailable
from infra.kafka import backoff_s
from infra.kafka_assignor import Partitions
from infra.kafka_group import OwnershipListener
from infra.telemetry import counter
from streams.batches import Batch, InFlight, batch_of
from streams.stall import StallWatch, Unread

logger = logging.getLogger(__name__)

POLL_MS = 200
CLOSE_S = 10.0
LEAVE_S = 3.0
# For the last commits of a process that ends.
LAST_COMMIT_S = 1.0
# For those of a partition that another is to have: no join lasts longer, and nobody can have it before that.
GIVING_UP_S = 60.0
# A commit costs the broker as much as an answer. What was done since the last one comes again after a crash.
COMMIT_EVERY_S = 0.1

REPLACED = counter("consumers_replaced", "Consumers that had stopped reading and were replaced.")


class Consumer(Protocol):
    """What is needed of `infra.kafka_group.GroupConsumer`."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def getmany(self, timeout_ms: int) -> dict[TopicPartition, list[ConsumerRecord]]: ...

    async def commit(self, offsets: Mapping[TopicPartition, int], *, wait_s: float = 0.0) -> bool: ...

    async def positions(self) -> dict[TopicPartition, int]: ...


ConsumerOf = Callable[[OwnershipListener], Consumer]
"""Makes an unstarted consumer that tells what becomes ours, and what is to be finished."""


@dataclass(frozen=True, slots=True)
class Limits:
    """drain_s: for finishing before partitions are given up. stall_s: without a message before a second connection
    looks; a consumer is replaced when it reads nothing between two such looks that both find something. batch: most
    messages that wait together for the handler.
    """

    drain_s: float
    stall_s: float
    batch: int


class Intake:
    """Owns the consumer of one process. `hand_over` waits while the channel is full, and reading waits with it."""

    def __init__(
        self, consumer_of: ConsumerOf, hand_over: Callable[[Batch], Awaitable[None]], unread: Unread, limits: Limits
    ) -> None:
        self._consumer_of = consumer_of
        self._hand_over = hand_over
        self._watch = StallWatch(unread, limits.stall_s)
        self._limits = limits
        self._consumer: Consumer | None = None
        self._in_flight = InFlight()
        self._changed = asyncio.Event()
        self._committing = asyncio.Lock()
        self._stopping = False

    async def start(self) -> None:
        """Connect and join the group.

        Raises:
            ConfigurationError: the URL names no server. BrokerUnavailable: it does not answer.
        """
        consumer = self._consumer_of(self)
        await consumer.start()
        if self._stopping:
            await consumer.stop()
        else:
            self._consumer = consumer

    async def stop(self) -> None:
        """Finish what is in flight, commit it, leave the group; what could not be committed comes again."""
        self._stopping = True
        if self._consumer is None:
            return
        await self._leave_nothing(self._consumer)
        consumer, self._consumer = self._consumer, None
        try:
            # In the middle of joining, leaving would wait until the group has formed.
            async with asyncio.timeout(LEAVE_S):
                await consumer.stop()
        except (BrokerUnavailable, TimeoutError) as error:
            logger.warning("left the group without a word from the broker: %s", error or "none yet")

    def finished(self, batch: Batch, *, ok: bool) -> None:
        """The handler is through; not ok keeps this and every later batch of its partitions from being committed."""
        batch.ok = ok
        batch.done.set()
        self._changed.set()

    async def read(self) -> None:
        """Read until stopped; replaces a consumer that does not.

        Raises:
            BrokerUnavailable: a stalled consumer could not even be closed; the process must end, for it would stand
                in the group twice.
        """
        while not self._stopping and self._consumer is not None:
            reason = await self._watch.over(self._read(), self._positions)
            if not self._stopping:
                await self._replace(reason)

    async def commit_finished(self) -> None:
        """Commit what is applied, until cancelled; what the broker did not take is tried again."""
        attempt = 0
        while True:
            if not attempt:
                await self._changed.wait()
            self._changed.clear()
            if self._consumer is None or await self._commit(self._consumer, quiet=attempt > 0):
                attempt = 0
                await asyncio.sleep(COMMIT_EVERY_S)
            else:
                await asyncio.sleep(backoff_s(attempt))
                attempt += 1

    async def on_assigned(self, partitions: Partitions) -> None:
        self._in_flight.assigned(partitions)
        self._watch.begin()

    async def on_revoked(self, partitions: Partitions) -> None:
        if self._consumer is not None:
            await self._drain(partitions)
            await self._commit(self._consumer, wait_s=GIVING_UP_S)
        self._in_flight.revoked(partitions)

    async def on_lost(self, partitions: Partitions) -> None:
        self._in_flight.revoked(partitions)

    async def _read(self) -> str:
        """Returns when stopped, or with the reason why this consumer is of no more use."""
        failing_since: float | None = None
        attempt = 0
        while not self._stopping and self._consumer is not None:
            try:
                with self._watch.asking():
                    records = await self._consumer.getmany(POLL_MS)
                failing_since, attempt = None, 0
            except BrokerUnavailable as error:
                now = time.monotonic()
                failing_since = failing_since or now
                if now - failing_since > self._limits.stall_s:
                    return f"every read for {now - failing_since:.0f} s failed ({error})"
                pause = backoff_s(attempt)
                attempt += 1
                logger.warning("reading again in %.1f s: %s", pause, error)
                await asyncio.sleep(pause)
                continue
            if records:
                self._watch.begin()
            if records and not self._stopping:
                await self._hand(batch_of(records))
        return ""

    async def _hand(self, batch: Batch) -> None:
        # In flight before the first await: a rebalance from here on waits for it.
        if not self._in_flight.add(batch, self._limits.batch):
            return
        try:
            await self._hand_over(batch)
        except asyncio.CancelledError:
            self._in_flight.withdraw(batch)
            raise

    async def _positions(self) -> dict[TopicPartition, int]:
        """Of what it has been given; what it has not yet, or is not any more, says nothing of this consumer."""
        found = {} if self._consumer is None else await self._consumer.positions()
        return {tp: offset for tp, offset in found.items() if tp in self._in_flight.owned}

    async def _replace(self, reason: str) -> None:
        logger.error("the consumer has stalled: %s; leaving the group and joining again", reason)
        REPLACED.inc()
        if self._consumer is not None:
            await self._leave_nothing(self._consumer)
            consumer, self._consumer = self._consumer, None
            try:
                async with asyncio.timeout(CLOSE_S):
                    await consumer.stop()
            except TimeoutError as error:
                raise BrokerUnavailable(f"a stalled consumer did not close within {CLOSE_S:.0f} s") from error
            except BrokerUnavailable as error:
                logger.warning("the stalled consumer left without a word to the broker: %s", error)
        self._in_flight.revoked(self._in_flight.owned)
        attempt = 0
        while not self._stopping:
            try:
                await self.start()
                logger.info("reading again with a new consumer")
                return
            except BrokerUnavailable as error:
                pause = backoff_s(attempt)
                attempt += 1
                logger.warning("joining again in %.1f s: %s", pause, error)
                await asyncio.sleep(pause)

    async def _commit(self, consumer: Consumer, *, quiet: bool = False, wait_s: float = 0.0) -> bool:
        """False where it must be tried again. `quiet`: said before."""
        async with self._committing:
            offsets = self._in_flight.due()
            if not offsets:
                return True
            try:
                if await consumer.commit(offsets, wait_s=wait_s):
                    self._in_flight.committed(offsets)
                    return True  # what has ended meanwhile has set `_changed` again
                reason = "the group is rebalancing"
            except BrokerUnavailable as error:
                reason = str(error)
            if not quiet:
                logger.warning("commit put off, trying again: %s", reason)
            return False

    async def _leave_nothing(self, consumer: Consumer) -> None:
        """Finish and commit all that is ours, as far as that is possible now."""
        await self._drain(self._in_flight.owned)
        try:
            async with asyncio.timeout(LAST_COMMIT_S):  # a broker that is away would be waited for without end
                await self._commit(consumer, wait_s=LAST_COMMIT_S)
        except TimeoutError:
            logger.warning("not committed within %.0f s; the messages will come again", LAST_COMMIT_S)

    async def _drain(self, partitions: Iterable[TopicPartition]) -> None:
        waiting = self._in_flight.reading(partitions)
        for batch in waiting:
            batch.closed = True  # what else is read meanwhile is not waited for
        if waiting:
            logger.info("finishing %d batches", len(waiting))
        try:
            async with asyncio.timeout(self._limits.drain_s):
                for batch in waiting:
                    await batch.done.wait()
        except TimeoutError:
            logger.warning("not finished within %.0f s; the messages will come again", self._limits.drain_s)
