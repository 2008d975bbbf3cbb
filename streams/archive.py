"""The archive: what stood on a topic, as Parquet files that say themselves which offsets they hold.

    DIR/<topic>/segments/p00003-g00000-<first>-<last>.parquet   as archived: one partition, offsets first..last
    DIR/<topic>/days/2026-11-21.000004.parquet                  compacted: one UTC day of occurred_at, all partitions
    DIR/<topic>/compacted.json                                  which day files count, and through which offsets

A file appears whole or not at all (written aside, flushed, renamed), so the files are the truth: an archiver goes on
after the last offset they name, and one that was killed has neither lost nor doubled a message. A generation is one
life of a topic: when it is made anew, its offsets begin again and the generation grows.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from infra.errors import ConfigurationError, DataError
from streams.events import Event, to_micros
from streams.topics import TRANSACTIONS

FORMAT = 1
_SEGMENT_KEY = b"modiste.segment"
_SEGMENT_NAME = re.compile(r"p(\d{5})-g(\d{5})-(\d{20})-(\d{20})\.parquet")
_PART = ".part"

_PLACE = [("generation", pa.int32()), ("partition", pa.int32()), ("offset", pa.int64())]
_TIME = pa.timestamp("us", tz="UTC")
EVENT_COLUMNS = pa.schema(
    [
        *_PLACE,
        ("event_id", pa.string()),
        ("type", pa.string()),
        ("occurred_at", _TIME),
        ("customer_id", pa.string()),
        ("article_id", pa.string()),
        ("price", pa.float64()),
        ("quantity", pa.int32()),
        ("sales_channel_id", pa.int8()),
        ("request_id", pa.string()),
    ]
)
# Topics other than `transactions`: the raw message; occurred_at is the broker's time, value is null for a removal.
RAW_COLUMNS = pa.schema([*_PLACE, ("occurred_at", _TIME), ("key", pa.binary()), ("value", pa.binary())])


class Segment(msgspec.Struct, frozen=True, kw_only=True):
    """What one segment file holds, also kept in its metadata.

    first, last: offsets, inclusive; all messages between them were read. rows: those kept. skipped: those that are no
    events. digest: of the message at `last`, by which a topic that was made anew is known.
    """

    format: int = FORMAT
    topic: str
    partition: int
    generation: int
    first: int
    last: int
    rows: int
    skipped: int
    digest: str

    @property
    def file_name(self) -> str:
        return f"p{self.partition:05d}-g{self.generation:05d}-{self.first:020d}-{self.last:020d}.parquet"


class Position(msgspec.Struct, frozen=True, kw_only=True):
    """How far a partition is archived: `last` offset of its newest generation, and that message's digest."""

    generation: int
    last: int
    digest: str


class Compacted(msgspec.Struct, frozen=True, kw_only=True):
    """The day files that count. days: day -> file name. through: partition -> what is in them. skipped: in all."""

    format: int = FORMAT
    number: int = 0
    days: dict[str, str] = {}
    through: dict[str, Position] = {}
    rows: int = 0
    repeated: int = 0
    skipped: int = 0


@dataclass(frozen=True, slots=True)
class Kept:
    """An event and where it stood."""

    offset: int
    event: Event


class TopicArchive:
    """The files of one topic below `directory`."""

    def __init__(self, directory: Path, topic: str) -> None:
        self.topic = topic
        self.path = directory / topic
        self.segments_path = self.path / "segments"
        self.days_path = self.path / "days"
        self.schema = EVENT_COLUMNS if topic == TRANSACTIONS else RAW_COLUMNS

    def prepare(self) -> None:
        """Make the folders and clear what a killed writer left aside."""
        for folder in (self.segments_path, self.days_path):
            folder.mkdir(parents=True, exist_ok=True)
        for aside in self.segments_path.glob(f"*{_PART}"):
            aside.unlink()

    def compacted(self) -> Compacted:
        """What has been compacted; nothing where nothing has.

        Raises:
            DataError: the file is damaged or of another format.
        """
        path = self.path / "compacted.json"
        try:
            found = msgspec.json.decode(path.read_bytes(), type=Compacted)
        except FileNotFoundError:
            return Compacted()
        except (msgspec.MsgspecError, UnicodeDecodeError, OSError) as error:
            raise DataError(f"not the list of an archive's day files: {error}", file=str(path)) from error
        if found.format != FORMAT:
            raise DataError(f"archive of format {found.format}; this code reads format {FORMAT}", file=str(path))
        return found

    def segments(self, through: dict[str, Position] | None = None) -> list[Path]:
        """The segment files that are not in day files yet, by partition and offset.

        Raises:
            DataError: two of them hold the same offset.
        """
        done = self.compacted().through if through is None else through
        found = []
        for path in sorted(self.segments_path.glob("*.parquet")):
            partition, generation, first, last = _numbers(path)
            held = done.get(str(partition))
            if held is not None and (generation, last) <= (held.generation, held.last):
                continue
            if held is not None and generation == held.generation and first <= held.last:
                raise DataError(f"begins at or before offset {held.last}, which is in a day file", file=str(path))
            found.append((partition, generation, first, last, path))
        found.sort()
        for before, after in itertools.pairwise(found):
            if before[:2] == after[:2] and after[2] <= before[3]:
                raise DataError(f"overlaps with {before[4].name}", file=str(after[4]))
        return [path for *_, path in found]

    def positions(self) -> dict[int, Position]:
        """How far each partition is archived.

        Raises:
            DataError: a file is damaged or overlaps with another.
        """
        compacted = self.compacted()
        found = {int(partition): position for partition, position in compacted.through.items()}
        newest = {_numbers(path)[0]: path for path in self.segments(compacted.through)}
        for partition, path in newest.items():
            segment = read_segment(path)
            found[partition] = Position(generation=segment.generation, last=segment.last, digest=segment.digest)
        return found

    def day_files(self) -> list[Path]:
        """The day files in time order; segments that are not compacted are not in them."""
        return [self.days_path / name for _, name in sorted(self.compacted().days.items())]

    def write_segment(self, segment: Segment, table: pa.Table) -> None:
        """Put a segment in place: when this returns it is on the disk, before that it does not exist."""
        schema = self.schema.with_metadata({_SEGMENT_KEY: msgspec.json.encode(segment)})
        target = self.segments_path / segment.file_name
        write_whole(table.cast(self.schema).replace_schema_metadata(schema.metadata), target)


