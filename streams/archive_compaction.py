"""Segments into day files: an event stands in the file of the day on which it happened, however late it came.

Killed at any point, nothing is lost or doubled: new day files have new names, one rename of `compacted.json` makes them
count, and only then are the segments in them removed. What does not count is cleared by the next compaction.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from streams.archive import (
    Compacted,
    Position,
    TopicArchive,
    flush_folder,
    locked,
    read_rows,
    read_segment,
    write_whole,
)
from streams.topics import TRANSACTIONS

# Segments merged at a time; bounds memory however much lies there.
AT_ONCE = 64
# A day file that was replaced stays for readers that have begun with it.
KEEP_REPLACED_S = 3_600.0
_DAY_MICROS = 86_400_000_000


@dataclass(frozen=True)
class Compaction:
    """What one compaction did. repeated: rows left out, since their customer's event was there already."""

    segments: int
    rows: int
    repeated: int
    days: int


def compact(archive: TopicArchive) -> Compaction:
    """Merge all segments into day files; safe beside a running archiver and its readers.

    Within a day an `event_id` of a customer is kept once, as it came first: what redelivery and resent files repeat.

    Raises:
        DataError: a file is damaged; nothing has changed then.
    """
    archive.days_path.mkdir(parents=True, exist_ok=True)
    with locked(archive.path / ".compaction.lock", "a compaction", wait=True):
        state = archive.compacted()
        _clear(archive, state)
        segments = rows = repeated = 0
        touched: set[str] = set()
        while batch := archive.segments(state.through)[:AT_ONCE]:
            before = state
            state, days = _merge(archive, state, batch)
            segments += len(batch)
            rows += state.rows - before.rows
            repeated += state.repeated - before.repeated
            touched |= days
        return Compaction(segments, rows, repeated, len(touched))


def _merge(archive: TopicArchive, state: Compacted, batch: list[Path]) -> tuple[Compacted, set[str]]:
    """One step: day files, the list that names them, and then the segments go."""
    archive.days_path.mkdir(parents=True, exist_ok=True)
    number = state.number + 1
    through, days = dict(state.through), dict(state.days)
    parts: dict[str, list[pa.Table]] = defaultdict(list)
    skipped = 0
    for path in batch:
        segment = read_segment(path)
        through[str(segment.partition)] = Position(
            generation=segment.generation, last=segment.last, digest=segment.digest
        )
        skipped += segment.skipped
        for day, rows in _by_day(read_rows(path)):
            parts[day].append(rows)
    rows, repeated = state.rows, state.repeated
    for day, tables in parts.items():
        held = [read_rows(archive.days_path / days[day])] if day in days else []
        known = sum(table.num_rows for table in held)
        given = known + sum(table.num_rows for table in tables)
        merged = _ordered(pa.concat_tables([*held, *tables]), once=archive.topic == TRANSACTIONS)
        days[day] = f"{day}.{number:06d}.parquet"
        write_whole(merged, archive.days_path / days[day])
        rows += merged.num_rows - known
        repeated += given - merged.num_rows
    after = Compacted(
        number=number, days=days, through=through, rows=rows, repeated=repeated, skipped=state.skipped + skipped
    )
    _point(archive, after)
    for path in batch:
        path.unlink()
    now = time.time()
    for day in parts:
        if day in state.days:
            os.utime(archive.days_path / state.days[day], (now, now))
    return after, set(parts)


def _by_day(table: pa.Table) -> list[tuple[str, pa.Table]]:
    days = table["occurred_at"].cast(pa.int64()).to_numpy() // _DAY_MICROS
    return [(str(np.datetime64(int(day), "D")), table.filter(pa.array(days == day))) for day in np.unique(days)]


def _ordered(table: pa.Table, *, once: bool) -> pa.Table:
    """In the event log's order; `once` keeps the first arrival of each of a customer's event ids."""
    place = [(name, "ascending") for name in ("generation", "partition", "offset")]
    if not once:
        return table.sort_by([("occurred_at", "ascending"), *place])
    table = table.sort_by([("customer_id", "ascending"), ("event_id", "ascending"), *place]).combine_chunks()
    keep = np.ones(table.num_rows, bool)
    if table.num_rows > 1:
        same = [pc.equal(table[name][1:], table[name][:-1]) for name in ("customer_id", "event_id")]
        keep[1:] = ~np.asarray(pc.and_(*same))
    return table.filter(pa.array(keep)).sort_by(
        [("occurred_at", "ascending"), ("event_id", "ascending"), ("customer_id", "ascending")]
    )


def _point(archive: TopicArchive, state: Compacted) -> None:
    target = archive.path / "compacted.json"
    aside = archive.path / ".compacted.json.new"
    with aside.open("wb") as stream:
        stream.write(msgspec.json.format(msgspec.json.encode(state), indent=2))
        stream.flush()
        os.fsync(stream.fileno())
    aside.rename(target)
    flush_folder(archive.path)


def _clear(archive: TopicArchive, state: Compacted) -> None:
    """Remove what a killed compaction left, and day files that were replaced long ago."""
    waiting = {path.name for path in archive.segments(state.through)}
    for path in archive.segments_path.glob("*.parquet"):
        if path.name not in waiting:
            path.unlink()
    counted = set(state.days.values())
    for path in archive.days_path.iterdir():
        if path.name not in counted and time.time() - path.stat().st_mtime > KEEP_REPLACED_S:
            path.unlink()
