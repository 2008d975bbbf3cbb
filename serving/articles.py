"""What can be told of one article: what it is now, and what is like it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from serving.answers import Similar
from serving.filters import Mask
from serving.items import ATTRIBUTES
from serving.messages import RecommendationRequest
from serving.reload import Loaded
from serving.retrieval.candidates import CandidateSet, Floats, Found, Ints, best
from serving.runtime import Catalog
from serving.search import NOBODY
from serving.shelf import Shelf

MAX_VARIANTS = 50
DEPTH = 300  # looked at beyond k: caps and titles leave some out
BUYERS = 0.4  # what their vectors weigh beside content's


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


def similar(
    loaded: Loaded, article_id: str, by: str, k: int, *, variants: bool = True, titles: bool = True
) -> Similar | None:
    """Up to `k` articles that anybody may be shown now, by the shop's rules; None for an article that the bundle in use
    does not know.

    Args:
        by: a key of MEASURES.
        variants: whether others of the same product count.
        titles: whether others of the same title count; without, there is one of each. Sizes and flavours share it.
    """
    catalog, lister = loaded.runtime.catalog, loaded.pipeline.lister
    items = catalog.items
    row = items.index.get(article_id)
    if row is None:
        return None
    anybody = loaded.pipeline.prepared(
        RecommendationRequest(request_id=f"similar-{article_id}"[:128], customer_id=NOBODY, k=k), None
    )
    rows, scores = MEASURES[by](catalog, row)
    keep = (rows != row) & (scores > 0)
    if not variants and items.products[row] >= 0:
        keep &= items.products[rows] != items.products[row]
    rows, scores = _best_kept(rows[keep], scores[keep], DEPTH + k, lambda some: lister.keeps(anybody, some))
    if not titles:
        first = _first_of_title([items.titles[row], *(items.titles[other] for other in rows.tolist())])[1:]
        rows, scores = rows[first], scores[first]
    found = CandidateSet((by,), rows, np.arange(len(rows), dtype=np.float32)[:, None])
    shown, _ = lister.items(anybody, found, scores, [], fill=False)
    return Similar(article_id=article_id, by=by, bundle_id=loaded.bundle_id, items=shown)


def _best_kept(rows: Ints, scores: Floats, k: int, keeps: Callable[[Ints], Mask]) -> Found:
    """The best k that the rules let pass. These look at a few times as many first, and at all where that is too few."""
    some, of_some = best(rows, scores, 4 * k)
    keep = keeps(some)
    if keep.sum() < k and len(some) < len(rows):
        some, of_some, keep = rows, scores, keeps(rows)
    return best(some[keep], of_some[keep], k)


def _first_of_title(titles: list[str]) -> npt.NDArray[np.bool_]:
    """Which of them stand for the first time; an article without a title is like no other."""
    seen: set[str] = set()
    first = []
    for title in map(str.casefold, titles):
        first.append(not title or title not in seen)
        seen.add(title)
    return np.array(first, np.bool_)


def _nearest(vectors: Floats, row: int) -> Found:
    """Cosine with every row, 0 where one of the two says nothing. All of them, so that a filter takes none away."""
    return np.arange(len(vectors), dtype=np.int64), np.asarray(vectors @ vectors[row], np.float32)


def _together(catalog: Catalog, row: int) -> Found:
    start, end = catalog.neighbours.start[row : row + 2]
    rows: Ints = catalog.neighbours.items[start:end].astype(np.int64)
    return rows, catalog.neighbours.weights[start:end]


def _blend(catalog: Catalog, row: int) -> Found:
    """Content says what a thing is, buyers what it is for. Without content the buyers decide alone."""
    lengths = catalog.lengths
    bought = catalog.vectors @ catalog.vectors[row] / np.maximum(lengths * lengths[row], 1e-12)
    rows, alike = _nearest(catalog.content, row)
    return rows, np.asarray(alike + BUYERS * bought, np.float32)


MEASURES: Mapping[str, Callable[[Catalog, int], Found]] = {
    "content": lambda catalog, row: _nearest(catalog.content, row),
    "two_tower": lambda catalog, row: _nearest(catalog.vectors, row),
    "covisitation": _together,
    "blend": _blend,
}
