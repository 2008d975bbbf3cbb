"""Consumers in tests: how they are read, and members of a group that finish what they were given."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Self

from aiokafka.structs import TopicPartition

from infra.kafka_assignor import Partitions
from infra.kafka_consumer import BatchConsumer
from infra.kafka_group import GroupConsumer
from infra.settings import KafkaSettings


class Indifferent:
    """A listener that does nothing about what it hears."""

    async def on_assigned(self, partitions: Partitions) -> None:
        """Nothing to prepare."""

    async def on_revoked(self, partitions: Partitions) -> None:
        """Nothing to finish."""

    async def on_lost(self, partitions: Partitions) -> None:
        """Nothing to forget."""


class Member:
    """Reads all the time, between `async with`, and commits what it has read of a partition before it gives it up.

    seen: (value, when by the monotonic clock), as read. assigned, revoked, lost: what it was told.
    """

    def __init__(self, settings: KafkaSettings, topic: str, group: str) -> None:
        self.consumer = GroupConsumer(settings, [topic], group, self, batch_size=100)
        self.seen: list[tuple[bytes, float]] = []
        self.assigned: list[Partitions] = []
        self.revoked: list[Partitions] = []
        self.lost: list[Partitions] = []
        self._offsets: dict[TopicPartition, int] = {}
        self._reading: asyncio.Task[None] | None = None

    async def on_assigned(self, partitions: Partitions) -> None:
        self.assigned.append(partitions)

    async def on_revoked(self, partitions: Partitions) -> None:
        self.revoked.append(partitions)
        assert await self.commit(partitions)

    async def on_lost(self, partitions: Partitions) -> None:
        self.lost.append(partitions)
        for place in partitions:
            self._offsets.pop(place, None)

    async def commit(self, partitions: Partitions) -> bool:
        offsets = {place: self._offsets[place] for place in partitions & self._offsets.keys()}
        return await self.consumer.commit(offsets, wait_s=5.0)

    @property
    def values(self) -> list[bytes]:
        return [value for value, _ in self.seen]

    async def start(self) -> None:
        await self.consumer.start()
        self._reading = asyncio.create_task(self._read())

    async def stop(self) -> None:
        """Commit what was read and leave."""
        if self._reading is not None:
            self._reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reading
        await self.commit(self.consumer.assignment)
        await self.consumer.stop()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def _read(self) -> None:
        while True:
            records = await self.consumer.getmany(50)
            now = time.monotonic()
            for place, part in records.items():
                self.seen += [(record.value or b"", now) for record in part]
                self._offsets[place] = part[-1].offset + 1


async def read(consumer: BatchConsumer | GroupConsumer, count: int, *, seconds: float = 30.0) -> list[bytes]:
    """Values in order of partition and offset, once `count` are there."""
    found: list[tuple[int, int, bytes]] = []
    end = time.monotonic() + seconds
    while len(found) < count and time.monotonic() < end:
        for tp, records in (await consumer.getmany(100)).items():
            found += [(tp.partition, r.offset, r.value or b"") for r in records]
    return [value for _, _, value in sorted(found)]
