"""The event log: a data set as sorted day files with articles, customers and a manifest, and its import.

    DIR/events/2017-01-01.parquet …   EVENT_SCHEMA, sorted by (occurred_at, event_id), one file a UTC day
    DIR/articles.parquet              ARTICLE_SCHEMA, every version of every article (offline/article_file.py)
    DIR/customers.parquet             CUSTOMER_SCHEMA, in the source's order
    DIR/manifest.json                 source, counts, span, files, content hash

An import streams: batches are spilled to one scratch file a day, then each day is sorted and written; articles alike,
by buckets. Memory holds one buffer of rows, the largest day or bucket, and the ids of articles and customers, however
long the history is and however often facts change.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from infra.errors import ConfigurationError, DataError
from offline.article_file import ArticleFile, articles_before, versions
from offline.day_files import DayFiles, Progress, hash_table
from offline.sources.base import CUSTOMER_SCHEMA, EVENT_SCHEMA, Findings, Source, StopAtFirst
from offline.sources.registry import open_source

if TYPE_CHECKING:
    from hashlib import _Hash

# 2: articles have versions. What format 1 says of an article may have been known only after a cut.
LOG_FORMAT = 2
_TIME = EVENT_SCHEMA.field("occurred_at").type


class LogFile(msgspec.Struct, frozen=True):
    rows: int
    bytes: int


class SourceFile(msgspec.Struct, frozen=True):
    name: str
    bytes: int
    mtime_ns: int


class LogManifest(msgspec.Struct, frozen=True, kw_only=True):
    """What is in the log. `content_hash` is over the values, so it does not depend on Parquet versions."""

    format: int
    source: str
    source_revision: int
    source_files: list[SourceFile]
    counts: dict[str, int]
    notes: dict[str, int]
    first: datetime
    last: datetime
    content_hash: str
    files: dict[str, LogFile]


class EventLog:
    """A finished event log, read only.

    Raises:
        DataError: not an event log, of another format, or a file is missing or of another size.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.manifest = _read_manifest(path)
        for name, entry in self.manifest.files.items():
            size = (path / name).stat().st_size if (path / name).is_file() else None
            if size != entry.bytes:
                raise DataError(
                    f"{'no file' if size is None else f'{size} bytes'}, {entry.bytes} expected; import again",
                    file=str(path / name),
                )

    @property
    def span(self) -> tuple[datetime, datetime]:
        """Times of the first and the last event."""
        return self.manifest.first, self.manifest.last

    @property
    def content_hash(self) -> str:
        """sha256 of all values in hex."""
        return self.manifest.content_hash

    @property
    def days(self) -> list[Path]:
        """The day files in time order."""
        return [self.path / name for name in sorted(self.manifest.files) if name.startswith("events/")]

    def scan(self, start: datetime | None = None, until: datetime | None = None) -> Iterator[pa.RecordBatch]:
        """Batches of EVENT_SCHEMA with start <= occurred_at < until, in (occurred_at, event_id) order."""
        _check_zone("start", start)
        _check_zone("until", until)
        for path in self.days:
            day = datetime.fromisoformat(path.stem).replace(tzinfo=UTC)
            if (start is not None and day + timedelta(days=1) <= start) or (until is not None and day >= until):
                continue
            table = _read_table(path)
            if start is not None and day < start:
                table = table.filter(pc.greater_equal(table["occurred_at"], pa.scalar(start, _TIME)))
            if until is not None and day + timedelta(days=1) > until:
                table = table.filter(pc.less(table["occurred_at"], pa.scalar(until, _TIME)))
            yield from table.combine_chunks().to_batches()

    def rows(self, start: datetime | None = None, until: datetime | None = None) -> int:
        """How many events `scan` gives; of whole days the manifest knows it."""
        total = 0
        for path in self.days:
            day = datetime.fromisoformat(path.stem).replace(tzinfo=UTC)
            following = day + timedelta(days=1)
            if (start is None or start <= day) and (until is None or until >= following):
                total += self.manifest.files[f"events/{path.name}"].rows
            elif (start is None or start < following) and (until is None or until > day):
                total += sum(
                    batch.num_rows for batch in self.scan(max(start or day, day), min(until or following, following))
                )
        return total

    def read(self, start: datetime | None = None, until: datetime | None = None) -> pa.Table:
        """All of `scan` as one table."""
        return pa.Table.from_batches(list(self.scan(start, until)), EVENT_SCHEMA)

    def articles(self, until: datetime | None = None) -> pa.Table:
        """ARTICLE_SCHEMA by article_id: what was known of each article strictly before `until`, None: at the end.

        Articles of which nothing was known yet are left out. `known_from` is when the article itself was first known.
        """
        _check_zone("until", until)
        return articles_before(self.path / "articles.parquet", until)

    def article_versions(self) -> Iterator[pa.Table]:
        """All that was ever known of the articles, ARTICLE_SCHEMA, by parts; all rows of an article in one part."""
        return versions(self.path / "articles.parquet")

    def customers(self) -> pa.Table:
        return _read_table(self.path / "customers.parquet")


def import_data(
    source_name: str, path: Path | None, out: Path, progress: Progress | None = None, *, base: Path | None = None
) -> EventLog:
    """Make the event log of a source in the directory `out`; an unchanged source is not imported again.

    Raises:
        ConfigurationError: unknown source, `out` is something else, another import into `out` is running.
        DataError: a file is missing or broken (file, column, row). `out` is then as it was before.
    """
    return import_source(open_source(source_name, path, base), out, progress)


