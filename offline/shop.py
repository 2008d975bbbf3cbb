"""A shop as it was known before a cut: what everything is learned from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from offline.build_statistics import build_items, prices_at
from offline.content.images import ImageStore
from offline.content.vectors import Content, ContentConfig, content_of
from offline.event_log import EventLog
from offline.histories import load_histories
from offline.window import Window
from serving.content_space import ContentSpace
from serving.items import ItemTable
from streams.events import to_micros
from streams.histories import Histories


@dataclass(frozen=True, eq=False)
class Shop:
    """cut: microseconds · histories: events strictly before it · articles: what was known of them strictly before it,
    in the order of `items` · segments: customer_id -> age band, where known · content: float32[n, c] unit rows, zero
    where unknown · space: how an article that comes later gets such a row · photos: float32[n, d] unit rows of what
    looks at photos, zero for an article without one; None where nothing does."""

    cut: int
    histories: Histories
    articles: pa.Table
    items_table: pa.Table
    items: ItemTable
    segments: dict[str, str]
    content: npt.NDArray[np.float32]
    space: ContentSpace
    photos: npt.NDArray[np.float32] | None = None

    def known_at(self, cut: int) -> npt.NDArray[np.int64]:
        """Rows of the articles known strictly before an earlier cut. Where the log alone tells of an article, one first
        met after it was met there, often bought: to stand in the catalogue would give the label away."""
        since = self.articles["known_from"].cast(pa.int64())
        known = pc.fill_null(pc.less(since, cut), True)
        return np.flatnonzero(known.to_numpy())

    def items_at(self, cut: int) -> ItemTable:
        """The articles known at an earlier cut with their prices there. A price known only because the article sold
        after it would give the label away.

        Other attributes are those of the shop's own cut: towers have one vocabulary and one set of content vectors.
        """
        return replace(self.items, prices=prices_at(self.articles, self.histories, cut)).rows(self.known_at(cut))


def load_shop(log: EventLog, window: Window, content: ContentConfig, images: ImageStore | None, cache: Path) -> Shop:
    """Read what the log knows before the window's cut; `cache` is a directory for content vectors."""
    articles = log.articles(window.cut)
    known = shop_content(articles, images, content, cache)
    histories = load_histories(log, window.cut)
    return make_shop(to_micros(window.cut), histories, articles, customer_segments(log), known)


def shop_content(articles: pa.Table, images: ImageStore | None, content: ContentConfig, cache: Path) -> Content:
    """`Shop.content` and what belongs to it, to the half precision in which the bundle keeps the vectors: towers and
    ranker learn from the numbers that serve."""
    known = content_of(articles, images, content, cache)
    return replace(known, vectors=known.vectors.astype(np.float16).astype(np.float32))


def customer_segments(log: EventLog) -> dict[str, str]:
    """`Shop.segments`."""
    customers = log.customers()
    pairs = zip(customers["customer_id"].to_pylist(), customers["age_band"].to_pylist(), strict=True)
    return {customer: band for customer, band in pairs if band}


def make_shop(
    cut: int,
    histories: Histories,
    articles: pa.Table,
    segments: dict[str, str],
    known: Content,
) -> Shop:
    """A shop of what was read; see Shop."""
    table = build_items(articles, histories, cut)
    items = ItemTable.from_table(table)
    return Shop(cut, histories, articles, table, items, segments, known.vectors, known.space, known.photos)
