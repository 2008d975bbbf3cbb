"""All that one bundle gives to an answer: immutable, checked when it is opened."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import pyarrow.parquet as pq

from infra.bundle import Bundle, Manifest
from infra.errors import BundleError
from serving.features import SOURCES, FeatureBuilder, feature_hash
from serving.index import VectorIndex
from serving.items import ItemTable
from serving.ranking import Ranker
from serving.retrieval.candidates import Source
from serving.retrieval.popular import Popular
from serving.retrieval.repurchase import Repurchase
from serving.retrieval.two_tower import TwoTower
from serving.statistics import ALL, ItemStatistics
from streams.encoder import QueryEncoder, load_query_encoder

FILES = (
    "items.parquet",
    "item_vectors.npy",
    "index.faiss",
    "query_encoder.onnx",
    "ranker.onnx",
    "features.json",
    "statistics.npz",
    "segments.parquet",
    "golden.jsonl",
    "report.json",
)


@dataclass(frozen=True, eq=False)
class Catalog:
    """What retrieval and features need: everything of a bundle but the ranker (which is trained on their output)."""

    items: ItemTable
    statistics: ItemStatistics
    encoder: QueryEncoder
    index: VectorIndex
    features: FeatureBuilder
    segments: dict[str, str]  # customer_id -> segment name

    @property
    def sources(self) -> tuple[Source, ...]:
        """In the order of features.SOURCES."""
        return (Repurchase(), Popular(self.statistics), TwoTower(self.index))


@dataclass(frozen=True, eq=False)
class Runtime:
    """A bundle, ready to answer."""

    manifest: Manifest
    catalog: Catalog
    ranker: Ranker

    @property
    def bundle_id(self) -> str:
        return self.manifest.bundle_id

    @property
    def items(self) -> ItemTable:
        return self.catalog.items

    @property
    def encoder(self) -> QueryEncoder:
        return self.catalog.encoder


def load_runtime(bundle: Bundle) -> Runtime:
    """Open a verified bundle.

    Raises:
        BundleError: a file is missing, features are not this code's, or sizes do not agree; says what was given and
            what is expected.
    """
    missing = [name for name in FILES if name not in bundle.manifest.files]
    if missing:
        raise BundleError(f"bundle {bundle.bundle_id} lacks {', '.join(missing)}; it must have {', '.join(FILES)}")
    spec = json.loads(bundle.file("features.json").read_text())
    if spec.get("hash") != feature_hash() or tuple(spec.get("sources", ())) != SOURCES:
        raise BundleError(
            f"bundle {bundle.bundle_id} was trained on features {spec.get('hash')} from sources {spec.get('sources')}; "
            f"this code builds {feature_hash()} from {list(SOURCES)}: run `modiste offline run` again"
        )
    items = ItemTable.from_table(pq.read_table(bundle.file("items.parquet")))
    vectors = np.load(bundle.file("item_vectors.npy"), allow_pickle=False).astype(np.float32, copy=False)
    statistics = ItemStatistics.load(bundle.file("statistics.npz"), len(items))
    segments = pq.read_table(bundle.file("segments.parquet"))
    index = VectorIndex.load(bundle.file("index.faiss"), len(items))
    if index.dim != vectors.shape[-1]:
        raise BundleError(
            f"bundle {bundle.bundle_id}: index.faiss holds vectors of {index.dim} dimensions, item_vectors.npy of "
            f"{vectors.shape[-1]}"
        )
    catalog = Catalog(
        items=items,
        statistics=statistics,
        encoder=load_query_encoder(bundle),
        index=index,
        features=FeatureBuilder(items, statistics, vectors),
        segments=dict(zip(segments["customer_id"].to_pylist(), segments["segment"].to_pylist(), strict=True)),
    )
    if statistics.segments[0] != ALL:
        raise BundleError(f"bundle {bundle.bundle_id}: first segment is {statistics.segments[0]!r}, not {ALL!r}")
    return Runtime(bundle.manifest, catalog, Ranker(bundle.file("ranker.onnx"), tuple(spec.get("tasks", ()))))
