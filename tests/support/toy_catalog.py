"""A catalogue of eight articles whose retrieval, features and answers can be computed by hand.

Article vectors are the eight unit axes, and the encoder counts: a customer's vector points to what was bought, so the
cosine of an article is its share of the events over their norm.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from infra.bundle import Manifest
from infra.clock import ManualClock
from serving.features import FeatureBuilder
from serving.index import VectorIndex
from serving.items import COLUMNS, ItemTable
from serving.messages import RecommendationRequest
from serving.pipeline import Pipeline
from serving.retrieval.candidates import Floats
from serving.runtime import Catalog, Runtime
from serving.statistics import ItemStatistics
from streams.events import Event
from streams.state import CustomerState, empty_state, fold

DAY_ZERO = datetime(2026, 1, 1, tzinfo=UTC)
TODAY = 100  # days after DAY_ZERO
SPACE = "20260101T000000Z-0000000"

#   article_id, title, department, category, subcategory, brand, colour, price
ARTICLES = (
    ("bread", "Bread", "Food", "Bakery", "Loaves", "Own", None, 2.0),
    ("rolls", "Rolls", "Food", "Bakery", "Rolls", "Own", None, 1.0),
    ("milk", "Milk", "Food", "Dairy", "Milk", "Farm", "White", 1.5),
    ("cheese", "Cheese", "Food", "Dairy", "Cheese", "Farm", "Yellow", 6.0),
    ("apple", "Apple", "Food", "Fruit", "Apples", "Farm", "Red", None),
    ("socks", "Socks", "Wear", "Basics", "Socks", "Knit", "Black", 5.0),
    ("shirt", "Shirt", "Wear", "Tops", "Shirts", "Knit", "White", 20.0),
    ("hat", "Hat", "Wear", "Tops", "Hats", None, "Red", 15.0),
)
IDS = [row[0] for row in ARTICLES]
N = len(ARTICLES)
# Everybody buys in the order of the table, the young the other way round.
POPULAR = list(range(N))
YOUNG = POPULAR[::-1]


def items() -> ItemTable:
    columns = zip(*ARTICLES, strict=True)
    return ItemTable.from_table(pa.table({name: list(c) for name, c in zip(COLUMNS, columns, strict=True)}))


def statistics(top: int = N) -> ItemStatistics:
    """bread is bought again after 7 days; only the first `top` articles are listed as popular."""
    falling = np.arange(N, 0, -1).astype(np.float32)
    interval = np.full(N, np.nan, np.float32)
    interval[0] = 7.0
    return ItemStatistics(
        segments=["all", "young"],
        sold_7d=falling,
        sold_28d=falling * 4,
        sold_91d=falling * 12,
        buyers_91d=falling * 2,
        repeat_rate=falling / 10,
        interval=interval,
        last_sold=np.ones(N, np.float32),
        segment_share=np.stack([falling, falling[::-1]]) / falling.sum(),
        top=np.array([POPULAR[:top], YOUNG[:top]], np.int64),
    )


class CountingEncoder:
    """Unit vector of how often each article stands in the state."""

    space = SPACE
    dim = N

    def encode(self, states: Sequence[CustomerState]) -> Floats:
        vectors = np.zeros((len(states), N), np.float32)
        for row, state in enumerate(states):
            for article in state.article_ids:
                if article in IDS:
                    vectors[row, IDS.index(article)] += 1
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)


class CosineRanker:
    """Scores by one feature, and keeps what it was shown."""

    def __init__(self, feature: int = 40) -> None:
        self.feature = feature
        self.seen: list[Floats] = []

    def score(self, features: Floats) -> Floats:
        self.seen.append(features)
        return np.stack([features[:, self.feature]] * 2, axis=1)


class BrokenRanker:
    def score(self, features: Floats) -> Floats:
        raise RuntimeError("the network is gone")


def catalog(top: int = N) -> Catalog:
    table, counted = items(), statistics(top)
    vectors = np.eye(N, dtype=np.float32)
    encoder: Any = CountingEncoder()
    return Catalog(
        items=table,
        statistics=counted,
        encoder=encoder,
        index=VectorIndex.build(vectors),
        features=FeatureBuilder(table, counted, vectors),
        segments={"yara": "young"},
    )


def pipeline(ranker: Any = None, *, day: float = TODAY, top: int = N) -> Pipeline:
    manifest = Manifest(
        bundle_id=SPACE,
        format=1,
        created_at=DAY_ZERO,
        code_revision=None,
        trained_through=DAY_ZERO,
        config={},
        contracts={},
        counts={},
        metrics={},
        files={},
    )
    return Pipeline(Runtime(manifest, catalog(top), ranker or CosineRanker()), ManualClock(moment(day)))


def moment(day: float) -> datetime:
    return DAY_ZERO + timedelta(days=day)


def event(
    day: float, article: str, *, customer: str = "anna", type: str = "purchase", price: float | None = 2.0, n: int = 1
) -> Event:
    return Event(
        event_id=f"{customer}-{day}-{article}-{type}",
        type=type,
        occurred_at=moment(day),
        customer_id=customer,
        article_id=article,
        price=price,
        quantity=n,
    )


def state(*events: Event, customer: str = "anna") -> CustomerState:
    folded, _ = fold(empty_state(customer), events)
    return folded


def ask(customer: str = "anna", **fields: Any) -> RecommendationRequest:
    return RecommendationRequest(request_id=f"r-{customer}", customer_id=customer, **fields)
