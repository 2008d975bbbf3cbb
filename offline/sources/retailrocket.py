"""RetailRocket's e-commerce data set (Kaggle): events, item_properties_part1, item_properties_part2, category_tree.

Each is read as CSV or Parquet. What is particular to it:

- view, addtocart and transaction become view, cart and purchase. Times are milliseconds since 1970; there are no
  prices and no customer table.
- The event id is visitor-milliseconds-item-type, and the log numbers the repeats (a basket may hold an item twice).
- Articles are the items that have properties or events, each from the first of them on. Properties change over time:
  every time that changes what is told of an item makes a version of it. The category tree has no times; it always held.
- `categoryid` and `available` are clear, all other properties and words are hashed numbers. The subcategory is the
  item's own category, the category its ancestor just below the root, the department the root. The text holds the
  hashed words, those of short properties (attributes) before those of long ones (descriptions), numbers last, up to
  MAX_WORDS: words that are alike still are alike.
- The original has 20 million property rows. They are spilled by item to BUCKETS scratch files in the system's
  temporary directory; memory holds one of those (an even share of the rows) with its versions, the category tree, and
  the items with the times of their first events.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from infra.errors import ConfigurationError
from offline.sources.base import ARTICLE_SCHEMA, CUSTOMER_SCHEMA, SOURCE_EVENT_SCHEMA, CollectAll, Findings
from offline.sources.first_met import bare_articles, first_met
from offline.sources.tables import RawBatch, UniqueIds, find_table, read_batches, row_count

BUCKETS = 64
MAX_WORDS = 48
_TYPES = {"view": "view", "addtocart": "cart", "transaction": "purchase"}
_LONGEST_VISITOR = 80
_SPILL = pa.schema([("item", pa.int64()), ("property", pa.string()), ("time", pa.int64()), ("value", pa.string())])
_BATCH_ARTICLES = 20_000


class RetailRocket:
    """The data set as a `Source`. `path` is the directory that holds the four files."""

    name = "retailrocket"
    description = "RetailRocket e-commerce: the Kaggle files, given by --path"
    revision = 2

    def __init__(self, path: Path | None) -> None:
        if path is None:
            raise ConfigurationError(
                "the source retailrocket needs --path DIR, the directory with events, item_properties_part1, "
                "item_properties_part2 and category_tree (.csv or .parquet)"
            )
        self._directory = path

    @property
    def files(self) -> tuple[Path, ...]:
        return (*self._property_files, self._file("category_tree"), self._file("events"))

    @property
    def _property_files(self) -> tuple[Path, ...]:
        return self._file("item_properties_part1"), self._file("item_properties_part2")

    @property
    def event_rows(self) -> int | None:
        return row_count(self._file("events"))

    def _file(self, stem: str) -> Path:
        return find_table(self._directory, stem)

    def articles(self, findings: Findings) -> Iterator[pa.RecordBatch]:
        parents = self._category_tree(findings)
        described = [pa.array([], pa.string())]
        with tempfile.TemporaryDirectory(prefix="modiste-retailrocket-") as scratch:
            paths = self._spilled(Path(scratch), findings)
            # What is wrong with events is told when they are read for themselves.
            met = first_met(self.events(CollectAll(), None))
            micros = met["known_from"].cast(pa.int64()).to_pylist()
            times = dict(zip(met["article_id"].to_pylist(), micros, strict=True))
            for path in paths:
                batch = _versions(path, times, parents)
                described.append(batch.column("article_id"))
                yield batch
        undescribed = pc.invert(pc.is_in(met["article_id"], value_set=pa.concat_arrays(described)))
        bare = bare_articles(met.filter(undescribed))
        for first in range(0, len(bare), _BATCH_ARTICLES):
            yield bare.slice(first, _BATCH_ARTICLES)

    def customers(self, findings: Findings) -> Iterator[pa.RecordBatch]:
        del findings
        yield pa.RecordBatch.from_pylist([], schema=CUSTOMER_SCHEMA)

    def events(self, findings: Findings, known_articles: pa.Array | None) -> Iterator[pa.RecordBatch]:
        file = self._file("events")
        names, kinds = pa.array(list(_TYPES)), pa.array(list(_TYPES.values()))
        for first, batch in read_batches(file, ("timestamp", "visitorid", "event", "itemid")):
            raw = RawBatch(batch, first, file.name, findings)
            moment = raw.moment_as("timestamp", "ms")
            visitor, item = raw.ids("visitorid", _LONGEST_VISITOR), _items(raw).cast(pa.string())
            given = raw.text("event")
            at = pc.index_in(given, value_set=names)
            raw.fail("types", "event", pc.is_null(at), given, f"allowed are {', '.join(_TYPES)}")
            kind = kinds.take(at)
            raw.known("itemid", item, known_articles, "the items with properties or events")
            millis = pc.divide(moment.cast(pa.int64()), 1_000).cast(pa.string())
            yield raw.finish(
                {
                    "event_id": pc.binary_join_element_wise(visitor, millis, item, kind, "-"),
                    "type": kind,
                    "occurred_at": moment,
                    "customer_id": visitor,
                    "article_id": item,
                    "quantity": pa.repeat(pa.scalar(1, pa.int32()), len(raw.rows)),
                    "row": pa.array(raw.rows),
                },
                SOURCE_EVENT_SCHEMA,
            )

    def _category_tree(self, findings: Findings) -> dict[str, str | None]:
        file = self._file("category_tree")
        schema = pa.schema([("categoryid", pa.string()), ("parentid", pa.string()), ("row", pa.int64())])
        unique = UniqueIds("categoryid", file.name, findings)
        parents: dict[str, str | None] = {}
        rows: dict[str, int] = {}
        for first, batch in read_batches(file, ("categoryid", "parentid")):
            raw = RawBatch(batch, first, file.name, findings)
            columns = {"categoryid": raw.ids("categoryid"), "parentid": raw.text("parentid"), "row": pa.array(raw.rows)}
            for row in unique.add(raw, raw.finish(columns, schema)).to_pylist():
                parents.setdefault(row["categoryid"], row["parentid"])
                rows.setdefault(row["categoryid"], row["row"])
        unique.check()
        for category in [category for category in parents if _in_circle(category, parents)]:
            place = np.array([rows[category]], np.int64)
            reason = "is its own ancestor"
            findings.add("ids_valid", reason, file=file.name, column="parentid", rows=place, values=[category])
            parents[category] = None
        return parents

    def _spilled(self, scratch: Path, findings: Findings) -> list[Path]:
        """Good property rows in one Arrow stream an item bucket; later rows of the files come later in each."""
        paths = [scratch / f"{bucket:03d}.arrows" for bucket in range(BUCKETS)]
        writers = [pa.ipc.new_stream(str(path), _SPILL) for path in paths]
        try:
            for file in self._property_files:
                for first, batch in read_batches(file, ("timestamp", "itemid", "property", "value")):
                    raw = RawBatch(batch, first, file.name, findings)
                    columns = {
                        "item": _items(raw),
                        "property": raw.ids("property"),
                        "time": raw.moment_as("timestamp", "ms").cast(pa.int64()),
                        "value": raw.text("value"),
                    }
                    table = raw.finish(columns, _SPILL)
                    bucket = table.column("item").to_numpy() % BUCKETS
                    order = np.argsort(bucket, kind="stable")
                    edges = np.searchsorted(bucket[order], np.arange(BUCKETS + 1))
                    table = table.take(pa.array(order))
                    for number in np.flatnonzero(np.diff(edges)).tolist():
                        writers[number].write_batch(table.slice(edges[number], edges[number + 1] - edges[number]))
        finally:
            for writer in writers:
                writer.close()
        return paths


def _items(raw: RawBatch) -> pa.Array:
    """int64 item ids."""
    return raw.whole("itemid", "ids_valid", 0, 2**53)


# department, category, subcategory, text
_Facts = tuple[str | None, str | None, str | None, str | None]
_NOTHING: _Facts = (None, None, None, None)


def _versions(path: Path, met: dict[str, int], parents: dict[str, str | None]) -> pa.RecordBatch:
    """Every version of the items of one bucket. Of equal times the later row of the files counts.

    Args:
        met: item id -> time of its first event in microseconds; an item met before its first property is then known
            by its id alone.
    """
    with pa.ipc.open_stream(str(path)) as stream:
        table = stream.read_all()
    table = table.append_column("row", pa.array(np.arange(table.num_rows)))
    table = table.sort_by([(name, "ascending") for name in ("item", "time", "row")]).combine_chunks()
    items, times = table["item"].to_numpy(), table["time"].to_numpy()
    properties, values = table["property"].to_pylist(), table["value"].to_pylist()
    # A moment is all that was said of one item at one time.
    moments = np.flatnonzero(np.diff(items, prepend=-1).astype(bool) | np.diff(times, prepend=-1).astype(bool))
    found: list[tuple[str, int, _Facts]] = []
    known: dict[str, str | None] = {}
    item, before = -1, _NOTHING
    for start, end in pairwise([*moments.tolist(), len(items)]):
        name, time = str(items[start]), int(times[start])
        another = items[start] != item
        if another:
            item, known = items[start], {}
            if met.get(name, time) < time:
                found.append((name, met[name], _NOTHING))
                another, before = False, _NOTHING
        known.update(zip(properties[start:end], values[start:end], strict=True))
        facts = _facts(known, parents)
        if another or facts != before:
            found.append((name, time, facts))
            before = facts
    columns = {
        "article_id": pa.array([name for name, _, _ in found], pa.string()),
        "known_from": pa.array([time for _, time, _ in found], ARTICLE_SCHEMA.field("known_from").type),
    }
    for column, name in enumerate(("department", "category", "subcategory", "text")):
        columns[name] = pa.array([facts[column] for _, _, facts in found], pa.string())
    arrays = [columns.get(field.name, pa.nulls(len(found), field.type)) for field in ARTICLE_SCHEMA]
    return pa.RecordBatch.from_arrays(arrays, schema=ARTICLE_SCHEMA)


def _facts(known: dict[str, str | None], parents: dict[str, str | None]) -> _Facts:
    text = property_text({name: value for name, value in known.items() if name not in ("categoryid", "available")})
    return (*category_path(known.get("categoryid"), parents), text)


def category_path(category: str | None, parents: dict[str, str | None]) -> tuple[str | None, str | None, str | None]:
    """Root, the one below it, and the category itself; a root is all three, an unlisted category its own root."""
    if category is None:
        return None, None, None
    line = [category]
    while (above := parents.get(line[-1])) is not None:
        line.append(above)
    return line[-1], line[max(len(line) - 2, 0)], category


def property_text(values: dict[str, str | None]) -> str | None:
    """Up to MAX_WORDS different words of an item's properties, those of short values first and numbers last."""
    lines = sorted(((value.split(), name) for name, value in values.items() if value), key=lambda v: (len(v[0]), v[1]))
    words = dict.fromkeys(word for line, _ in lines for word in line)
    ordered = sorted(words, key=_is_number)
    return " ".join(ordered[:MAX_WORDS]) or None


def _is_number(word: str) -> bool:
    return word.startswith("n") and word[1:2].lstrip("-").isdigit()


def _in_circle(category: str, parents: dict[str, str | None]) -> bool:
    seen = {category}
    above = parents.get(category)
    while above is not None and above not in seen:
        seen.add(above)
        above = parents.get(above)
    return above == category
