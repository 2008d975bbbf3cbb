"""When each article of a log was met first: from then on it is known to exist, and not before."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa

from offline.sources.base import ARTICLE_SCHEMA, SOURCE_EVENT_SCHEMA

_COLUMNS = ["article_id", "occurred_at"]


def first_met(events: Iterable[pa.RecordBatch]) -> pa.Table:
    """article_id and known_from (the time of its first event), by article_id. Memory: the articles, not the events.

    Args:
        events: batches of SOURCE_EVENT_SCHEMA in any order.
    """
    first = SOURCE_EVENT_SCHEMA.empty_table().select(_COLUMNS)
    for batch in events:
        both = pa.concat_tables([first, pa.Table.from_batches([batch]).select(_COLUMNS)])
        grouped = both.group_by("article_id", use_threads=False).aggregate([("occurred_at", "min")])
        first = grouped.select(["article_id", "occurred_at_min"]).rename_columns(_COLUMNS)
    return first.rename_columns(["article_id", "known_from"]).sort_by("article_id").combine_chunks()


def bare_articles(met: pa.Table) -> pa.RecordBatch:
    """Rows of `first_met` as articles of ARTICLE_SCHEMA of which nothing else is known."""
    given = {name: met[name].combine_chunks() for name in met.column_names}
    columns = [given.get(field.name, pa.nulls(met.num_rows, field.type)) for field in ARTICLE_SCHEMA]
    return pa.RecordBatch.from_arrays(columns, schema=ARTICLE_SCHEMA)
