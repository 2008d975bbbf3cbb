"""What the shop, the customer and retrieval say of an article, computed by hand, and the contract of all features."""

from __future__ import annotations

from math import exp, log, log1p

import numpy as np
import pytest

from serving.features import LOOKED_AT
from serving.retrieval.candidates import UNRANKED, CandidateSet
from streams.bundle_contract import CUSTOMER, FEATURES, GROUP, ITEM, OWN, RETRIEVAL, SOURCES, feature_hash
from tests.serving.feature_rows import CATALOG, PAST, block, features
from tests.support.toy_catalog import CONTENT, event, query, state


def test_article_and_customer() -> None:
    bread = features(query(state(*PAST), segment="young"), "milk", "bread")["bread"]
    assert block(bread, (*ITEM, *CUSTOMER)) == pytest.approx(
        {
            "sold_1d": log1p(2),
            "sold_3d": log1p(4),
            "sold_7d": log1p(8),
            "sold_28d": log1p(32),
            "sold_91d": log1p(96),
            "sold_trend": 0,  # a quarter of the month's
            "sold_trend_3d": log((2 + 1) / (4 / 3 + 1)),
            "buyers_91d": log1p(16),
            "repeat_rate": 0.8,
            "last_sold_days": log1p(1),
            "first_sold_days": log1p(300),
            "debut": 0,
            "price": log1p(2.0),
            "price_trend": log1p(1.8) - log1p(2.0),
            "segment_lift": log(1 / 8),
            "trips": log1p(3),
            "trips_30d": log1p(2),
            "last_trip_days": log1p(10),
            "trip_interval_days": log1p(15),
            "trip_due": log(10.5 / 15.5),
            "basket_size": log1p(4 / 3),
            "explored": 2 / 4,
        },
        abs=1e-4,
    )


def test_an_article_that_did_not_sell_has_no_price_trend_but_maybe_a_debut() -> None:
    found = features(query(None), "milk", "apple")
    assert [found[a]["price_trend"] for a in ("milk", "apple")] == [0, 0]
    assert found["apple"]["price"] == 0
    assert found["apple"]["debut"] == pytest.approx(log1p(0.5))


def test_retrieval() -> None:
    found = features(query(state(*PAST)), "milk", "bread", "apple")
    often, once = (sum(exp(-age / 60) for age in ages) for ages in ((40, 20, 10), (20,)))
    taste = np.array([often + 0.6 * once, 0.8 * once])
    taste /= np.hypot(*taste)
    food = (2 * often + 0.5 * 2 * once) / (1.875 + (2 * often - 1) + 0.25 * (2 * once - 1) + 1)
    ranks = {f"{name}_rank": log1p(UNRANKED) for name in SOURCES}
    assert block(found["bread"], RETRIEVAL) == pytest.approx(
        {
            "two_tower_cosine": 3 / 10**0.5,
            "collab_score": food,
            "content_cosine": taste[0],
            "content_nearest": 1,
            "related_sum": 0.25 * exp(-20 / 60),  # goes with milk
            "related_max": 0.25 * exp(-20 / 60),
            **ranks,
            "popular_rank": log1p(1),
            "found_by": 1,
        },
        abs=1e-4,
    )
    assert found["milk"]["related_max"] == pytest.approx(0.5)  # goes with bread, of which there was plenty
    assert found["milk"]["collab_score"] == pytest.approx(0.5 * food, abs=1e-5)
    apple = found["apple"]
    assert apple["content_cosine"] == pytest.approx(0.28 * taste[0] + 0.96 * taste[1], abs=1e-4)
    assert apple["content_nearest"] == pytest.approx(0.28 * 0.6 + 0.96 * 0.8)  # milk is nearer than bread
    assert apple["collab_score"] == apple["related_sum"] == apple["related_max"] == 0


def test_found_by_and_ranks_of_every_source() -> None:
    """Each source at a rank of its own; a candidate that all found, one that none but the last did."""
    rows = np.array([0, 1])
    ranks = np.stack([np.arange(len(SOURCES)), np.full(len(SOURCES), UNRANKED)]).astype(np.float32)
    ranks[1, -1] = 3
    table = CATALOG.features.build(query(None), CandidateSet(SOURCES, rows, ranks))
    first = FEATURES.index("repurchase_rank")
    assert table[0, first : first + len(SOURCES)].tolist() == pytest.approx([log1p(n) for n in range(len(SOURCES))])
    assert table[:, FEATURES.index("found_by")].tolist() == [len(SOURCES), 1]
    assert table[1, FEATURES.index("content_rank")] == pytest.approx(log1p(3))


def test_only_the_newest_acts_count_for_the_nearest_content() -> None:
    past = [event(10, "milk")] + [event(50 + n, "bread") for n in range(LOOKED_AT)]
    found = features(query(state(*past)), "apple")["apple"]
    assert found["content_nearest"] == pytest.approx(float(CONTENT[4] @ CONTENT[0]))
    assert features(query(state(*past[:-1])), "apple")["apple"]["content_nearest"] == pytest.approx(
        float(CONTENT[4] @ CONTENT[2])
    )


def test_the_groups_are_all_of_the_features() -> None:
    assert (*OWN, *GROUP, *ITEM, *CUSTOMER, *RETRIEVAL) == FEATURES
    assert [name for name in RETRIEVAL if name.endswith("_rank")] == [f"{name}_rank" for name in SOURCES]


def test_the_hash_names_the_order(monkeypatch: pytest.MonkeyPatch) -> None:
    before = feature_hash()
    monkeypatch.setattr("streams.bundle_contract.FEATURES", FEATURES[::-1])
    assert feature_hash() != before
    assert len(set(FEATURES)) == len(FEATURES)