def log_directory(data_dir: Path, source_name: str) -> Path:
    """Where the commands keep the event log of a source unless told otherwise."""
    return data_dir / "event-logs" / source_name


def import_source(source: Source, out: Path, progress: Progress | None = None) -> EventLog:
    """`import_data` for an opened source."""
    with _set_aside(out) as aside:
        current = _unchanged(source, out)
        if current is not None:
            return current
        report = progress or _silent
        findings = StopAtFirst()
        digest = hashlib.sha256()
        articles = _write_articles(source, findings, aside, digest, report)
        customers = _write_customers(source, findings, aside, report)
        hash_table(digest, _read_table(aside / "customers.parquet"))
        days = DayFiles(aside)
        done, expected = 0, source.event_rows
        for batch in source.events(findings, articles):
            days.add(batch)
            done += batch.num_rows
            report("events", done, expected)
        report("events", done, done)
        if not done:
            raise DataError("no events", file=source.files[-1].name)
        total = days.finish(digest, report)
        manifest = LogManifest(
            format=LOG_FORMAT,
            source=source.name,
            source_revision=source.revision,
            source_files=fingerprint(source),
            counts={
                "articles": len(articles),
                "customers": customers,
                "events": total.rows,
                "days": total.days,
            },
            notes=dict(sorted((findings.notes + total.notes).items())),
            first=total.first,
            last=total.last,
            content_hash=digest.hexdigest(),
            files={
                str(path.relative_to(aside)): LogFile(pq.read_metadata(path).num_rows, path.stat().st_size)
                for path in sorted(aside.rglob("*.parquet"))
            },
        )
        (aside / "manifest.json").write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=2))
        _replace(aside, out)
    return EventLog(out)


def fingerprint(source: Source) -> list[SourceFile]:
    """Names, sizes and times of the input files: the same list means the same input."""
    return [SourceFile(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in source.files]


def _unchanged(source: Source, out: Path) -> EventLog | None:
    try:
        log = EventLog(out)
    except DataError:
        return None
    made_of = (log.manifest.source, log.manifest.source_revision, log.manifest.source_files)
    return log if made_of == (source.name, source.revision, fingerprint(source)) else None


def _silent(phase: str, done: int, total: int | None) -> None:
    del phase, done, total


def _write_articles(source: Source, findings: Findings, aside: Path, digest: _Hash, report: Progress) -> pa.Array:
    """The ids of all articles."""
    with closing(ArticleFile(aside)) as file:
        for batch in source.articles(findings):
            file.add(batch)
        ids = file.finish(digest)
    report("articles", len(ids), len(ids))
    return ids


def _write_customers(source: Source, findings: Findings, aside: Path, report: Progress) -> int:
    rows = 0
    with pq.ParquetWriter(aside / "customers.parquet", CUSTOMER_SCHEMA, compression="zstd") as writer:
        for batch in source.customers(findings):
            writer.write_batch(batch)
            rows += batch.num_rows
            report("customers", rows, None)
    return rows


def _check_zone(name: str, moment: datetime | None) -> None:
    if moment is not None and moment.tzinfo is None:
        raise ValueError(f"{name} {moment} has no time zone")


def _read_table(path: Path) -> pa.Table:
    try:
        return pq.ParquetFile(path).read(use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"not a whole Parquet file: {error}; import again", file=str(path)) from error


def _read_manifest(path: Path) -> LogManifest:
    try:
        raw = (path / "manifest.json").read_bytes()
    except OSError as error:
        raise DataError(
            f"no event log here; make one with `modiste offline data import`: {error}", file=str(path)
        ) from error
    try:
        manifest = msgspec.json.decode(raw, type=LogManifest)
    except msgspec.DecodeError as error:
        raise DataError(f"not an event log's manifest: {error}", file=str(path / "manifest.json")) from error
    if manifest.format != LOG_FORMAT:
        raise DataError(
            f"event log of format {manifest.format}; this code reads format {LOG_FORMAT}; import the source again with "
            "`modiste offline data import`",
            file=str(path),
        )
    return manifest


@contextmanager
def _set_aside(out: Path) -> Iterator[Path]:
    """An empty locked directory beside `out`, removed afterwards whatever happens.

    What a killed import left there is cleared: a lock dies with its process, so what can be locked is stale.
    """
    out = out.absolute()
    aside, old = _neighbours(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    if old.exists() and not out.exists():
        old.rename(out)  # killed between the two renames of `_replace`
    if out.exists() and not (out / "manifest.json").is_file() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigurationError(f"{out} exists and is not an event log; choose another place or remove it")
    aside.mkdir(exist_ok=True)
    descriptor = os.open(aside, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The other import may have finished and renamed the directory between our open and our lock.
            mine = os.fstat(descriptor).st_ino == aside.stat().st_ino
        except OSError:
            mine = False
        if not mine:
            raise ConfigurationError(f"another import into {out} is running; wait for it or choose another place")
        shutil.rmtree(old, ignore_errors=True)
        for entry in aside.iterdir():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        try:
            yield aside
        finally:
            if aside.exists():
                shutil.rmtree(aside)
    finally:
        os.close(descriptor)


def _neighbours(out: Path) -> tuple[Path, Path]:
    return out.with_name(f".{out.name}.importing"), out.with_name(f".{out.name}.old")


def _replace(aside: Path, out: Path) -> None:
    out = out.absolute()
    _, old = _neighbours(out)
    if out.exists():
        out.rename(old)
    aside.rename(out)
    shutil.rmtree(old, ignore_errors=True)
