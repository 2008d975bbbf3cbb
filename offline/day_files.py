"""Sorts a stream of events of any length into one Parquet file a UTC day, in bounded memory.

Rows are held back, spilled to one scratch file a day whenever the buffer is full, and each day is sorted at
the end. So a history that arrives unordered costs no more memory than a sorted one.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from offline.sources.base import EVENT_SCHEMA, SOURCE_EVENT_SCHEMA

if TYPE_CHECKING:
    from hashlib import _Hash

# Held back before they are spilled: some 25 to 50 MB.
BUFFER_ROWS = 200_000
_DAY_MICROS = 86_400_000_000

# phase ("articles", "customers", "events", "sort"), rows or days done, how many in all if known
Progress = Callable[[str, int, int | None], None]


@dataclass
class Totals:
    """What `DayFiles.finish` wrote. `first` and `last` are event times."""

    rows: int
    days: int
    first: datetime
    last: datetime
    notes: Counter[str] = field(default_factory=Counter)


class DayFiles:
    """Takes batches of SOURCE_EVENT_SCHEMA and leaves `directory`/events/YYYY-MM-DD.parquet."""

    def __init__(self, directory: Path, buffer_rows: int = BUFFER_ROWS) -> None:
        self.events = directory / "events"
        self.events.mkdir()
        self._scratch = directory / "scratch"
        self._scratch.mkdir()
        self._buffer_rows = buffer_rows
        self._held: dict[int, list[pa.RecordBatch]] = {}
        self._rows = 0

    def add(self, batch: pa.RecordBatch) -> None:
        """Take a batch in; may spill what is held."""
        if not batch.num_rows:
            return
        days = batch.column("occurred_at").cast(pa.int64()).to_numpy() // _DAY_MICROS
        if (days[1:] < days[:-1]).any():
            order = np.argsort(days, kind="stable")
            batch, days = batch.take(pa.array(order)), days[order]
        starts = np.flatnonzero(np.diff(days, prepend=days[:1] - 1))
        for start, stop in zip(starts.tolist(), [*starts[1:].tolist(), len(days)], strict=True):
            self._held.setdefault(int(days[start]), []).append(batch.slice(start, stop - start))
        self._rows += batch.num_rows
        if self._rows >= self._buffer_rows:
            self._spill()

    def finish(self, digest: _Hash, report: Progress) -> Totals:
        """Sort and write every day, feeding the values into `digest`. There must be at least one event."""
        self._spill()
        spilled = sorted(self._scratch.iterdir())
        totals: Totals | None = None
        for done, scratch in enumerate(spilled, start=1):
            table, repeats = sort_day(_read_spill(scratch))
            hash_table(digest, table)
            pq.write_table(table, self.events / f"{scratch.stem}.parquet", compression="zstd")
            scratch.unlink()
            times = table["occurred_at"]
            if totals is None:
                totals = Totals(0, 0, times[0].as_py(), times[-1].as_py())
            totals.rows += table.num_rows
            totals.days += 1
            totals.last = times[-1].as_py()
            if repeats:
                totals.notes["repeated lines numbered"] += repeats
            report("sort", done, len(spilled))
        shutil.rmtree(self._scratch)
        if totals is None:
            raise ValueError("no events to write")
        return totals

    def _spill(self) -> None:
        for day, batches in self._held.items():
            name = str(np.datetime64(day, "D"))
            # Each spill appends one self-contained Arrow stream.
            with (
                (self._scratch / f"{name}.arrows").open("ab") as file,
                pa.ipc.new_stream(file, SOURCE_EVENT_SCHEMA) as stream,
            ):
                for batch in batches:
                    stream.write_batch(batch)
        self._held.clear()
        self._rows = 0


def sort_day(table: pa.Table) -> tuple[pa.Table, int]:
    """One day in (occurred_at, event_id) order, and how many rows shared an id with an earlier one.

    Of rows with one id the earliest row of the file keeps it and the n-th is named `id-n`: ids are unique,
    and the same whenever the same file is imported.
    """
    table = table.sort_by([(name, "ascending") for name in ("occurred_at", "event_id", "row")]).combine_chunks()
    ids = table["event_id"].combine_chunks()
    same = np.zeros(len(ids), bool)
    if len(ids) > 1:
        same[1:] = pc.equal(ids[1:], ids[:-1]).to_numpy(zero_copy_only=False)
    table = table.select(EVENT_SCHEMA.names)
    if not same.any():
        return table, 0
    position = np.arange(len(ids))
    number = position - np.maximum.accumulate(np.where(same, 0, position)) + 1
    suffixed = pc.binary_join_element_wise(ids, pa.array(number).cast(pa.string()), "-")
    table = table.set_column(0, EVENT_SCHEMA.field(0), pc.if_else(pa.array(same), suffixed, ids))
    return table.sort_by([("occurred_at", "ascending"), ("event_id", "ascending")]).combine_chunks(), int(same.sum())


def hash_table(digest: _Hash, table: pa.Table) -> None:
    """Feed the table's names and values into `digest`, independent of chunks, offsets and file format."""
    for name in table.column_names:
        column = table[name].combine_chunks()
        digest.update(f"{name}:{len(column)}:".encode())
        digest.update(np.packbits(pc.is_valid(column).to_numpy(zero_copy_only=False)).tobytes())
        if pa.types.is_string(column.type):
            filled = pc.fill_null(column, "")
            digest.update(pc.binary_length(filled).to_numpy(zero_copy_only=False).astype("<i4").tobytes())
            joined = pc.binary_join(pa.ListArray.from_arrays(pa.array([0, len(filled)], pa.int32()), filled), "")
            digest.update(joined[0].as_buffer())
        else:
            numbers = column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column
            digest.update(np.ascontiguousarray(pc.fill_null(numbers, 0).to_numpy(zero_copy_only=False)).tobytes())


def _read_spill(path: Path) -> pa.Table:
    tables = []
    with pa.OSFile(str(path)) as file:
        while file.tell() < file.size():
            tables.append(pa.ipc.open_stream(file).read_all())
    return pa.concat_tables(tables)
