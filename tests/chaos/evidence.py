"""What a run left behind, read from the beginning by plain clients: the topics, the store, the archive."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.structs import TopicPartition

from infra.kafka_security import client_arguments
from infra.redis_client import connect
from infra.settings import KafkaSettings, RedisSettings
from streams.archive import TopicArchive, read_rows, read_segment
from streams.topics import TRANSACTIONS

Place = tuple[str, int, int]
"""Topic, partition, offset."""


def shown(place: Place) -> str:
    return f"{place[0]}/{place[1]}@{place[2]}"


QUIET_S = 2.0
READ_S = 60.0


@dataclass(frozen=True, slots=True)
class Message:
    topic: str
    partition: int
    offset: int
    time_ms: int
    key: bytes | None
    value: bytes | None

    @property
    def place(self) -> Place:
        return self.topic, self.partition, self.offset


@dataclass(frozen=True)
class Archived:
    """rows: (partition, offset, customer_id, event_id). skipped, repeated: what the archive says it left out."""

    rows: list[tuple[int, int, str, str]]
    skipped: int
    repeated: int


@dataclass(frozen=True)
class Evidence:
    """topics: name -> messages. values: customer_id -> the store's raw value. acknowledged: place -> value, as the
    producer was told. archived: None where no archiver ran."""

    topics: Mapping[str, list[Message]]
    values: Mapping[str, bytes]
    acknowledged: Mapping[Place, bytes] = field(default_factory=dict)
    archived: Archived | None = None


async def read_topic(kafka: KafkaSettings, topic: str, acknowledged: Mapping[Place, bytes]) -> list[Message]:
    """All of a topic, by partition in order: through what was acknowledged, then until nothing came for a while."""
    consumer = AIOKafkaConsumer(enable_auto_commit=False, **client_arguments(kafka))
    found: list[Message] = []
    await consumer.start()
    try:
        partitions = [TopicPartition(topic, n) for n in range(kafka.partitions)]
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        ends = Counter[int]()
        for name, partition, offset in acknowledged:
            if name == topic:
                ends[partition] = max(ends[partition], offset + 1)
        read = Counter[int]()
        began = quiet_since = time.monotonic()
        while time.monotonic() - began < READ_S:
            for records in (await consumer.getmany(timeout_ms=200)).values():
                found += [Message(r.topic, r.partition, r.offset, r.timestamp, r.key, r.value) for r in records]
                read[records[-1].partition] = records[-1].offset + 1
                quiet_since = time.monotonic()
            behind = any(read[partition] < end for partition, end in ends.items())
            if time.monotonic() - quiet_since > (QUIET_S * 5 if behind else QUIET_S):
                break
    finally:
        await consumer.stop()
    return sorted(found, key=lambda message: (message.partition, message.offset))


async def committed(kafka: KafkaSettings, group: str, topic: str) -> dict[int, int]:
    """Partition -> the group's next offset."""
    admin = AIOKafkaAdminClient(**client_arguments(kafka))
    try:
        await admin.start()
        # Asked for all that it knows, the embedded broker hangs up.
        partitions = [TopicPartition(topic, n) for n in range(kafka.partitions)]
        offsets = await admin.list_consumer_group_offsets(group, partitions=partitions)
    finally:
        await admin.close()
    return {tp.partition: at.offset for tp, at in offsets.items() if tp.topic == topic}


async def drained(
    kafka: KafkaSettings, group: str, topic: str, acknowledged: Mapping[Place, bytes], limit_s: float
) -> bool:
    """True when the group has committed all that was acknowledged on the topic within the limit."""
    ends = Counter[int]()
    for name, partition, offset in acknowledged:
        if name == topic:
            ends[partition] = max(ends[partition], offset + 1)
    deadline = time.monotonic() + limit_s
    while True:
        at = await committed(kafka, group, topic)
        if all(at.get(partition, 0) >= end for partition, end in ends.items()):
            return True
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.5)


async def read_values(redis: RedisSettings) -> dict[str, bytes]:
    """Every stored customer, as bytes."""
    client = await connect(redis)
    try:
        start = f"{redis.prefix}:customer:"
        keys = [key async for key in client.scan_iter(match=f"{start}*", count=1_000)]
        values = await client.mget(keys) if keys else []
    finally:
        await client.aclose()
    return {key.decode()[len(start) :]: value for key, value in zip(keys, values, strict=True)}


def read_archive(archive: TopicArchive) -> Archived:
    """All rows of a stopped archiver's files."""
    segments = archive.segments()
    compacted = archive.compacted()
    columns = ("partition", "offset", "customer_id", "event_id")
    rows = [
        row
        for path in [*archive.day_files(), *segments]
        for row in zip(*(read_rows(path)[name].to_pylist() for name in columns), strict=True)
    ]
    skipped = compacted.skipped + sum(read_segment(path).skipped for path in segments)
    return Archived(rows, skipped, compacted.repeated)


def archived_through(archive: TopicArchive, acknowledged: Mapping[Place, bytes]) -> bool:
    """The archive holds everything that was acknowledged on its topic."""
    last = {partition: position.last for partition, position in archive.positions().items()}
    return all(last.get(partition, -1) >= offset for topic, partition, offset in acknowledged if topic == TRANSACTIONS)
