"""Nearest article vectors by cosine: FAISS over half-precision vectors, and the exact search it is judged by."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from infra.errors import BundleError

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

# Measured on 2 cores at 105k x 64: a half-precision scan takes 0.45 ms and misses nothing; a graph index would save
# 0.2 ms, lose 1% and take 14 s to build. Beyond this size the scan is the slower one.
SCAN_LIMIT = 300_000
# faiss declares its enums loosely, differently for the two index classes.
FP16: Any = faiss.ScalarQuantizer.QT_fp16


class VectorIndex:
    """Inner product over unit vectors, which is the cosine that training used."""

    def __init__(self, index: faiss.Index) -> None:
        self._index = index

    def __len__(self) -> int:
        return int(self._index.ntotal)

    @property
    def dim(self) -> int:
        return int(self._index.d)

    @classmethod
    def build(cls, vectors: Floats) -> VectorIndex:
        """Index unit rows float32[n, d]."""
        dim = vectors.shape[1]
        index: Any
        if len(vectors) <= SCAN_LIMIT:
            index = faiss.IndexScalarQuantizer(dim, FP16, faiss.METRIC_INNER_PRODUCT)
        else:
            index = faiss.IndexHNSWSQ(dim, FP16, 32, faiss.METRIC_INNER_PRODUCT)
            index.hnsw.efSearch = 256
        index.train(vectors)
        index.add(vectors)
        return cls(index)

    def search(self, queries: Floats, k: int) -> tuple[Ints, Floats]:
        """Best k rows of each query: (item_idx int64[q, k], cosine float32[q, k]), best first."""
        scores, rows = self._index.search(np.ascontiguousarray(queries, np.float32), min(k, len(self)))
        return rows, scores

    def save(self, path: Path) -> None:
        faiss.write_index(self._index, str(path))

    @classmethod
    def load(cls, path: Path, n_items: int) -> VectorIndex:
        """Read and check.

        Raises:
            BundleError: unreadable, not of `n_items`, or of a metric other than inner product.
        """
        try:
            index = faiss.read_index(str(path))
        except RuntimeError as error:
            raise BundleError(f"{path.name} is not a FAISS index: {error}") from error
        if index.ntotal != n_items:
            raise BundleError(f"{path.name} holds {index.ntotal} vectors, items.parquet {n_items} rows")
        if index.metric_type != faiss.METRIC_INNER_PRODUCT:
            raise BundleError(f"{path.name} has metric {index.metric_type}; training used inner product")
        return cls(index)


def exact_search(vectors: Floats, queries: Floats, k: int) -> Ints:
    """Reference: all products, best k rows of each query, int64[q, k]."""
    return np.argsort(-(queries @ vectors.T), axis=1, kind="stable")[:, :k]
