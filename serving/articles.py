"""What can be told of one article: what it is now, and what is like it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from serving.answers import Similar
from serving.items import ATTRIBUTES
from serving.messages import Item
from serving.reload import Loaded
from serving.retrieval.candidates import Floats, Found, Ints, best
from serving.runtime import Catalog
from serving.shelf import Shelf

MAX_VARIANTS = 50


def details(loaded: Loaded, article_id: str) -> dict[str, object] | None:
    """What `ArticleView` shows, None for an article that the bundle in use does not know."""
    items = loaded.runtime.items
    row = items.index.get(article_id)
    if row is None:
        return None
    shelf = loaded.shelf or Shelf.of(items)
    price, product = shelf.price(row), int(items.products[row])
    return {
        "article_id": article_id,
        "title": items.titles[row] or None,
        **{name: items.label(name, row) for name in ATTRIBUTES},
        "product_code": None if product < 0 else items.product_codes[product],
        "price": None if price is None else round(price, 2),
        "available": bool(shelf.available[row]),
        "variants": _variants(loaded, row)[:MAX_VARIANTS],
        "bundle_id": loaded.bundle_id,
    }


def _variants(loaded: Loaded, row: int) -> list[str]:
    items = loaded.runtime.items
    if items.products[row] < 0:
        return []
    alike = np.flatnonzero(items.products == items.products[row]).tolist()
    # A row of an article that has a newer one stands for nothing any more.
    ids = [
        items.article_ids[other] for other in alike if other != row and items.index[items.article_ids[other]] == other
    ]
    return sorted(ids)


def similar(loaded: Loaded, article_id: str, by: str, k: int, *, variants: bool = True) -> Similar | None:
    """Up to `k` articles that can be had now, None for an article that the bundle in use does not know.

    Args:
        by: a key of MEASURES.
        variants: whether others of the same product count.
    """
    catalog = loaded.runtime.catalog
    items = catalog.items
    row = items.index.get(article_id)
    if row is None:
        return None
    shelf = loaded.shelf or Shelf.of(items)
    rows, scores = MEASURES[by](catalog, row)
    keep = shelf.available[rows] & (rows != row) & (scores > 0)
    if not variants and items.products[row] >= 0:
        keep &= items.products[rows] != items.products[row]
    found = zip(*(column.tolist() for column in best(rows[keep], scores[keep], k)), strict=True)
    return Similar(
        article_id=article_id,
        by=by,
        bundle_id=loaded.bundle_id,
        items=[
            Item(article_id=items.article_ids[other], rank=rank, score=score, source=by, price=shelf.price(other))
            for rank, (other, score) in enumerate(found, start=1)
        ],
    )


def _nearest(vectors: Floats, row: int) -> Found:
    """Cosine with every row, 0 where one of the two says nothing. All of them, so that a filter takes none away."""
    return np.arange(len(vectors), dtype=np.int64), np.asarray(vectors @ vectors[row], np.float32)


def _together(catalog: Catalog, row: int) -> Found:
    start, end = catalog.neighbours.start[row : row + 2]
    rows: Ints = catalog.neighbours.items[start:end].astype(np.int64)
    return rows, catalog.neighbours.weights[start:end]


MEASURES: Mapping[str, Callable[[Catalog, int], Found]] = {
    "content": lambda catalog, row: _nearest(catalog.content, row),
    "two_tower": lambda catalog, row: _nearest(catalog.vectors, row),
    "covisitation": _together,
}
