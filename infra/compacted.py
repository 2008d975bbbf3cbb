"""A compacted topic as a table in memory: read from its beginning outside every group, then followed.

At first, and after each lost connection, it is read to its end before anything of it is shown, so nobody ever sees a
key go back to what it was before its last message.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType

from aiokafka.structs import ConsumerRecord

from infra.errors import BrokerUnavailable
from infra.kafka import backoff_s
from infra.kafka_consumer import BatchConsumer
from infra.settings import KafkaSettings

logger = logging.getLogger(__name__)

BATCH = 2_000
# Tables change seldom. Asked a hundred times a second, they took 6% of a core of an API process that did nothing else.
HOLD_MS = 250

Changed = Callable[[Collection[bytes] | None], None]
Accepts = Callable[[bytes | None, bytes | None], bool]


class CompactedTable:
    """The last accepted message of every key.

    Args:
        accepts: whether a message (key, value) counts; one that does not is as if it had not been sent. A message
            without a value that is accepted deletes its key.
        changed: told, in the event loop, which keys have changed; None after the whole table was read anew.
    """

    def __init__(self, settings: KafkaSettings, topic: str, accepts: Accepts, changed: Changed) -> None:
        self._settings = settings
        self._topic = topic
        self._accepts = accepts
        self._changed = changed
        self._table: dict[bytes, bytes] = {}
        self._read = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def table(self) -> Mapping[bytes, bytes]:
        """Key to value, as it is now."""
        return MappingProxyType(self._table)

    @property
    def complete(self) -> bool:
        """Whether the topic has been read to its end."""
        return self._read.is_set()

    async def start(self, *, wait_s: float = 10.0) -> None:
        """Begin to read; returns when the end was reached, or after `wait_s` without it.

        Raises:
            ConfigurationError: the URL names no server.
        """
        self._task = asyncio.create_task(self._follow(), name=f"table-{self._topic}")
        reading = asyncio.create_task(self._read.wait())
        await asyncio.wait({reading, self._task}, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
        reading.cancel()
        if self._task.done():
            await self._task
        if not self.complete:
            logger.warning("topic %s was not read within %.0f s; going on without it until it is", self._topic, wait_s)

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def _follow(self) -> None:
        attempt = 0
        while True:
            try:
                async with BatchConsumer(self._settings, [self._topic], batch_size=BATCH, hold_ms=HOLD_MS) as consumer:
                    await self._read_all(consumer)
                    attempt = 0
                    while True:
                        self._take(await consumer.getmany(timeout_ms=1_000))
            except BrokerUnavailable as error:
                logger.warning("the table of %s waits for the broker: %s", self._topic, error)
                await asyncio.sleep(backoff_s(attempt, base_s=0.5))
                attempt += 1

    async def _read_all(self, consumer: BatchConsumer) -> None:
        fresh: dict[bytes, bytes] = {}
        while not await consumer.at_end():
            for records in (await consumer.getmany(timeout_ms=100)).values():
                self._put(fresh, records)
        self._table = fresh
        self._read.set()
        self._changed(None)

    def _take(self, batch: Mapping[object, list[ConsumerRecord]]) -> None:
        changed: set[bytes] = set()
        for records in batch.values():
            changed |= self._put(self._table, records)
        if changed:
            self._changed(changed)

    def _put(self, table: dict[bytes, bytes], records: list[ConsumerRecord]) -> set[bytes]:
        changed = set()
        for record in records:
            if not self._accepts(record.key, record.value):
                continue
            changed.add(record.key)
            if record.value:
                table[record.key] = record.value
            else:
                table.pop(record.key, None)
        return changed
