"""`modiste streams archiver`: topics into the archive, every message once, whatever kills it and whenever.

The archive's files say how far it is, so no offset is committed anywhere. A partition is taken up at its last archived
message, which is read again and must be the same: one that is not, or that is gone while earlier offsets are there,
shows that the topic was made anew, and a new generation begins with its first message.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import signal
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow as pa
from aiokafka.structs import ConsumerRecord, TopicPartition

from infra.clock import Clock
from infra.errors import BrokerUnavailable, InvalidMessage
from infra.kafka import backoff_s, ensure_topics
from infra.kafka_consumer import BatchConsumer
from infra.settings import Settings, make_clock
from infra.telemetry import counter
from streams.archive import RAW_COLUMNS, Kept, Segment, TopicArchive, event_rows, locked
from streams.archive_compaction import compact
from streams.processor import MAX_AHEAD, admitted
from streams.topics import ARTICLES, IMPRESSIONS, TRANSACTIONS, topic_specs

logger = logging.getLogger(__name__)

TOPICS = (TRANSACTIONS, ARTICLES, IMPRESSIONS)
POLL_MS = 200
BATCH = 5_000
# A last message that has not come by then is not there any more.
CHECK_S = 5.0
# A partition that is silent for so long is checked again: a broker in memory may have come back empty.
IDLE_S = 30.0

ARCHIVED = counter("archived", "Messages the archiver has read, by what became of them.", ["outcome"])


class _Partition:
    """Reads one partition: what was archived, what is held for the next segment."""

    def __init__(self, archive: TopicArchive, number: int) -> None:
        self.archive = archive
        self.number = number
        held = archive.positions().get(number)
        self.generation = held.generation if held else 0
        self.last = held.last if held else -1
        self.digest = held.digest if held else ""
        # Set while the last archived message is to be seen again: "last", or "first" where it was not to be had.
        self.check: str | None = None
        self.since = time.monotonic()
        self.first: int | None = None
        self.kept: list[Kept] = []
        self.raw: list[tuple[int, int, bytes | None, bytes | None]] = []
        self.skipped = 0

    @property
    def waiting(self) -> int:
        """Messages held for the next segment."""
        return len(self.kept) + len(self.raw) + self.skipped

    def flush(self) -> None:
        """Write what is held as a segment."""
        if self.first is None:
            return
        table = (
            event_rows(self.kept, self.number, self.generation)
            if self.archive.topic == TRANSACTIONS
            else self._raw_rows()
        )
        segment = Segment(
            topic=self.archive.topic,
            partition=self.number,
            generation=self.generation,
            first=self.first,
            last=self.last,
            rows=table.num_rows,
            skipped=self.skipped,
            digest=self.digest,
        )
        self.archive.write_segment(segment, table)
        self.first, self.kept, self.raw, self.skipped = None, [], [], 0

    def _raw_rows(self) -> pa.Table:
        offsets, times, keys, values = zip(*self.raw, strict=True) if self.raw else ((), (), (), ())
        n = len(self.raw)
        columns: dict[str, Any] = {
            "generation": [self.generation] * n,
            "partition": [self.number] * n,
            "offset": list(offsets),
            "occurred_at": pa.array([time_ms * 1_000 for time_ms in times], pa.int64()).cast(pa.timestamp("us", "UTC")),
            "key": list(keys),
            "value": list(values),
        }
        return pa.table(columns, schema=RAW_COLUMNS)


class Archiver:
    """Archives `topics` below `directory` until `stop` is called; one process a directory.

    A segment is written when `segment_rows` messages are held or after `flush_ms`, and segments are compacted into
    days when there are `compact_segments` of them.
    """

    def __init__(
        self, settings: Settings, directory: Path, *, topics: tuple[str, ...] = TOPICS, clock: Clock | None = None
    ) -> None:
        self._settings = settings
        self._limits = settings.archiver
        self._directory = directory
        self._archives = {topic: TopicArchive(directory, topic) for topic in topics}
        self._clock = clock or make_clock(settings.clock)
        self._partitions: dict[TopicPartition, _Partition] = {}
        self._flushed_at = time.monotonic()
        self._stopping = asyncio.Event()
        self.totals: Counter[str] = Counter()

    def stop(self) -> None:
        """Write what is held, then end `run`."""
        self._stopping.set()

    async def run(self) -> None:
        """Archive until stopped.

        Raises:
            ConfigurationError: another archiver has the directory, or the settings name no broker.
            BrokerUnavailable: the broker does not answer at the start; later it is waited for.
            DataError: a file of the archive is damaged.
        """
        await ensure_topics(self._settings.kafka, topic_specs(self._settings.kafka))
        with ExitStack() as held:
            for archive in self._archives.values():
                held.enter_context(locked(archive.path / ".archiver.lock", "an archiver", wait=False))
                archive.prepare()
            logger.info("archiving %s into %s", ", ".join(self._archives), self._directory)
            try:
                await self._read()
            finally:
                self._flush()
                logger.info("archiver stopped; %s", self._summary())

    async def _read(self) -> None:
        """One consumer after another: one whose partition lost its end is not trusted to find what is there now."""
        attempt = 0
        while not self._stopping.is_set():
            try:
                async with BatchConsumer(self._settings.kafka, list(self._archives), batch_size=BATCH) as consumer:
                    attempt = 0
                    await self._follow(consumer)
            except BrokerUnavailable as error:
                pause = backoff_s(attempt)
                attempt += 1
                logger.warning("reading again in %.1f s: %s", pause, error)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), pause)

    async def _follow(self, consumer: BatchConsumer) -> None:
        placed: set[TopicPartition] = set()
        while not self._stopping.is_set() and self._take_up(consumer, placed):
            for place, records in (await consumer.getmany(POLL_MS)).items():
                if place in placed:  # else assigned this very moment: taken up where its files end
                    self._take(consumer, place, records)
            await self._flush_when_due()

    def _take_up(self, consumer: BatchConsumer, placed: set[TopicPartition]) -> bool:
        """Begin where the files end, look again at what is silent; False when another consumer is needed for that."""
        now = time.monotonic()
        sound = True
        for place in consumer.assignment:
            partition = self._partitions.get(place)
            if partition is None:
                partition = self._partitions[place] = _Partition(self._archives[place.topic], place.partition)
            silent = now - partition.since
            if place in placed:
                if partition.check == "last" and silent > CHECK_S:
                    partition.check, sound = "first", False
                    continue
                if partition.check is not None or partition.last < 0 or silent < IDLE_S:
                    continue
            placed.add(place)
            partition.since = now
            if partition.check == "first" or partition.last < 0:
                consumer.seek(place, 0)
            else:
                partition.check = "last"
                consumer.seek(place, partition.last)
        return sound

    def _take(self, consumer: BatchConsumer, place: TopicPartition, records: list[ConsumerRecord]) -> None:
        partition = self._partitions[place]
        partition.since = time.monotonic()
        head = records[0]
        check, partition.check = partition.check, None
        if check == "last" and head.offset == partition.last and _digest(head) == partition.digest:
            records = records[1:]
        elif head.offset <= partition.last:
            # Another life of the topic.
            partition.flush()
            logger.warning("%s/%d was made anew: a new generation begins", place.topic, place.partition)
            partition.generation, partition.last = partition.generation + 1, -1
            if head.offset and check != "first":
                consumer.seek(place, 0)
                return
        elif head.offset > partition.last + 1 and place.topic == TRANSACTIONS:
            logger.warning(
                "%s/%d: nothing is at offsets %d to %d (any more)", *place, partition.last + 1, head.offset - 1
            )
        latest = self._clock.now() + MAX_AHEAD
        counts: Counter[str] = Counter()
        for record in records:
            if place.topic == TRANSACTIONS:
                try:
                    partition.kept.append(Kept(record.offset, admitted(record.value, latest)))
                    counts["archived"] += 1
                except InvalidMessage as error:
                    partition.skipped += 1
                    counts["skipped"] += 1
                    logger.debug("%s/%d@%d skipped: %s", *place, record.offset, error)
            else:
                partition.raw.append((record.offset, record.timestamp, record.key, record.value))
                counts["archived"] += 1
        if records:
            partition.first = records[0].offset if partition.first is None else partition.first
            partition.last, partition.digest = records[-1].offset, _digest(records[-1])
        self.totals.update(counts)
        for outcome, count in counts.items():
            ARCHIVED.labels(outcome).inc(count)

    async def _flush_when_due(self) -> None:
        waiting = sum(partition.waiting for partition in self._partitions.values())
        late = time.monotonic() - self._flushed_at > self._limits.flush_ms / 1e3
        if waiting < self._limits.segment_rows and not (waiting and late):
            return
        await asyncio.to_thread(self._flush)
        for archive in self._archives.values():
            if len(archive.segments()) >= self._limits.compact_segments:
                done = await asyncio.to_thread(compact, archive)
                logger.info("%s: %d segments compacted into %d days", archive.topic, done.segments, done.days)

    def _flush(self) -> None:
        for partition in self._partitions.values():
            partition.flush()
        self._flushed_at = time.monotonic()

    def _summary(self) -> str:
        return f"{self.totals['archived']} archived, {self.totals['skipped']} skipped"


def _digest(record: ConsumerRecord) -> str:
    """Of what a message is: another message at the same offset has another."""
    digest = hashlib.blake2b(digest_size=8)
    for part in (str(record.timestamp).encode(), record.key, record.value):
        digest.update(b"-" if part is None else b"%d:" % len(part) + part)
    return digest.hexdigest()


async def run_archiver(settings: Settings, directory: Path) -> None:
    """Archive until SIGTERM or SIGINT."""
    archiver = Archiver(settings, directory)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, archiver.stop)
    await archiver.run()
