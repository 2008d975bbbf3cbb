"""The log's articles: all that was ever known of each, in one Parquet file that is written and read in bounded memory.

A row is a version: what was known of an article from `known_from` on, until its next version. Articles are spread over
BUCKETS by the hash of their ids, and each bucket is a row group, sorted by (article_id, known_from). So the file is
the same in whatever order a source gives its articles, and no more than a bucket ever lies in memory.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from infra.errors import DataError
from offline.day_files import hash_table
from offline.sources.base import ARTICLE_FACTS, ARTICLE_SCHEMA

if TYPE_CHECKING:
    from hashlib import _Hash

BUCKETS = 16
_TIME = ARTICLE_SCHEMA.field("known_from").type


class ArticleFile:
    """Takes batches of ARTICLE_SCHEMA and leaves `directory`/articles.parquet."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "articles.parquet"
        self._scratch = [directory / f"articles-{bucket:02d}.arrows" for bucket in range(BUCKETS)]
        self._writers = [pa.ipc.new_stream(str(path), ARTICLE_SCHEMA) for path in self._scratch]

    def add(self, batch: pa.RecordBatch) -> None:
        ids = batch.column("article_id").to_pylist()
        bucket = np.fromiter((zlib.crc32(name.encode()) % BUCKETS for name in ids), np.int64, len(ids))
        order = np.argsort(bucket, kind="stable")
        edges = np.searchsorted(bucket[order], np.arange(BUCKETS + 1))
        batch = batch.take(pa.array(order))
        for number in np.flatnonzero(np.diff(edges)).tolist():
            self._writers[number].write_batch(batch.slice(edges[number], edges[number + 1] - edges[number]))

    def finish(self, digest: _Hash) -> pa.Array:
        """Sort and write every bucket, feeding the values into `digest`; the ids of all articles, each once."""
        self.close()
        known = [pa.array([], pa.string())]
        with pq.ParquetWriter(self._path, ARTICLE_SCHEMA, compression="zstd") as writer:
            for path in self._scratch:
                with pa.ipc.open_stream(str(path)) as stream:
                    table = stream.read_all()
                path.unlink()
                if not table.num_rows:
                    continue
                table = _sorted(table)
                hash_table(digest, table)
                writer.write_table(table, row_group_size=table.num_rows)
                known.append(pc.unique(table["article_id"].combine_chunks()))
        return pa.concat_arrays(known)

    def close(self) -> None:
        """Let go of the scratch files; again is harmless."""
        for writer in self._writers:
            writer.close()


def versions(path: Path) -> Iterator[pa.Table]:
    """All versions, a bucket at a time.

    Raises:
        DataError: not a whole Parquet file.
    """
    try:
        with pq.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                yield file.read_row_group(group, use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"not a whole Parquet file: {error}; import again", file=str(path)) from error


def articles_before(path: Path, until: datetime | None) -> pa.Table:
    """What was known of each article strictly before `until` (None: at the end), by article_id.

    An article of which nothing was known yet is not there. `known_from` is the time of its first version: that from
    which the article itself was known, null for one that always was.
    """
    picked = [_newest(table, until) for table in versions(path)]
    return pa.concat_tables([ARTICLE_SCHEMA.empty_table(), *picked]).sort_by("article_id").combine_chunks()


def _sorted(table: pa.Table) -> pa.Table:
    always = np.iinfo(np.int64).min  # before every time
    table = table.append_column("since", pc.fill_null(table["known_from"].cast(pa.int64()), always))
    table = table.sort_by([("article_id", "ascending"), ("since", "ascending")])
    return table.drop_columns("since").combine_chunks()


def _newest(table: pa.Table, until: datetime | None) -> pa.Table:
    if until is not None:
        known = pc.less(table["known_from"], pa.scalar(until, _TIME))
        table = table.filter(pc.fill_null(known, True))
    ids = table["article_id"].combine_chunks()
    changes = np.ones(len(ids) + 1, bool)
    if len(ids) > 1:
        changes[1:-1] = pc.not_equal(ids[1:], ids[:-1]).to_numpy(zero_copy_only=False)
    first, last = pa.array(changes[:-1]), pa.array(changes[1:])
    return (
        table.select(["article_id", *ARTICLE_FACTS])
        .filter(last)
        .append_column("known_from", table["known_from"].filter(first))
    )
