"""A catalogue of eight articles whose retrieval, features and answers can be computed by hand.

Article vectors are the eight unit axes, and the encoder counts: a customer's vector points to what was bought, so the
cosine of an article is its share of the events over their norm. Food and wear have a factor each, and no article has
both, so that a fold-in is one division (see FACTORS).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from infra.bundle import Manifest
from infra.clock import ManualClock
from serving.index import VectorIndex
from serving.items import COLUMNS, ItemTable
from serving.messages import RecommendationRequest
from serving.pipeline import Pipeline
from serving.retrieval.candidates import Floats
from serving.retrieval.collaborative import Factors
from serving.retrieval.covisitation import Neighbours
from serving.retrieval.query import Query
from serving.rules import NO_RULES, ShopRules
from serving.runtime import Catalog, RetrievalConfig, Runtime
from serving.statistics import ItemStatistics
from streams.bundle_contract import FEATURES, SOURCES
from streams.events import Event, to_micros
from streams.state import CustomerState, empty_state, fold

DAY_ZERO = datetime(2026, 1, 1, tzinfo=UTC)
TODAY = 100  # days after DAY_ZERO
SPACE = "20260101T000000Z-0000000"

#   article_id, title, product_code, department, category, subcategory, brand, colour, price
ARTICLES = (
    ("bread", "Bread", "dough", "Food", "Bakery", "Loaves", "Own", None, 2.0),
    ("rolls", "Rolls", "dough", "Food", "Bakery", "Rolls", "Own", None, 1.0),
    ("milk", "Milk", None, "Food", "Dairy", "Milk", "Farm", "White", 1.5),
    ("cheese", "Cheese", None, "Food", "Dairy", "Cheese", "Farm", "Yellow", 6.0),
    ("apple", "Apple", None, "Food", "Fruit", "Apples", "Farm", "Red", None),
    ("socks", "Socks", "wool", "Wear", "Basics", "Socks", "Knit", "Black", 5.0),
    ("shirt", "Shirt", "wool", "Wear", "Tops", "Shirts", "Knit", "White", 20.0),
    ("hat", "Hat", "wool", "Wear", "Tops", "Hats", None, "Red", 15.0),
)
IDS = [row[0] for row in ARTICLES]
N = len(ARTICLES)
# Everybody buys in the order of the table, the young the other way round.
POPULAR = list(range(N))
YOUNG = POPULAR[::-1]

# What goes with what, strongest first. Nobody ever bought an apple or a hat together with anything.
COMPANIONS: dict[str, dict[str, float]] = {
    "bread": {"milk": 0.5, "cheese": 0.25},
    "rolls": {"bread": 0.5},
    "milk": {"cheese": 0.5, "bread": 0.25},
    "cheese": {"milk": 0.75},
    "socks": {"shirt": 0.25},
    "shirt": {"socks": 0.5},
}
# One factor for food, one for wear; nobody ever bought an apple. Y'Y = diag(1.875, 1.8125).
FACTORS = np.array(
    [[1, 0], [0.75, 0], [0.5, 0], [0.25, 0], [0, 0], [0, 1], [0, 0.75], [0, 0.5]], np.float32
)  # fmt: skip
CONFIDENCE, REGULARIZATION, INTEREST_DAYS = 2.0, 1.0, 60.0
# Unit rows; the hat has neither text nor picture.
CONTENT = np.array(
    [[1, 0, 0], [0.8, 0.6, 0], [0.6, 0.8, 0], [0, 1, 0], [0.28, 0.96, 0], [0, 0, 1], [0, 0.6, 0.8], [0, 0, 0]],
    np.float32,
)
# Only the apple was never sold.
DEBUT = np.array([0, 0, 0, 0, 0.5, 0, 0, 0], np.float32)
HYBRID = {"content": 0.5, "collab": 0.25, "two_tower": 0.25}


def items() -> ItemTable:
    columns = zip(*ARTICLES, strict=True)
    return ItemTable.from_table(pa.table({name: list(c) for name, c in zip(COLUMNS, columns, strict=True)}))


def statistics(top: int = N) -> ItemStatistics:
    """bread is bought again after 7 days and cheaper lately; only the first `top` articles are listed as popular."""
    falling = np.arange(N, 0, -1).astype(np.float32)
    interval, lately = np.full((2, N), np.nan, np.float32)
    interval[0], lately[0] = 7.0, 1.8
    return ItemStatistics(
        segments=["all", "young"],
        sold_1d=falling / 4,
        sold_3d=falling / 2,
        sold_7d=falling,
        sold_28d=falling * 4,
        sold_91d=falling * 12,
        buyers_91d=falling * 2,
        repeat_rate=falling / 10,
        interval=interval,
        first_sold=np.full(N, 300, np.float32),
        last_sold=np.ones(N, np.float32),
        price_7d=lately,
        debut=DEBUT,
        segment_share=np.stack([falling, falling[::-1]]) / falling.sum(),
        segment_buyers=np.stack([falling * 2, falling]),
        top=np.array([POPULAR[:top], YOUNG[:top]], np.int64),
    )


def neighbours(companions: Mapping[str, Mapping[str, float]] = COMPANIONS) -> Neighbours:
    rows = [companions.get(article, {}) for article in IDS]
    return Neighbours(
        np.cumsum([0, *map(len, rows)]).astype(np.int64),
        np.array([IDS.index(article) for row in rows for article in row], np.int32),
        np.array([weight for row in rows for weight in row.values()], np.float32),
    )


def factors() -> Factors:
    return Factors(FACTORS, CONFIDENCE, REGULARIZATION, INTEREST_DAYS)


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

    def __init__(self, feature: str = "two_tower_cosine") -> None:
        self.feature = FEATURES.index(feature)
        self.seen: list[Floats] = []

    def score(self, features: Floats) -> Floats:
        self.seen.append(features)
        return np.stack([features[:, self.feature]] * 2, axis=1)

    def explained(self, features: Floats) -> tuple[Floats, Floats]:
        """Two experts, of whom the second has more to say the higher the feature."""
        share = np.clip(features[:, self.feature], 0, 1)
        return self.score(features), np.stack([1 - share, share], axis=1)


class BrokenRanker:
    def score(self, features: Floats) -> Floats:
        raise RuntimeError("the network is gone")

    def explained(self, features: Floats) -> tuple[Floats, Floats]:
        raise RuntimeError("the network is gone")


def catalog(top: int = N, depth: int | Mapping[str, int] = N) -> Catalog:
    """`depth`: how many each source is asked for, or each by name."""
    vectors = np.eye(N, dtype=np.float32)
    encoder: Any = CountingEncoder()
    depths = dict.fromkeys(SOURCES, depth) if isinstance(depth, int) else dict(depth)
    return Catalog(
        items=items(),
        statistics=statistics(top),
        encoder=encoder,
        index=VectorIndex.build(vectors),
        vectors=vectors,
        neighbours=neighbours(),
        factors=factors(),
        content=CONTENT,
        segments={"yara": "young"},
        retrieval=RetrievalConfig(depths, HYBRID),
    )


def query(
    customer: CustomerState | None, *, segment: str | None = None, day: float = TODAY, given: Catalog | None = None
) -> Query:
    """A customer on a day as the sources see one, by the toy encoder."""
    vector = CountingEncoder().encode([customer])[0] if customer else np.zeros(N, np.float32)
    return (given or catalog()).query(customer, vector, segment, to_micros(moment(day)))


def pipeline(
    ranker: Any = None,
    *,
    day: float = TODAY,
    top: int = N,
    depth: int | Mapping[str, int] = N,
    shop: ShopRules = NO_RULES,
) -> Pipeline:
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
    runtime = Runtime(manifest, catalog(top, depth), ranker or CosineRanker())
    return Pipeline(runtime, ManualClock(moment(day)), shop=shop)


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
