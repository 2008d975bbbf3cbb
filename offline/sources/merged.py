"""Several data sets in one catalogue, such as `--data hm+retailrocket --path DIR` with DIR/hm and DIR/retailrocket.

What is particular to it:

- Ids of articles, customers, products and events become `source:id`. A source's name holds no colon, so what stands
  before the first one tells the source, and no two sources can make the same id, whatever their ids are.
- Words (titles, categories, colours) stay as they are: what is called the same in two shops looks alike, as it should.
- Prices stay in each source's own currency and scale, and times as they are: shops of different years do not overlap
  (`modiste bench transfer` lays each shop's last days side by side).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from offline.sources.base import EXAMPLES, Findings, Source

SEPARATOR = ":"
_LONGEST = 128
_PREFIXED = ("event_id", "customer_id", "article_id", "product_code")


class Merged:
    """The sources of `parts`, by name, as one `Source`. They are read one after another."""

    description = "several data sets in one catalogue"

    def __init__(self, parts: Mapping[str, Source]) -> None:
        self._parts = dict(parts)

    @property
    def name(self) -> str:
        return "+".join(self._parts)

    @property
    def revision(self) -> int:
        """Grows with that of any part."""
        return sum(part.revision for part in self._parts.values())

    @property
    def files(self) -> tuple[Path, ...]:
        return tuple(file for part in self._parts.values() for file in part.files)

    @property
    def event_rows(self) -> int | None:
        counts = [part.event_rows for part in self._parts.values()]
        return None if None in counts else sum(count or 0 for count in counts)

    def articles(self, findings: Findings) -> Iterator[pa.RecordBatch]:
        for name, part in self._parts.items():
            for batch in part.articles(findings):
                yield _prefixed(batch, name, findings)

    def customers(self, findings: Findings) -> Iterator[pa.RecordBatch]:
        for name, part in self._parts.items():
            for batch in part.customers(findings):
                yield _prefixed(batch, name, findings)

    def events(self, findings: Findings, known_articles: pa.Array | None) -> Iterator[pa.RecordBatch]:
        for name, part in self._parts.items():
            known = None
            if known_articles is not None:
                mine = known_articles.filter(pc.starts_with(known_articles, pattern=name + SEPARATOR))
                known = pc.utf8_slice_codeunits(mine, len(name) + 1)
            for batch in part.events(findings, known):
                yield _prefixed(batch, name, findings)


def merged_id(source: str, own: str) -> str:
    """The id that `own` of the source named `source` gets."""
    return f"{source}{SEPARATOR}{own}"


def _prefixed(batch: pa.RecordBatch, name: str, findings: Findings) -> pa.RecordBatch:
    for column in set(_PREFIXED) & set(batch.schema.names):
        index = batch.schema.get_field_index(column)
        ids = pc.binary_join_element_wise(name, batch.column(index), SEPARATOR)
        too_long = pc.fill_null(pc.greater(pc.utf8_length(ids), _LONGEST), False)
        batch = batch.set_column(index, batch.schema.field(index), ids)
        if pc.any(too_long).as_py():
            at = np.flatnonzero(too_long.to_numpy(zero_copy_only=False))
            rows = batch.column("row").to_numpy()[at] if "row" in batch.schema.names else at + 1
            reason = f"an id has at most {_LONGEST} characters together with its source"
            shown = ids.take(pa.array(at[:EXAMPLES])).to_pylist()
            findings.add("ids_valid", reason, file=name, column=column, rows=rows, values=shown)
            batch = batch.filter(pc.invert(too_long))
    return batch
