"""`python -m offline.peers.members NAME URL TOPIC GROUP FILE`: a member of a group that notes what it reads, and when.

Every member commits what it has read before it gives a partition up, and otherwise now and then; all have the same
session, heartbeat and fetch settings. A line of FILE is a message: its value, its partition and the time of reading in
nanoseconds of the machine's monotonic clock. Leaves on SIGTERM.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TextIO

from aiokafka import AIOKafkaConsumer
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.structs import TopicPartition

from infra.errors import ConfigurationError
from infra.kafka_assignor import Partitions
from infra.kafka_group import GroupConsumer
from infra.kafka_membership import HEARTBEAT_MS
from infra.kafka_security import bootstrap_servers
from infra.settings import KafkaSettings
from streams.intake import GIVING_UP_S, LAST_COMMIT_S

SESSION_MS = 6_000
BATCH = 100
POLL_MS = 50
COMMIT_EVERY_S = 0.5

Offsets = dict[TopicPartition, int]


class Notes:
    """What was read: noted at once, so that a kill leaves it; and how far, until it is committed."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self.offsets: Offsets = {}
        self.committed_at = time.monotonic()

    def take(self, place: TopicPartition, messages: Iterable[tuple[int, bytes]]) -> None:
        """(offset, value) each."""
        now = time.monotonic_ns()
        for offset, value in messages:
            self._out.write(f"{value.decode()} {place.partition} {now}\n")
            self.offsets[place] = offset + 1
        self._out.flush()

    def due(self) -> Offsets:
        """What to commit now, if it is time again."""
        if time.monotonic() - self.committed_at < COMMIT_EVERY_S:
            return {}
        self.committed_at = time.monotonic()
        return dict(self.offsets)

    def gone(self, partitions: Iterable[TopicPartition]) -> None:
        for place in partitions:
            self.offsets.pop(place, None)


class _Ours:
    """As `streams.intake` does it, without the channel and the handler behind it."""

    def __init__(self, settings: KafkaSettings, topic: str, group: str, notes: Notes) -> None:
        self._consumer = GroupConsumer(settings, [topic], group, self, batch_size=BATCH)
        self._notes = notes

    async def on_assigned(self, partitions: Partitions) -> None:
        """Nothing to prepare."""

    async def on_revoked(self, partitions: Partitions) -> None:
        offsets = self._notes.offsets
        await self._consumer.commit({at: offsets[at] for at in partitions & offsets.keys()}, wait_s=GIVING_UP_S)
        self._notes.gone(partitions)

    async def on_lost(self, partitions: Partitions) -> None:
        self._notes.gone(partitions)

    async def run(self, stopping: asyncio.Event) -> None:
        async with self._consumer as consumer:
            while not stopping.is_set():
                for place, part in (await consumer.getmany(POLL_MS)).items():
                    self._notes.take(place, ((r.offset, r.value or b"") for r in part))
                if due := self._notes.due():
                    await consumer.commit(due)
            await consumer.commit(self._notes.offsets, wait_s=LAST_COMMIT_S)


class _Eager(ConsumerRebalanceListener):  # type: ignore[misc]
    """aiokafka as it comes, with the assignor of its that moves least."""

    def __init__(self, settings: KafkaSettings, topic: str, group: str, notes: Notes) -> None:
        self._notes = notes
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=bootstrap_servers(settings.url),
            group_id=group,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=settings.fetch_wait_ms,
            session_timeout_ms=settings.session_timeout_ms,
            heartbeat_interval_ms=HEARTBEAT_MS,
            partition_assignment_strategy=(StickyPartitionAssignor,),
        )
        self._consumer.subscribe([topic], listener=self)

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        await self._commit(dict(self._notes.offsets))
        self._notes.gone(revoked)

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Nothing to prepare."""

    async def _commit(self, offsets: Offsets) -> None:
        if offsets:
            with contextlib.suppress(Exception):  # moved on meanwhile: the next owner reads them again
                await self._consumer.commit(offsets)

    async def run(self, stopping: asyncio.Event) -> None:
        await self._consumer.start()
        while not stopping.is_set():
            found = await self._consumer.getmany(timeout_ms=POLL_MS, max_records=BATCH)
            for place, part in found.items():
                self._notes.take(place, ((r.offset, r.value or b"") for r in part))
            await self._commit(self._notes.due())
        await self._commit(self._notes.offsets)
        await self._consumer.stop()


def _confluent(settings: KafkaSettings, topic: str, group: str, notes: Notes, stopping: asyncio.Event) -> None:
    """librdkafka's own cooperative protocol. Commits do not wait: one that does, before a partition is given up, holds
    up the reading of all others for half a second."""
    from confluent_kafka import Consumer, KafkaException
    from confluent_kafka import TopicPartition as Place

    def commit(consumer: Any, offsets: Offsets, *, wait: bool) -> None:
        if offsets:
            places = [Place(place.topic, place.partition, at) for place, at in offsets.items()]
            with contextlib.suppress(KafkaException):
                consumer.commit(offsets=places, asynchronous=not wait)

    def on_revoke(consumer: Any, places: list[Any]) -> None:
        gone = [TopicPartition(place.topic, place.partition) for place in places]
        commit(consumer, {place: notes.offsets[place] for place in gone if place in notes.offsets}, wait=False)
        notes.gone(gone)

    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap_servers(settings.url),
            "group.id": group,
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "fetch.wait.max.ms": settings.fetch_wait_ms,
            "session.timeout.ms": settings.session_timeout_ms,
            # So long the broker waits for a join, as with the others.
            "max.poll.interval.ms": settings.session_timeout_ms,
            "heartbeat.interval.ms": HEARTBEAT_MS,
            "partition.assignment.strategy": "cooperative-sticky",
        }
    )
    consumer.subscribe([topic], on_revoke=on_revoke)
    while not stopping.is_set():
        message = consumer.poll(POLL_MS / 1_000)  # `consume` would wait for a whole batch
        if message is not None and message.error() is None:
            place = TopicPartition(topic, message.partition() or 0)
            notes.take(place, [(message.offset() or 0, message.value() or b"")])
        commit(consumer, notes.due(), wait=False)
    commit(consumer, notes.offsets, wait=True)
    consumer.close()


async def run(name: str, settings: KafkaSettings, topic: str, group: str, path: Path) -> None:
    """Read until SIGTERM.

    Raises:
        ConfigurationError: no such member.
    """
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    with path.open("a") as out:
        notes = Notes(out)
        if name == "modiste":
            await _Ours(settings, topic, group, notes).run(stopping)
        elif name == "aiokafka":
            await _Eager(settings, topic, group, notes).run(stopping)
        elif name == "confluent":
            await asyncio.to_thread(_confluent, settings, topic, group, notes, stopping)
        else:
            raise ConfigurationError(f"no member {name!r}; there are modiste, aiokafka, confluent")


if __name__ == "__main__":
    kind, url, topic_name, group_name, file = sys.argv[1:]
    kafka = KafkaSettings(url=url, session_timeout_ms=SESSION_MS)
    asyncio.run(run(kind, kafka, topic_name, group_name, Path(file)))