def read_segment(path: Path) -> Segment:
    """What a segment says of itself.

    Raises:
        DataError: not a whole Parquet file, or not a segment under its own name.
    """
    try:
        metadata = pq.read_schema(path).metadata or {}
        segment = msgspec.json.decode(metadata.get(_SEGMENT_KEY, b""), type=Segment)
    except (pa.ArrowException, OSError, msgspec.MsgspecError) as error:
        raise DataError(f"not a segment of the archive: {error}", file=str(path)) from error
    if segment.format != FORMAT or segment.file_name != path.name:
        raise DataError(f"holds segment {segment.file_name} of format {segment.format}", file=str(path))
    return segment


def read_rows(path: Path) -> pa.Table:
    """All rows of a segment or day file.

    Raises:
        DataError: not a whole Parquet file.
    """
    try:
        return pq.ParquetFile(path).read(use_threads=False).replace_schema_metadata(None)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"not a whole Parquet file: {error}", file=str(path)) from error


def event_rows(kept: Sequence[Kept], partition: int, generation: int) -> pa.Table:
    """Rows of EVENT_COLUMNS in the order given."""
    events = [entry.event for entry in kept]
    columns: dict[str, Any] = {
        "generation": [generation] * len(kept),
        "partition": [partition] * len(kept),
        "offset": [entry.offset for entry in kept],
        "occurred_at": pa.array([to_micros(event.occurred_at) for event in events], pa.int64()).cast(_TIME),
        # The event log has a byte for it; what does not fit into that is no sales channel.
        "sales_channel_id": [_channel(event.sales_channel_id) for event in events],
        **{
            name: [getattr(event, name) for event in events]
            for name in ("event_id", "type", "customer_id", "article_id", "price", "quantity", "request_id")
        },
    }
    arrays = [
        column if isinstance(column := columns[field.name], pa.Array) else pa.array(column, field.type)
        for field in EVENT_COLUMNS
    ]
    return pa.Table.from_arrays(arrays, schema=EVENT_COLUMNS)


def write_whole(table: pa.Table, target: Path) -> None:
    """A Parquet file that is there whole or not at all, also after a power cut.

    Raises:
        DataError: the disk refuses.
    """
    aside = target.with_name(target.name + _PART)
    try:
        with aside.open("wb") as stream:
            pq.write_table(table, stream, compression="zstd")
            stream.flush()
            os.fsync(stream.fileno())
        aside.rename(target)
        flush_folder(target.parent)
    except OSError as error:
        raise DataError(f"cannot be written: {error}", file=str(target)) from error


def flush_folder(folder: Path) -> None:
    """A rename in `folder` onto the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def locked(path: Path, what: str, *, wait: bool) -> Iterator[None]:
    """Hold the lock file `path`; it dies with the process.

    Raises:
        ConfigurationError: `wait` is False and another process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError as error:
            raise ConfigurationError(f"{what} is running already on {path.parent}; one is enough") from error
        yield


def _channel(given: int | None) -> int | None:
    return given if given is not None and 0 <= given <= 127 else None


def _numbers(path: Path) -> tuple[int, int, int, int]:
    """Partition, generation, first and last offset of a segment's name."""
    match = _SEGMENT_NAME.fullmatch(path.name)
    if match is None:
        raise DataError("not a segment's name; what is not the archive's must not lie there", file=str(path))
    partition, generation, first, last = map(int, match.groups())
    return partition, generation, first, last
