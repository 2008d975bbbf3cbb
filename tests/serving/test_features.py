"""Every feature of one customer computed by hand, and what no feature may know."""

from __future__ import annotations

from math import exp, log, log1p

import numpy as np
import pytest

from serving.features import FEATURES, NEVER, feature_hash
from serving.history import history_of
from serving.pipeline import retrieve
from serving.retrieval.candidates import UNRANKED, CandidateSet, Floats, Query
from streams.events import Event, to_micros
from streams.state import CustomerState
from tests.support.toy_catalog import IDS, TODAY, CountingEncoder, N, catalog, event, items, moment, state

CATALOG = catalog()
# Three trips: 40, 20 and 10 days ago.
PAST = (
    event(60, "bread", price=4.0, n=2),
    event(80, "bread"),
    event(80, "milk", price=1.5),
    event(90, "bread"),
)


def query(customer: CustomerState | None, segment: int = 0, day: float = TODAY) -> Query:
    vector = CountingEncoder().encode([customer])[0] if customer else np.zeros(N, np.float32)
    return Query(history_of(customer, CATALOG.items.index, to_micros(moment(day))), vector, segment)


def features(given: Query, *articles: str) -> dict[str, dict[str, float]]:
    """Feature by article and name, for candidates found by `popular` at ranks 0, 1, 2..."""
    rows = np.array([IDS.index(a) for a in articles], np.int64)
    ranks = np.full((len(rows), 3), UNRANKED, np.float32)
    ranks[:, 1] = np.arange(len(rows))
    found = CandidateSet(("repurchase", "popular", "two_tower"), rows, np.zeros((len(rows), 3), np.float32), ranks)
    table = CATALOG.features.build(given, found)
    assert table.shape == (len(articles), len(FEATURES))
    assert table.dtype == np.float32
    return {a: dict(zip(FEATURES, row.tolist(), strict=True)) for a, row in zip(articles, table, strict=True)}


def test_own_purchases() -> None:
    found = features(query(state(*PAST)), "bread", "milk", "cheese")
    bread, milk, cheese = ({name: found[a][name] for name in FEATURES[:16]} for a in ("bread", "milk", "cheese"))
    assert bread == pytest.approx(
        {
            "bought": 1,
            "bought_count": log1p(3),
            "bought_count_30d": log1p(2),
            "bought_count_90d": log1p(3),
            "bought_decayed": exp(-40 / 60) + exp(-20 / 60) + exp(-10 / 60),
            "bought_decayed_14d": exp(-40 / 14) + exp(-20 / 14) + exp(-10 / 14),
            "bought_last_days": log1p(10),
            "bought_first_days": log1p(40),
            "bought_share": 3 / 4,
            "bought_trips": log1p(3),
            "trip_share": 1,
            "own_interval_days": log1p(15),
            "own_due": log(10.5 / 15.5),
            "item_interval_days": log1p(7),
            "item_due": log(10.5 / 7.5),  # a week's bread, ten days old: overdue
            "bought_last_trip": 1,
        },
        abs=1e-5,
    )
    assert milk == pytest.approx(
        {
            "bought": 1,
            "bought_count": log1p(1),
            "bought_count_30d": log1p(1),
            "bought_count_90d": log1p(1),
            "bought_decayed": exp(-20 / 60),
            "bought_decayed_14d": exp(-20 / 14),
            "bought_last_days": log1p(20),
            "bought_first_days": log1p(20),
            "bought_share": 1 / 4,
            "bought_trips": log1p(1),
            "trip_share": 1 / 3,
            "own_interval_days": log1p(NEVER),
            "own_due": log(20.5 / (NEVER + 0.5)),
            "item_interval_days": log1p(NEVER),
            "item_due": log(20.5 / (NEVER + 0.5)),
            "bought_last_trip": 0,
        },
        abs=1e-5,
    )
    never = {"bought_last_days", "bought_first_days", "own_interval_days", "item_interval_days"}
    expected = {name: log1p(NEVER) if name in never else 0.0 for name in FEATURES[:16]}
    assert cheese == pytest.approx(expected | {"own_due": -4, "item_due": -4}, abs=1e-5)


