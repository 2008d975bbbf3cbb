"""Articles that came after the bundle was built, as rows behind those of the bundle.

A catalogue with more rows is a catalogue like any other, so no stage knows the difference. A new article has what its
message says of it: attributes, a price, a content vector and the debut rate of its kind. It has no sales, no factors
and no two-tower vector (zeros, which are nobody's nearest); the bundle's query encoder does not read it, so embeddings
stay those that the workers store. Whoever buys it finds it in their history, taste and repurchases at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from serving.debut import debut_of_kind
from serving.items import ItemTable
from serving.retrieval.candidates import Floats, Ints
from serving.retrieval.collaborative import Collaborative
from serving.retrieval.content import Content
from serving.retrieval.covisitation import Neighbours
from serving.rhythm import NEVER
from serving.runtime import Catalog
from serving.statistics import ItemStatistics
from streams.catalog import Article

SPARE = 1_024  # rows at least for which a matrix makes room when it is full


@dataclass(frozen=True, eq=False)
class ExtendedCatalog(Catalog):
    """bundled: the catalogue of the bundle alone, whose indexes serve here too."""

    bundled: Catalog = field(kw_only=True)

    @property
    def bundled_items(self) -> int:
        return len(self.bundled.items)

    @cached_property
    def later(self) -> Ints:
        """Rows beyond the bundle's that stand for an article now; the others stood for one before it changed."""
        rows = range(len(self.bundled.items), len(self.items))
        index, ids = self.items.index, self.items.article_ids
        return np.array([row for row in rows if index.get(ids[row]) == row], np.int64)

    @cached_property
    def collaborative(self) -> Collaborative:
        return self.bundled.collaborative.extended(self.factors)

    @cached_property
    def likeness(self) -> Content:
        return self.bundled.likeness.extended(self.content, self.statistics.debut, self.later)


class Extender:
    """Makes catalogues with ever more rows of one bundle's.

    Every catalogue stays as it was made. The large matrices share one buffer, which has room behind the rows that a
    catalogue knows; so a few articles more cost a few rows, not a copy of all.
    """

    def __init__(self, bundled: Catalog) -> None:
        self._bundled = bundled
        self._vectors = _Rows(bundled.vectors)
        self._content = _Rows(bundled.content)
        self._factors = _Rows(bundled.factors.items)

    def extend(self, catalog: Catalog, articles: Sequence[Article], content: Floats) -> ExtendedCatalog:
        """`catalog`, the last one made or the bundle's own, with these articles and their content vectors
        float32[len(articles), c] at its end, ready for the first request."""
        bundled, more = self._bundled, len(articles)
        items = catalog.items.extended(articles)
        known = {f.name: getattr(bundled, f.name) for f in fields(Catalog)}
        known |= {
            "items": items,
            "statistics": _extended(bundled.statistics, items),
            "vectors": self._vectors.append(np.zeros((more, bundled.vectors.shape[1]), np.float32)),
            "neighbours": _alone(bundled.neighbours, len(items) - len(bundled.items)),
            "factors": bundled.factors.extended(
                self._factors.append(np.zeros((more, bundled.factors.items.shape[1]), np.float32))
            ),
            "content": self._content.append(content),
        }
        extended = ExtendedCatalog(**known, bundled=bundled)
        for part in ("features", "strategies"):
            getattr(extended, part)
        return extended


class _Rows:
    """float32[n, d] that grows at its end; what was handed out before never changes."""

    def __init__(self, rows: Floats) -> None:
        self._buffer = rows
        self._used = len(rows)

    def append(self, rows: Floats) -> Floats:
        used = self._used + len(rows)
        if used > len(self._buffer):
            grown = np.zeros((used + max(SPARE, used // 16), self._buffer.shape[1]), np.float32)
            grown[: self._used] = self._buffer[: self._used]
            self._buffer = grown
        self._buffer[self._used : used] = rows
        self._used = used
        return self._buffer[:used]


def _alone(neighbours: Neighbours, more: int) -> Neighbours:
    """With `more` articles that go with nothing."""
    return replace(neighbours, start=np.concatenate([neighbours.start, np.repeat(neighbours.start[-1:], more)]))


def _extended(bundled: ItemStatistics, items: ItemTable) -> ItemStatistics:
    """Of articles never sold: as those of the bundle that were never sold."""
    rows = np.arange(len(bundled.debut), len(items))
    index, ids = items.index, items.article_ids
    found = [index.get(ids[row]) == row and _described(items, row) for row in rows.tolist()]
    debut = np.where(np.array(found, np.bool_), debut_of_kind(items, bundled, rows), 0)
    never = np.flatnonzero(bundled.first_sold >= NEVER)[:1]
    repeat_rate = bundled.repeat_rate[never] if len(never) else np.median(bundled.repeat_rate)
    share = bundled.segment_share[:, never] if len(never) else bundled.segment_share.min(axis=1, keepdims=True)

    def more(known: Floats, value: npt.ArrayLike) -> Floats:
        return np.concatenate([known, np.broadcast_to(np.asarray(value, np.float32), len(rows))])

    return replace(
        bundled,
        sold_1d=more(bundled.sold_1d, 0),
        sold_3d=more(bundled.sold_3d, 0),
        sold_7d=more(bundled.sold_7d, 0),
        sold_28d=more(bundled.sold_28d, 0),
        sold_91d=more(bundled.sold_91d, 0),
        buyers_91d=more(bundled.buyers_91d, 0),
        repeat_rate=more(bundled.repeat_rate, repeat_rate),
        interval=more(bundled.interval, np.nan),
        first_sold=more(bundled.first_sold, NEVER),
        last_sold=more(bundled.last_sold, NEVER),
        price_7d=more(bundled.price_7d, np.nan),
        debut=more(bundled.debut, debut),
        segment_buyers=np.pad(bundled.segment_buyers, ((0, 0), (0, len(rows)))),
        segment_share=np.concatenate([bundled.segment_share, np.repeat(share, len(rows), axis=1)], axis=1),
    )


def _described(items: ItemTable, row: int) -> bool:
    """Whether more is known of an article than its id."""
    return bool(items.titles[row]) or items.products[row] >= 0 or any(codes[row] >= 0 for codes in items.codes.values())
