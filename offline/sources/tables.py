"""Reads CSV and Parquet tables batch by batch and turns raw columns into checked ones.

Row numbers are 1-based data rows of the file (the CSV header is not counted), right across batches.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from infra.errors import ConfigurationError, DataError
from offline.sources.base import EXAMPLES, Findings

BATCH_ROWS = 65_536
CSV_BLOCK_BYTES = 4 << 20
MAX_QUANTITY = 65_535
_FIRST_DAY = pa.scalar(np.datetime64("1990-01-01", "us"), pa.timestamp("us"))
_PER_SECOND = {"s": 1.0, "ms": 1e3, "us": 1e6}
_FAR_SECONDS = 5e9  # after 2100
# Without a zone, and with one.
_MOMENTS = (pa.timestamp("us"), pa.timestamp("us", "UTC"))
_LAST_DAY = pa.scalar(np.datetime64("2100-01-01", "us"), pa.timestamp("us"))


def find_table(directory: Path, stem: str, kinds: Sequence[str] = ("csv", "parquet")) -> Path:
    """The one file named `stem` in `directory`.

    Raises:
        DataError: there is none (lists the names looked for and what is there).
        ConfigurationError: the directory is missing, or the table is there in two formats.
    """
    if not directory.is_dir():
        raise ConfigurationError(f"{directory} is not a directory; give the one that holds the data files")
    names = [f"{stem}.{kind}" for kind in kinds]
    found = [directory / name for name in names if (directory / name).is_file()]
    if not found:
        here = sorted(p.name for p in directory.iterdir())
        listing = ", ".join(here[:12]) + (", …" if len(here) > 12 else "") if here else "nothing"
        raise DataError(f"no such file; looked for {' or '.join(names)}, found {listing}", file=str(directory / stem))
    if len(found) > 1:
        raise ConfigurationError(f"{directory} holds {' and '.join(p.name for p in found)}; keep one of them")
    return found[0]


def row_count(path: Path) -> int | None:
    """Rows of a Parquet file by its footer; None for CSV, which would have to be read."""
    if path.suffix != ".parquet":
        return None
    with _open_parquet(path) as file:
        return int(file.metadata.num_rows)


def read_batches(
    path: Path, columns: Sequence[str], optional: Sequence[str] = (), *, separator: str = ","
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """(first data row, batch) pairs with `columns` and those of `optional` that the file has.

    CSV columns come as binary, so that nothing is guessed and each cell can be checked; Parquet ones in their
    own type. `separator` is what stands between the cells of a CSV line.

    Raises:
        DataError: the file cannot be read or a column is missing.
    """
    if path.suffix == ".parquet":
        yield from _read_parquet(path, columns, optional)
    else:
        yield from _read_csv(path, columns, optional, separator)


def _choose(path: Path, found: Sequence[str], columns: Sequence[str], optional: Sequence[str]) -> list[str]:
    missing = [name for name in columns if name not in found]
    if missing:
        raise DataError(f"column missing; found {', '.join(found) or 'none'}", file=path.name, column=missing[0])
    return [*columns, *(name for name in optional if name in found)]


def _open_parquet(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"not a whole Parquet file (cut short?): {error}", file=path.name) from error


def _read_parquet(path: Path, columns: Sequence[str], optional: Sequence[str]) -> Iterator[tuple[int, pa.RecordBatch]]:
    with _open_parquet(path) as file:
        chosen = _choose(path, file.schema_arrow.names, columns, optional)
        row = 1
        batches = file.iter_batches(BATCH_ROWS, columns=chosen, use_threads=False)
        while True:
            try:
                batch = next(batches, None)
            except (pa.ArrowException, OSError) as error:
                raise DataError(f"cannot be read on: {error}", file=path.name, row=row) from error
            if batch is None:
                return
            yield row, batch
            row += batch.num_rows


def _read_csv(
    path: Path, columns: Sequence[str], optional: Sequence[str], separator: str
) -> Iterator[tuple[int, pa.RecordBatch]]:
    try:
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as stream:
            header = next(csv.reader(stream, delimiter=separator), [])
    except (csv.Error, OSError) as error:
        raise DataError(f"not a CSV file: {error}", file=path.name) from error
    chosen = _choose(path, header, columns, optional)
    if _has_open_quote(path):
        raise DataError("a quoted cell is never closed (cut short?)", file=path.name)
    broken: list[pacsv.InvalidRow] = []

    def remember(line: pacsv.InvalidRow) -> str:
        broken.append(line)
        return "error"

    row = 1
    try:
        reader = pacsv.open_csv(
            path,
            read_options=pacsv.ReadOptions(use_threads=False, block_size=CSV_BLOCK_BYTES),
            parse_options=pacsv.ParseOptions(
                delimiter=separator, newlines_in_values=True, invalid_row_handler=remember
            ),
            convert_options=pacsv.ConvertOptions(
                include_columns=chosen,
                column_types=dict.fromkeys(chosen, pa.binary()),
                strings_can_be_null=False,
            ),
        )
        for batch in reader:
            yield row, batch
            row += batch.num_rows
    except pa.ArrowException as error:
        if broken:
            line = broken[0]
            raise DataError(
                f"{line.actual_columns} columns where the header has {line.expected_columns} (cut short?)",
                file=path.name,
                row=line.number - 1,  # the reader counts the header, and no blank lines
            ) from error
        raise DataError(f"cannot be read on: {error}", file=path.name, row=row) from error


def _has_open_quote(path: Path) -> bool:
    """Whether the file ends inside quotes: the fast reader would take all that follows as one cell."""
    quotes = 0
    with path.open("rb") as stream:
        while chunk := stream.read(CSV_BLOCK_BYTES):
            quotes += chunk.count(b'"')
    return quotes % 2 == 1


class RawBatch:
    """One batch of a file: gives checked columns and remembers which rows are broken.

    A cell that is null, empty or blank counts as missing. Methods return arrays as long as the batch.
    """

    def __init__(self, batch: pa.RecordBatch, first_row: int, file: str, findings: Findings) -> None:
        self.batch = batch
        self.rows = np.arange(first_row, first_row + batch.num_rows, dtype=np.int64)
        self.file = file
        self.findings = findings
        self.good = np.ones(batch.num_rows, bool)
        self._dropped = np.zeros(batch.num_rows, bool)

    def text(self, column: str) -> pa.Array:
        """Trimmed strings; missing cells, and columns the file lacks, are null."""
        if column not in self.batch.schema.names:
            return pa.nulls(self.batch.num_rows, pa.string())
        raw = self.batch.column(column)
        if pa.types.is_dictionary(raw.type):
            raw = raw.dictionary_decode()
        try:
            values = raw.cast(pa.string())
        except pa.ArrowException as error:
            raise DataError(f"not text: {error}", file=self.file, column=column, row=self._undecodable(raw)) from error
        values = pc.utf8_trim_whitespace(values)
        return pc.if_else(pc.equal(values, ""), pa.scalar(None, pa.string()), values)

    def ids(self, column: str, longest: int = 128) -> pa.Array:
        """Strings of 1 to `longest` characters (an event's id has at most 128)."""
        values = self.text(column)
        self.fail("ids_present", column, pc.is_null(values), values, "an id is needed here")
        too_long = pc.fill_null(pc.greater(pc.utf8_length(values), longest), False)
        self.fail("ids_valid", column, too_long, values, f"an id has at most {longest} characters")
        return values

    def price(self, column: str) -> pa.Array:
        """float64 >= 0; a missing price is null and fine."""
        values = self._numbers(column, pa.float64(), "prices", "not a number")
        wrong = pc.fill_null(pc.invert(pc.and_(pc.is_finite(values), pc.greater_equal(values, 0.0))), False)
        self.fail("prices", column, wrong, values, "a price is a finite number >= 0")
        return values

    def whole(self, column: str, check: str, low: int, high: int, *, required: bool = True) -> pa.Array:
        """int64 in [low, high]."""
        values = self._numbers(column, pa.int64(), check, "not a whole number")
        allowed = f"a whole number from {low} to {high} is needed"
        inside = pc.and_(pc.greater_equal(values, low), pc.less_equal(values, high))
        self.fail(check, column, pc.fill_null(pc.invert(inside), False), values, allowed)
        if required:
            missing = pc.and_(pc.is_null(values), pa.array(self.good))
            self.fail(check, column, missing, values, allowed)
        return values

    def moment(self, column: str) -> pa.Array:
        """timestamp[us, UTC] of a date, a timestamp or an ISO 8601 string; without a zone taken as UTC."""
        raw = self.batch.column(column)
        if pa.types.is_timestamp(raw.type) or pa.types.is_date(raw.type):
            zone = raw.type.tz if pa.types.is_timestamp(raw.type) else None
            values = raw.cast(pa.timestamp("us", zone), safe=False).cast(pa.timestamp("us"))
        else:
            raw = self.text(column)
            values = _parse_moments(raw)
        self.fail("dates", column, pc.is_null(values), raw, "not a date of the form YYYY-MM-DD")
        return self._in_range(column, values, raw)

    def moment_as(self, column: str, form: str) -> pa.Array:
        """The same of `form`: iso as `moment`; s, ms or us since 1970; or a pattern of strptime."""
        if form == "iso":
            return self.moment(column)
        raw = self.batch.column(column)
        if form in _PER_SECOND:
            reason = f"not a number of {form} since 1970"
            numbers = self._numbers(column, pa.float64(), "dates", reason)
            self.fail("dates", column, pc.and_(pc.is_null(numbers), pa.array(self.good)), raw, reason)
            seconds = np.nan_to_num(numbers.to_numpy(zero_copy_only=False) / _PER_SECOND[form], nan=-1)
            # Anything outside of the years allowed goes to one far end, where it cannot overflow.
            micros = np.rint(np.clip(seconds, -1, _FAR_SECONDS) * 1e6).astype(np.int64)
            values = pa.array(micros, mask=np.asarray(numbers.is_null())).cast(pa.timestamp("us"))
            return self._in_range(column, values, raw)
        texts = self.text(column).dictionary_encode()
        parsed = pa.array([_parse_pattern(text, form) for text in texts.dictionary.to_pylist()], pa.timestamp("us"))
        values = parsed.take(texts.indices)
        self.fail("dates", column, pc.is_null(values), raw, f"not a time of the form {form}")
        return self._in_range(column, values, raw)

    def _in_range(self, column: str, values: pa.Array, raw: pa.Array) -> pa.Array:
        outside = pc.or_(pc.less(values, _FIRST_DAY), pc.greater_equal(values, _LAST_DAY))
        self.fail("dates", column, pc.fill_null(outside, False), raw, "a date in 1990..2099 is needed")
        return values.cast(pa.timestamp("us", "UTC"))

    def known(self, column: str, ids: pa.Array, known: pa.Array | None, table: str) -> None:
        """Every id of `ids` must be in `known`; None leaves the check out."""
        if known is None:
            return
        unknown = pc.and_(pc.is_valid(ids), pc.invert(pc.is_in(ids, value_set=known)))
        self.fail("known_articles", column, unknown, ids, f"no such article in {table}")

    def fail(self, check: str, column: str, mask: pa.Array, values: pa.Array, reason: str) -> None:
        """Report the rows where `mask` is true, other than dropped ones, and leave them out."""
        wrong = np.asarray(mask.to_numpy(zero_copy_only=False), bool) & ~self._dropped
        if not wrong.any():
            return
        self.good &= ~wrong
        at = np.flatnonzero(wrong)
        shown: list[Any] = values.take(pa.array(at[:EXAMPLES])).to_pylist()
        self.findings.add(check, reason, file=self.file, column=column, rows=self.rows[at], values=shown)

    def drop(self, mask: pa.Array, note: str) -> None:
        """Leave out rows that are known not to be what the table is for, and count them."""
        wrong = np.asarray(pc.fill_null(mask, False).to_numpy(zero_copy_only=False), bool) & self.good
        if wrong.any():
            self._dropped |= wrong
            self.good &= ~wrong
            self.findings.notes[note] += int(wrong.sum())

    def finish(self, columns: dict[str, pa.Array], schema: pa.Schema) -> pa.RecordBatch:
        """The good rows in `schema`; columns not given are null."""
        # Broken cells may not fit the schema's types, so they go before the cast.
        mask = None if self.good.all() else pa.array(self.good)
        n = int(self.good.sum())
        arrays = []
        for field in schema:
            if field.name not in columns:
                arrays.append(pa.nulls(n, field.type))
                continue
            values = columns[field.name]
            arrays.append((values if mask is None else values.filter(mask)).cast(field.type))
        return pa.RecordBatch.from_arrays(arrays, schema=schema)

    def _numbers(self, column: str, kind: pa.DataType, check: str, reason: str) -> pa.Array:
        raw = self.batch.column(column)
        if not (pa.types.is_integer(raw.type) or pa.types.is_floating(raw.type)):
            raw = self.text(column)
        elif pa.types.is_floating(raw.type) and kind == pa.int64():
            raw = pc.if_else(pc.is_nan(raw), pa.scalar(None, raw.type), raw)  # how pandas writes a missing whole
        try:
            return raw.cast(kind)
        except pa.ArrowException:
            cells = raw.to_pylist()
        numbers = [_to_number(cell, whole=kind == pa.int64()) for cell in cells]
        wrong = [cell is not None and number is None for cell, number in zip(cells, numbers, strict=True)]
        self.fail(check, column, pa.array(wrong, pa.bool_()), raw, reason)
        return pa.array(numbers, kind)

    def _undecodable(self, raw: pa.Array) -> int | None:
        for row, cell in zip(self.rows.tolist(), raw.to_pylist(), strict=True):
            try:
                (cell or b"").decode() if isinstance(cell, bytes | None) else str(cell)
            except UnicodeDecodeError:
                return int(row)
        return None


def _parse_moments(texts: pa.Array) -> pa.Array:
    """timestamp[us] in UTC of ISO 8601 strings, else null (strptime would make 30 February a day in March)."""
    for kind in _MOMENTS:
        try:
            return texts.cast(kind).cast(pa.timestamp("us"))
        except pa.ArrowException:
            continue
    return pa.array([_parse_moment(text) for text in texts.to_pylist()], pa.timestamp("us"))


def _parse_moment(text: str | None) -> datetime | None:
    for kind in _MOMENTS:
        try:
            moment: datetime | None = pa.scalar(text, pa.string()).cast(kind).cast(pa.timestamp("us")).as_py()
        except (pa.ArrowException, ValueError):
            continue
        return moment
    return None


def _parse_pattern(text: str, pattern: str) -> datetime | None:
    try:
        moment = datetime.strptime(text, pattern)  # noqa: DTZ007 - without a zone it is taken as UTC
    except ValueError:
        return None
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo is not None else moment


def _to_number(cell: Any, *, whole: bool) -> float | int | None:
    try:
        number = float(cell)
    except (TypeError, ValueError):
        return None
    if isinstance(cell, str) and "_" in cell:  # a number for Python alone
        return None
    if not whole:
        return number
    return int(number) if number.is_integer() and abs(number) < 2**53 else None


class UniqueIds:
    """Collects a table's ids while it streams by; `check` reports those seen before."""

    def __init__(self, column: str, file: str, findings: Findings) -> None:
        self.column = column
        self.file = file
        self.findings = findings
        self._ids: list[pa.Array] = []
        self._rows: list[npt.NDArray[np.int64]] = []

    def add(self, raw: RawBatch, batch: pa.RecordBatch) -> pa.RecordBatch:
        self._ids.append(batch.column(self.column))
        self._rows.append(raw.rows[raw.good])
        return batch

    def check(self) -> None:
        """Report every id that stands in an earlier row too."""
        ids = pa.chunked_array(self._ids, pa.string())
        if pc.count_distinct(ids).as_py() == len(ids):
            return
        rows = np.concatenate(self._rows)
        first: dict[str, int] = {}
        again: list[tuple[int, str]] = []
        for row, name in zip(rows.tolist(), ids.to_pylist(), strict=True):
            if first.setdefault(name, row) != row:
                again.append((row, name))
        self.findings.add(
            "ids_unique",
            f"seen before, in row {first[again[0][1]]}" if len(again) == 1 else "seen in an earlier row",
            file=self.file,
            column=self.column,
            rows=np.array([row for row, _ in again], np.int64),
            values=[name for _, name in again[:EXAMPLES]],
        )