def test_purchases_in_the_same_group() -> None:
    found = features(query(state(*PAST)), "bread", "rolls", "cheese", "hat")
    habit = (3 * log1p(2.0) + log1p(1.5)) / 4
    assert {name: found["cheese"][name] for name in FEATURES[16:24]} == pytest.approx(
        {
            "subcategory_count": 0,
            "subcategory_decayed": 0,
            "subcategory_last_days": log1p(NEVER),
            "subcategory_bought_share": 0,
            "category_share": 1 / 4,  # milk is dairy too
            "category_last_days": log1p(20),
            "brand_share": 1 / 4,
            "price_to_habit": log1p(6.0) - habit,
        },
        abs=1e-5,
    )
    assert found["bread"]["subcategory_count"] == pytest.approx(log1p(3))
    assert found["bread"]["subcategory_decayed"] == pytest.approx(exp(-40 / 60) + exp(-20 / 60) + exp(-10 / 60))
    assert found["bread"]["subcategory_last_days"] == pytest.approx(log1p(10))
    assert found["bread"]["subcategory_bought_share"] == 1
    assert found["rolls"]["category_share"] == pytest.approx(3 / 4)
    assert found["rolls"]["brand_share"] == pytest.approx(3 / 4)
    assert found["hat"]["category_share"] == found["hat"]["brand_share"] == 0


def test_article_customer_and_retrieval() -> None:
    found = features(query(state(*PAST), segment=1), "milk", "bread")
    bread = {name: found["bread"][name] for name in FEATURES[24:]}
    assert bread == pytest.approx(
        {
            "sold_7d": log1p(8),
            "sold_28d": log1p(32),
            "sold_91d": log1p(96),
            "sold_trend": 0,
            "buyers_91d": log1p(16),
            "repeat_rate": 0.8,
            "last_sold_days": log1p(1),
            "segment_lift": log(1 / 8),
            "price": log1p(2.0),
            "trips": log1p(3),
            "trips_30d": log1p(2),
            "last_trip_days": log1p(10),
            "trip_interval_days": log1p(15),
            "trip_due": log(10.5 / 15.5),
            "basket_size": log1p(4 / 3),
            "explored": 2 / 4,
            "two_tower_cosine": 3 / 10**0.5,
            "repurchase_rank": log1p(UNRANKED),
            "popular_rank": log1p(1),
            "two_tower_rank": log1p(UNRANKED),
            "found_by": 1,
        },
        abs=1e-4,
    )


@pytest.mark.parametrize("customer", [None, state(), state(event(90, "wine")), state(event(90, "apple", price=None))])
def test_features_are_finite_whatever_is_missing(customer: CustomerState | None) -> None:
    given = query(customer)
    (found,) = retrieve(CATALOG.sources, [given])
    assert np.isfinite(CATALOG.features.build(given, found)).all()


def test_an_article_never_bought_was_not_on_a_trip_years_ago() -> None:
    """A pause longer than NEVER must not make every unknown article part of the last trip."""
    found = features(query(state(event(0, "bread")), day=NEVER + 200), "bread", "hat")
    assert found["bread"]["bought_last_trip"] == 1
    assert found["hat"]["bought_last_trip"] == 0


@pytest.mark.parametrize(
    "planted", [event(TODAY, "hat", price=900.0), event(TODAY + 3, "bread", price=900.0)], ids=["now", "later"]
)
def test_a_planted_future_changes_no_feature(planted: Event) -> None:
    def build(*events: Event, day: float = TODAY) -> Floats:
        given = Query(
            history_of(state(*events), CATALOG.items.index, to_micros(moment(day))), np.ones(N, np.float32), 0
        )
        (found,) = retrieve(CATALOG.sources, [given])
        return CATALOG.features.build(given, found)

    assert np.array_equal(build(*PAST), build(*PAST, planted))
    assert not np.array_equal(build(*PAST, day=TODAY + 4), build(*PAST, planted, day=TODAY + 4))


def test_the_hash_names_the_order(monkeypatch: pytest.MonkeyPatch) -> None:
    before = feature_hash()
    monkeypatch.setattr("serving.features.FEATURES", FEATURES[::-1])
    assert feature_hash() != before
    assert len(set(FEATURES)) == len(FEATURES)


def test_items_table_keeps_what_is_missing() -> None:
    table = items()
    assert table.describe("apple") == {
        "article_id": "apple",
        "title": "Apple",
        "category": "Fruit",
        "department": "Food",
        "price": None,
    }
    assert table.describe("wine")["title"] is None
    assert table.label("brand", IDS.index("hat")) is None
