"""What people do with dead letters: look, send again once the cause is mended, take away as a file.

The topic is a log, so a letter that was sent again stays on it; a `Settled` record beside it says that it was, and from
then on it is passed over. A message carries how often it came back, so that one that is refused again and again does
not circle for ever.
"""

from __future__ import annotations

import base64
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
from aiokafka.structs import ConsumerRecord

from infra.errors import DataError, InvalidMessage
from infra.kafka import Producer
from infra.kafka_consumer import BatchConsumer
from infra.settings import KafkaSettings
from streams.batches import REQUEUED_HEADER
from streams.dead_letters import DeadLetter, decode_dead_letter
from streams.topics import DEAD_LETTERS, TOPICS
from streams.versions import Reader, first_major

logger = logging.getLogger(__name__)

# Reading everything that is there ends when nothing came for this long; end offsets are not to be trusted
# everywhere.
QUIET_S = 1.5
MAX_TIMES = 3
SETTLED_VERSION = 1
COMPACTED = frozenset(spec.name for spec in TOPICS if spec.compacted)
FORMATS = (".jsonl", ".parquet")


class Settled(msgspec.Struct, frozen=True, kw_only=True):
    """Value on `dead-letters`, under the letter's key: the letter at this place was sent again."""

    settled_partition: int
    settled_offset: int
    schema_version: int = msgspec.field(default_factory=first_major)


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter with its key and where and when (UTC) it stands on `dead-letters`."""

    letter: DeadLetter
    key: bytes | None
    partition: int
    offset: int
    at: datetime


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which letters: None asks for all."""

    reason: str | None = None
    topic: str | None = None
    since: datetime | None = None

    def holds(self, found: Letter) -> bool:
        return (
            (self.reason is None or found.letter.reason == self.reason)
            and (self.topic is None or found.letter.topic == self.topic)
            and (self.since is None or found.at >= self.since)
        )


parse_settled = Reader(Settled, "a settled mark", SETTLED_VERSION)
_encoder = msgspec.json.Encoder()


async def read_letters(settings: KafkaSettings, wanted: Wanted, *, limit: int) -> list[Letter]:
    """The first `limit` letters that are wanted and not settled, by partition in order; joins no group. What is no
    letter, or one of a newer major, is passed over with a warning.

    Raises:
        BrokerUnavailable: no answer.
    """
    settled: set[tuple[int, int]] = set()
    async for record in _records(settings):
        if (mark := _mark(record)) is not None:
            settled.add((mark.settled_partition, mark.settled_offset))
    found: list[Letter] = []
    async for record in _records(settings):
        if (record.partition, record.offset) in settled or _mark(record) is not None:
            continue
        try:
            letter = decode_dead_letter(record.value or b"")
        except InvalidMessage as error:
            logger.warning("%s/%d@%d is passed over: %s", DEAD_LETTERS, record.partition, record.offset, error)
            continue
        at = datetime.fromtimestamp(record.timestamp / 1_000, UTC)
        one = Letter(letter, record.key, record.partition, record.offset, at)
        if wanted.holds(one):
            found.append(one)
            if len(found) >= limit:
                break
    return found


async def requeue(
    settings: KafkaSettings, letters: Sequence[Letter], *, max_times: int = MAX_TIMES, dry_run: bool = False
) -> Counter[str]:
    """Send the raw bytes of each letter to its topic under its key, then settle it; returns how many were `sent`, and
    how many left: `too_often` (it came back `max_times` times), `incomplete` (only a beginning was kept) or
    `superseded` (a compacted topic has something newer under its key, which it would undo).

    Ends between the two steps send a letter twice the next time, never not at all.

    Raises:
        BrokerUnavailable: not acknowledged; those sent so far are settled.
    """
    counts: Counter[str] = Counter()
    newest = await _newest(settings, {one.letter.topic for one in letters} & COMPACTED)
    async with Producer(settings) as producer:
        for one in letters:
            letter = one.letter
            if newest.get((letter.topic, one.key), -1) > letter.offset:
                counts["superseded"] += 1
            elif letter.size is not None:
                counts["incomplete"] += 1
            elif letter.requeued >= max_times:
                counts["too_often"] += 1
            else:
                counts["sent"] += 1
                if not dry_run:
                    times = str(letter.requeued + 1).encode()
                    await producer.send(letter.topic, one.key, letter.raw_bytes, headers=[(REQUEUED_HEADER, times)])
                    mark = Settled(settled_partition=one.partition, settled_offset=one.offset)
                    await producer.send(DEAD_LETTERS, one.key, _encoder.encode(mark))
    return counts


def export(letters: Sequence[Letter], path: Path) -> None:
    """Write letters as JSON lines or Parquet, by the name's ending, replacing the file whole.

    Raises:
        DataError: another ending.
    """
    if path.suffix not in FORMATS:
        raise DataError(f"export to a file that ends in {' or '.join(FORMATS)}", file=str(path))
    aside = path.with_name(f".{path.name}.part")
    rows = [as_row(one) for one in letters]
    if path.suffix == ".jsonl":
        aside.write_bytes(b"".join(_encoder.encode(row) + b"\n" for row in rows))
    else:
        pq.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA), aside)
    aside.replace(path)


def as_row(one: Letter) -> dict[str, Any]:
    """A letter for people and files: `raw` in base64, `text` what can be read of it."""
    letter = one.letter
    return {
        "at": one.at,
        "reason": letter.reason,
        "error": letter.error,
        "topic": letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "requeued": letter.requeued,
        "key": None if one.key is None else base64.b64encode(one.key).decode("ascii"),
        "raw": letter.raw,
        "size": letter.size,
        "text": letter.raw_bytes.decode("utf-8", errors="backslashreplace"),
    }


_SCHEMA = pa.schema(
    [
        ("at", pa.timestamp("ms", "UTC")),
        ("reason", pa.string()),
        ("error", pa.string()),
        ("topic", pa.string()),
        ("partition", pa.int32()),
        ("offset", pa.int64()),
        ("requeued", pa.int32()),
        ("key", pa.string()),
        ("raw", pa.string()),
        ("size", pa.int64()),
        ("text", pa.string()),
    ]
)


def _mark(record: ConsumerRecord) -> Settled | None:
    try:
        return parse_settled(record.value or b"")
    except InvalidMessage:
        return None


async def _newest(settings: KafkaSettings, topics: Iterable[str]) -> dict[tuple[str, bytes | None], int]:
    """(topic, key) -> offset of the last message; a key is always on the same partition."""
    return {(topic, record.key): record.offset for topic in topics async for record in _records(settings, topic)}


async def _records(settings: KafkaSettings, topic: str = DEAD_LETTERS) -> AsyncIterator[ConsumerRecord]:
    async with BatchConsumer(settings, [topic], batch_size=1_000) as consumer:
        quiet_since = time.monotonic()
        while time.monotonic() - quiet_since < QUIET_S:
            for records in (await consumer.getmany(100)).values():
                for record in records:
                    yield record
                quiet_since = time.monotonic()
