"""A bundle becomes a runtime, or is refused with what was given and what is expected."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from infra.errors import BundleError
from serving.index import VectorIndex
from serving.retrieval.collaborative import Factors
from serving.retrieval.covisitation import Neighbours
from serving.runtime import DEFAULT_RETRIEVAL, load_runtime
from serving.statistics import ALL, ItemStatistics
from streams.bundle_contract import FEATURES, FILES, SOURCES, feature_hash
from tests.support.remade import remade
from tests.support.tiny import KINDS, article_number
from tests.support.tiny_fixture import Tiny


def rewrite_features(**changes: object) -> Callable[[Path], object]:
    def change(copy: Path) -> None:
        path = copy / "features.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def drop_an_item(copy: Path) -> None:
    table = pq.read_table(copy / "items.parquet")
    pq.write_table(table.slice(0, table.num_rows - 1), copy / "items.parquet")


def shorten_vectors(copy: Path) -> None:
    np.save(copy / "item_vectors.npy", np.load(copy / "item_vectors.npy")[:-2])


def index_of_half_the_dimensions(copy: Path) -> None:
    vectors = np.load(copy / "item_vectors.npy")
    VectorIndex.build(np.ascontiguousarray(vectors[:, :8])).save(copy / "index.faiss")


def index_of_fewer_items(copy: Path) -> None:
    VectorIndex.build(np.load(copy / "item_vectors.npy")[:5]).save(copy / "index.faiss")


def content_of_fewer_items(copy: Path) -> None:
    np.save(copy / "content_vectors.npy", np.load(copy / "content_vectors.npy")[:-1])


def factors_of_fewer_items(copy: Path) -> None:
    factors = Factors.load(copy / "collaborative.npz", 2 * KINDS + 1)
    replace(factors, items=factors.items[:-1]).save(copy / "collaborative.npz")


def neighbours_of_fewer_items(copy: Path) -> None:
    Neighbours(np.zeros(4, np.int64), np.empty(0, np.int32), np.empty(0, np.float32)).save(copy / "covisitation.npz")


def rewrite_retrieval(**changes: dict[str, float]) -> Callable[[Path], object]:
    def change(copy: Path) -> None:
        path = copy / "retrieval.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def rename_first_segment(copy: Path) -> None:
    n = pq.read_metadata(copy / "items.parquet").num_rows
    statistics = ItemStatistics.load(copy / "statistics.npz", n)
    statistics.segments[0] = "nobody"
    statistics.save(copy / "statistics.npz")


def test_opens_what_training_published(tiny: Tiny) -> None:
    runtime = tiny.runtime
    assert runtime.bundle_id == tiny.bundle_id == runtime.encoder.space
    assert len(runtime.items) == 2 * KINDS + 1
    assert runtime.items.describe(article_number("hat", 0))["title"] == "Hat 0"
    assert runtime.encoder.dim == 16
    assert runtime.catalog.statistics.segments[0] == ALL
    assert tuple(source.name for source in runtime.catalog.sources) == SOURCES
    assert runtime.catalog.retrieval == DEFAULT_RETRIEVAL
    assert runtime.catalog.content.shape == (2 * KINDS + 1, 8)
    assert np.linalg.norm(runtime.catalog.content, axis=1) == pytest.approx(np.ones(2 * KINDS + 1), abs=1e-2)
    assert runtime.catalog.factors.items.shape == (2 * KINDS + 1, 4)
    assert not runtime.catalog.factors.items[runtime.items.index[article_number("hat", 0)]].any()
    products = runtime.items.products
    assert [products[runtime.items.index[article_number("top", n)]] for n in (0, 2)] == [
        products[runtime.items.index[article_number("top", n)]] for n in (1, 3)
    ]


@pytest.mark.parametrize("name", FILES)
def test_missing_file_is_named(tiny: Tiny, tmp_path: Path, name: str) -> None:
    bundle = remade(tiny.bundle, tmp_path, lambda copy: (copy / name).unlink())
    with pytest.raises(BundleError, match=rf"{bundle.bundle_id} lacks {name}; it must have items.parquet, "):
        load_runtime(bundle)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (rewrite_features(hash="0123"), rf"trained on features 0123 from .* this code builds {feature_hash()}"),
        (rewrite_features(sources=["popular"]), r"from sources \['popular'\]; this code builds .*'content'\]"),
        (lambda copy: (copy / "features.json").write_text("{"), "features.json names no features"),
        (drop_an_item, "12"),
        (shorten_vectors, r"item_vectors.npy has shape \(11, 16\), items.parquet 13 rows"),
        (index_of_half_the_dimensions, "index.faiss holds vectors of 8 dimensions, item_vectors.npy of 16"),
        (index_of_fewer_items, "index.faiss holds 5 vectors, items.parquet 13 rows"),
        (rename_first_segment, "first segment is 'nobody', not 'all'"),
        (content_of_fewer_items, r"content_vectors.npy has shape \(12, 8\), items.parquet 13 rows"),
        (factors_of_fewer_items, r"collaborative.npz holds factors of shape \(12, 4\), items.parquet 13 rows"),
        (neighbours_of_fewer_items, r"covisitation.npz holds neighbours of 3 items, items.parquet 13 rows"),
        (
            rewrite_retrieval(depth=dict.fromkeys(SOURCES[1:], 5)),
            rf"retrieval.json gives a depth for {', '.join(SOURCES[1:])}; it must name {', '.join(SOURCES)}",
        ),
        (rewrite_retrieval(hybrid={"popular": 1.0}), r"gives a hybrid for popular; it must name content, collab, two"),
        (rewrite_retrieval(depth=dict.fromkeys(SOURCES, 0)), "depths are at least 1, weights not negative"),
        (
            lambda copy: (copy / "retrieval.json").write_text('{"depth": 5}'),
            "retrieval.json gives no depths and weights",
        ),
    ],
    ids=[
        "features",
        "sources",
        "no json",
        "items",
        "vectors",
        "dimensions",
        "index",
        "segments",
        "content",
        "factors",
        "neighbours",
        "depth",
        "hybrid",
        "no depth",
        "no weights",
    ],
)
def test_parts_that_do_not_agree_are_refused(
    tiny: Tiny, tmp_path: Path, change: Callable[[Path], object], message: str
) -> None:
    bundle = remade(tiny.bundle, tmp_path, change)
    with pytest.raises(BundleError, match=message):
        load_runtime(bundle)


def test_ranker_of_other_features_is_refused(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.ranking.FEATURES", ("one", "two"))
    with pytest.raises(BundleError, match=rf"ranker.onnx takes {len(FEATURES)} features; this code builds 2"):
        load_runtime(tiny.bundle)
