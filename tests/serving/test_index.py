"""Nearest article vectors: almost the exact answer, and no foreign index."""

from __future__ import annotations

from pathlib import Path

import faiss
import numpy as np
import pytest

import serving.index as index_module
from infra.errors import BundleError
from serving.index import Floats, VectorIndex, exact_search


def unit_rows(n: int, dim: int, seed: int) -> Floats:
    rows = np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


VECTORS = unit_rows(3_000, 16, 1)
QUERIES = unit_rows(40, 16, 2)


def recall(index: VectorIndex, k: int = 20) -> float:
    given, _ = index.search(QUERIES, k)
    exact = exact_search(VECTORS, QUERIES, k)
    return float(np.mean([len(set(g) & set(e)) / k for g, e in zip(given.tolist(), exact.tolist(), strict=True)]))


def test_exact_search_by_hand() -> None:
    vectors = np.array([[1, 0], [0, 1], [0.6, 0.8]], np.float32)
    assert exact_search(vectors, np.array([[0, 1], [1, 0]], np.float32), 2).tolist() == [[1, 2], [0, 2]]


@pytest.mark.parametrize(("limit", "least"), [(300_000, 0.99), (100, 0.95)], ids=["scan", "graph"])
def test_recall_against_exact(monkeypatch: pytest.MonkeyPatch, limit: int, least: float) -> None:
    monkeypatch.setattr(index_module, "SCAN_LIMIT", limit)
    assert recall(VectorIndex.build(VECTORS)) >= least


def test_scores_are_cosines_best_first() -> None:
    rows, scores = VectorIndex.build(VECTORS).search(QUERIES, 10)
    assert np.allclose(scores, np.take_along_axis(QUERIES @ VECTORS.T, rows, axis=1), atol=2e-3)
    assert (np.diff(scores, axis=1) <= 0).all()


def test_more_than_there_is_gives_all_there_is() -> None:
    rows, _ = VectorIndex.build(VECTORS[:5]).search(QUERIES, 50)
    assert all(sorted(found) == [0, 1, 2, 3, 4] for found in rows.tolist())


def test_comes_back_from_disk(tmp_path: Path) -> None:
    built = VectorIndex.build(VECTORS)
    built.save(tmp_path / "index.faiss")
    read = VectorIndex.load(tmp_path / "index.faiss", len(VECTORS))
    assert len(read) == len(VECTORS)
    for given, expected in zip(read.search(QUERIES, 10), built.search(QUERIES, 10), strict=True):
        assert np.array_equal(given, expected)


def test_index_of_other_items_is_refused(tmp_path: Path) -> None:
    VectorIndex.build(VECTORS[:7]).save(tmp_path / "index.faiss")
    with pytest.raises(BundleError, match=r"index.faiss holds 7 vectors, items.parquet 8 rows"):
        VectorIndex.load(tmp_path / "index.faiss", 8)


def test_other_metric_is_refused(tmp_path: Path) -> None:
    index = faiss.IndexFlatL2(16)
    index.add(VECTORS)
    faiss.write_index(index, str(tmp_path / "index.faiss"))
    with pytest.raises(BundleError, match="metric 1; training used inner product"):
        VectorIndex.load(tmp_path / "index.faiss", len(VECTORS))


def test_other_bytes_are_refused(tmp_path: Path) -> None:
    (tmp_path / "index.faiss").write_bytes(b"not an index at all")
    with pytest.raises(BundleError, match="is not a FAISS index"):
        VectorIndex.load(tmp_path / "index.faiss", 1)
