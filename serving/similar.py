"""Articles like one article: near to it in what is written and seen of them, and in who buys them."""

from __future__ import annotations

import numpy as np

from serving.messages import Item
from serving.retrieval.candidates import Floats
from serving.runtime import Catalog
from serving.shelf import Shelf

# Content says what a thing is, buyers what it is for. Without content the buyers decide alone.
CONTENT, BUYERS = 1.0, 0.4


def similar(catalog: Catalog, article_id: str, k: int, shelf: Shelf | None = None) -> list[Item]:
    """The `k` articles most like it that can be had, one of each title; none for an article that is not known.

    Scores are cosines of content plus BUYERS times cosines of the two-tower vectors; the price is that of `shelf`.
    """
    items = catalog.items
    row = items.index.get(article_id)
    if row is None:
        return []
    shelf = shelf or Shelf.of(items)
    scores = CONTENT * (catalog.content @ catalog.content[row]) + BUYERS * _cosines(catalog.vectors, row)
    scores[~shelf.available] = -np.inf
    scores[row] = -np.inf
    # Sizes and flavours of one thing share its title; a few times k rows hold k titles in all catalogues met so far.
    depth = min(len(items), 20 * k)
    nearest = np.argpartition(-scores, depth - 1)[:depth]
    chosen: list[int] = []
    titles = {items.titles[row].casefold()}
    for candidate in nearest[np.argsort(-scores[nearest], kind="stable")].tolist():
        title = items.titles[candidate].casefold()
        if np.isfinite(scores[candidate]) and (not title or title not in titles):
            titles.add(title)
            chosen.append(candidate)
        if len(chosen) == k:
            break
    return [
        Item(
            article_id=items.article_ids[candidate],
            rank=rank,
            score=float(scores[candidate]),
            source="content",
            price=shelf.price(candidate),
        )
        for rank, candidate in enumerate(chosen, start=1)
    ]


def _cosines(vectors: Floats, row: int) -> Floats:
    one = vectors[row]
    lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(one)
    return np.asarray((vectors @ one) / np.maximum(lengths, 1e-12), np.float32)
