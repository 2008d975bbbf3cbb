"""The search that all sources of vectors share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from serving.index import VectorIndex
from serving.retrieval.candidates import NOTHING, Floats, Found


def nearest(index: VectorIndex, vectors: Sequence[Floats], k: int) -> list[Found]:
    """One search for the batch; nothing for a zero vector."""
    if not vectors:
        return []
    rows, scores = index.search(np.stack(vectors), k)
    found = []
    for vector, items, values in zip(vectors, rows, scores, strict=True):
        known = items >= 0
        found.append((items[known], values[known]) if vector.any() else NOTHING)
    return found
