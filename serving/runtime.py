"""All that one bundle gives to an answer: immutable, checked when it is opened."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial

import msgspec
import numpy as np
import pyarrow.parquet as pq

from infra.bundle import Bundle, Manifest
from infra.errors import BundleError
from infra.pauses import rest
from serving.content_space import ContentSpace
from serving.features import FeatureBuilder
from serving.history import history_of
from serving.index import VectorIndex
from serving.items import ItemTable
from serving.ranking import Ranker
from serving.retrieval.candidates import Floats
from serving.retrieval.collaborative import Collaborative, Factors
from serving.retrieval.content import Content, taste_of
from serving.retrieval.covisitation import CoVisitation, Neighbours
from serving.retrieval.hybrid import Hybrid
from serving.retrieval.popular import Popular
from serving.retrieval.query import Query, Reading
from serving.retrieval.repurchase import Repurchase
from serving.retrieval.source import ScoringSource, Source
from serving.retrieval.two_tower import TwoTower
from serving.retrieval.variants import Variants
from serving.searchable import Searchable
from serving.statistics import ALL, ItemStatistics
from streams.bundle_contract import SOURCES, check_contract
from streams.encoder import QueryEncoder, load_vectors, open_query_encoder
from streams.state import CustomerState

HYBRID = ("content", "collab", "two_tower")


@dataclass(frozen=True)
class RetrievalConfig:
    """depth: candidates asked of each source for the ranker · hybrid: weights of the baseline blend."""

    depth: dict[str, int]
    hybrid: dict[str, float]


# From what each source adds on Complete Journey's week of 2017-12-17: repurchase finds a third of what is bought within
# 150 and goes on finding (0.44 in all), while each of the others adds less than 0.01.
DEFAULT_RETRIEVAL = RetrievalConfig(
    depth={
        "repurchase": 250,
        "variants": 30,
        "covisitation": 100,
        "popular": 60,
        "collab": 60,
        "two_tower": 60,
        "content": 30,
    },
    hybrid={"content": 0.4, "collab": 0.4, "two_tower": 0.2},
)


@dataclass(frozen=True, eq=False)
class Catalog:
    """What retrieval and features need: everything of a bundle but the ranker (which is trained on their output).

    content: float32[n, c] unit rows, zero for an article without text and picture · segments: customer_id -> name.
    """

    items: ItemTable
    statistics: ItemStatistics
    encoder: QueryEncoder
    index: VectorIndex
    vectors: Floats
    neighbours: Neighbours
    factors: Factors
    content: Floats
    segments: dict[str, str]
    retrieval: RetrievalConfig = DEFAULT_RETRIEVAL

    @cached_property
    def features(self) -> FeatureBuilder:
        return FeatureBuilder(self.items, self.statistics, self.vectors, self.factors, self.content)

    @cached_property
    def sources(self) -> tuple[Source, ...]:
        """What the ranker chooses from, in the order of SOURCES."""
        return (
            Repurchase(),
            Variants(self.items, self.statistics),
            CoVisitation(),
            Popular(self.statistics),
            *self.scoring,
        )

    @cached_property
    def strategies(self) -> dict[str, Source]:
        """What a request may ask for instead of `full`."""
        blend = Hybrid(self.scoring, self.retrieval.hybrid)
        return {source.name: source for source in (*self.sources, blend)}

    @cached_property
    def scoring(self) -> tuple[ScoringSource, ...]:
        """Those of the sources that can score any article."""
        return self.collaborative, TwoTower(self.index, self.vectors), self.likeness

    @cached_property
    def lengths(self) -> Floats:
        """Of the vectors, float32[n]."""
        return np.asarray(np.linalg.norm(self.vectors, axis=1), np.float32)

    @cached_property
    def collaborative(self) -> Collaborative:
        return Collaborative(self.factors)

    @cached_property
    def likeness(self) -> Content:
        return Content(self.content, self.statistics.debut)

    @property
    def bundled_items(self) -> int:
        """How many of the rows the bundle has learned from; others came later."""
        return len(self.items)

    def query(self, state: CustomerState | None, vector: Floats, segment: str | None, as_of: int) -> Query:
        """A customer strictly before `as_of` (microseconds)."""
        history = history_of(state, self.items.index, as_of)
        return Query(history, vector, self.statistics.segment_of(segment), self._reading)

    @cached_property
    def _reading(self) -> Reading:
        return Reading(self.factors.fold_in, partial(taste_of, vectors=self.content), self.neighbours.of)


@dataclass(frozen=True, eq=False)
class Runtime:
    """A bundle, ready to answer. content_space: where articles get their content that the bundle does not know ·
    searchable: what it carries to be searched by."""

    manifest: Manifest
    catalog: Catalog
    ranker: Ranker
    content_space: ContentSpace | None = None
    searchable: Searchable | None = None

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
    spec = check_contract(bundle)
    items = ItemTable.from_table(pq.read_table(bundle.file("items.parquet"), use_threads=False))
    rest()
    n = len(items)
    vectors, content = (load_vectors(bundle, name, n) for name in ("item_vectors.npy", "content_vectors.npy"))
    rest()
    statistics = ItemStatistics.load(bundle.file("statistics.npz"), n)
    rest()
    segments = pq.read_table(bundle.file("segments.parquet"), use_threads=False)
    segment_of = dict(zip(segments["customer_id"].to_pylist(), segments["segment"].to_pylist(), strict=True))
    rest()
    index = VectorIndex.load(bundle.file("index.faiss"), n)
    if index.dim != vectors.shape[-1]:
        raise BundleError(
            f"bundle {bundle.bundle_id}: index.faiss holds vectors of {index.dim} dimensions, item_vectors.npy of "
            f"{vectors.shape[-1]}"
        )
    if statistics.segments[0] != ALL:
        raise BundleError(f"bundle {bundle.bundle_id}: first segment is {statistics.segments[0]!r}, not {ALL!r}")
    rest()
    encoder = open_query_encoder(bundle, vectors, items.index)
    rest()
    neighbours = Neighbours.load(bundle.file("covisitation.npz"), n)
    rest()
    factors = Factors.load(bundle.file("collaborative.npz"), n)
    rest()
    catalog = Catalog(
        items=items,
        statistics=statistics,
        encoder=encoder,
        index=index,
        vectors=vectors,
        neighbours=neighbours,
        factors=factors,
        content=content,
        segments=segment_of,
        retrieval=_retrieval_config(bundle),
    )
    space = ContentSpace.load(bundle.file("content_space.npz"), content.shape[1])
    rest()
    ranker = Ranker(bundle.file("ranker.onnx"), spec.tasks)
    rest()
    return Runtime(bundle.manifest, catalog, ranker, space, Searchable(bundle, n, space))


def _retrieval_config(bundle: Bundle) -> RetrievalConfig:
    try:
        config = msgspec.json.decode(bundle.file("retrieval.json").read_bytes(), type=RetrievalConfig)
    except msgspec.DecodeError as error:
        raise BundleError(f"bundle {bundle.bundle_id}: retrieval.json gives no depths and weights: {error}") from error
    for name, wanted, given in (("depth", SOURCES, config.depth), ("hybrid", HYBRID, config.hybrid)):
        if set(given) != set(wanted):
            raise BundleError(
                f"bundle {bundle.bundle_id}: retrieval.json gives a {name} for {', '.join(given)}; "
                f"it must name {', '.join(wanted)}"
            )
    if min(config.depth.values()) < 1 or min(config.hybrid.values()) < 0:
        raise BundleError(
            f"bundle {bundle.bundle_id}: retrieval.json gives depths {config.depth} and weights {config.hybrid}; "
            f"depths are at least 1, weights not negative"
        )
    return config
