"""Every feature of one customer computed by hand, and what no feature may know."""

from __future__ import annotations

from math import exp, log, log1p

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.features import CUSTOMER, FEATURES, GROUP, ITEM, LOOKED_AT, OWN, RETRIEVAL, SOURCES, feature_hash
from serving.pipeline import retrieve
from serving.retrieval.candidates import UNRANKED, CandidateSet, Floats
from serving.retrieval.query import Query
from serving.rhythm import NEVER
from streams.events import EVENT_TYPES, Event
from streams.state import CustomerState
from tests.support.toy_catalog import CONTENT, IDS, TODAY, N, catalog, event, items, query, state

CATALOG = catalog()
# Three trips: 40, 20 and 10 days ago.
PAST = (
    event(60, "bread", price=4.0, n=2),
    event(80, "bread"),
    event(80, "milk", price=1.5),
    event(90, "bread"),
)
LOOKED = ("viewed_decayed", "viewed_last_days", "carted_last_days")


def features(given: Query, *articles: str) -> dict[str, dict[str, float]]:
    """Feature by article and name, for candidates found by `popular` at ranks 0, 1, 2..."""
    rows = np.array([IDS.index(a) for a in articles], np.int64)
    shape = (len(rows), len(SOURCES))
    ranks = np.full(shape, UNRANKED, np.float32)
    ranks[:, SOURCES.index("popular")] = np.arange(len(rows))
    table = CATALOG.features.build(given, CandidateSet(SOURCES, rows, ranks))
    assert table.shape == (len(articles), len(FEATURES))
    assert table.dtype == np.float32
    return {a: dict(zip(FEATURES, row.tolist(), strict=True)) for a, row in zip(articles, table, strict=True)}


def block(found: dict[str, float], names: tuple[str, ...]) -> dict[str, float]:
    return {name: found[name] for name in names}


def test_own_purchases_of_a_habit() -> None:
    bread = features(query(state(*PAST)), "bread")["bread"]
    assert block(bread, OWN) == pytest.approx(
        {
            "bought": 1,
            "bought_count": log1p(3),
            "bought_count_7d": 0,
            "bought_count_30d": log1p(2),
            "bought_count_90d": log1p(3),
            "bought_decayed": exp(-40 / 60) + exp(-20 / 60) + exp(-10 / 60),
            "bought_decayed_14d": exp(-40 / 14) + exp(-20 / 14) + exp(-10 / 14),
            "bought_last_days": log1p(10),
            "bought_first_days": log1p(40),
            "bought_share": 3 / 4,
            "bought_trips": log1p(3),
            "trip_share": 1,
            "bought_last_5_trips": 1,  # there were three
            "bought_last_10_trips": 1,
            "trips_since": 0,
            "own_trip_interval": log1p(1),  # on every trip
            "own_trip_due": log(0.5 / 1.5),
            "own_interval_days": log1p(15),
            "own_due": log(10.5 / 15.5),
            "item_interval_days": log1p(7),
            "item_due": log(10.5 / 7.5),  # a week's bread, ten days old: overdue
            "price_to_paid": 0,
            "viewed_decayed": 0,
            "viewed_last_days": log1p(NEVER),
            "carted_last_days": log1p(NEVER),
        },
        abs=1e-5,
    )


def test_own_purchases_of_what_was_bought_once_and_never() -> None:
    found = features(query(state(*PAST)), "milk", "cheese")
    assert block(found["milk"], OWN) == pytest.approx(
        {
            "bought": 1,
            "bought_count": log1p(1),
            "bought_count_7d": 0,
            "bought_count_30d": log1p(1),
            "bought_count_90d": log1p(1),
            "bought_decayed": exp(-20 / 60),
            "bought_decayed_14d": exp(-20 / 14),
            "bought_last_days": log1p(20),
            "bought_first_days": log1p(20),
            "bought_share": 1 / 4,
            "bought_trips": log1p(1),
            "trip_share": 1 / 3,
            "bought_last_5_trips": 1 / 3,
            "bought_last_10_trips": 1 / 3,
            "trips_since": log1p(1),
            "own_trip_interval": log1p(NEVER),
            "own_trip_due": -4,
            "own_interval_days": log1p(NEVER),
            "own_due": log(20.5 / (NEVER + 0.5)),
            "item_interval_days": log1p(NEVER),
            "item_due": log(20.5 / (NEVER + 0.5)),
            "price_to_paid": 0,
            "viewed_decayed": 0,
            "viewed_last_days": log1p(NEVER),
            "carted_last_days": log1p(NEVER),
        },
        abs=1e-5,
    )
    days = {name for name in OWN if name.endswith(("last_days", "first_days", "interval_days"))}
    never = {name: log1p(NEVER) if name in days else 0.0 for name in OWN}
    never |= dict.fromkeys(("trips_since", "own_trip_interval"), log1p(NEVER))
    never |= dict.fromkeys(("own_trip_due", "own_due", "item_due"), -4.0)
    assert block(found["cheese"], OWN) == pytest.approx(never, abs=1e-5)


def test_every_second_trip_is_due_after_two() -> None:
    """bread on trips 1, 3 and 5 of six, counted from the newest: since 1, every 2."""
    past = [event(40 + 10 * n, "bread" if n % 2 == 0 else "hat") for n in range(6)]
    bread = features(query(state(*past)), "bread")["bread"]
    assert bread["trips_since"] == pytest.approx(log1p(1))
    assert bread["own_trip_interval"] == pytest.approx(log1p(2))
    assert bread["own_trip_due"] == pytest.approx(log(1.5 / 2.5))
    assert bread["bought_last_5_trips"] == pytest.approx(2 / 5)
    assert bread["bought_last_10_trips"] == pytest.approx(3 / 6)


def test_the_price_now_against_the_price_last_paid() -> None:
    past = (
        event(60, "bread", price=2.0),
        event(80, "bread", price=7.5, n=3),  # 2.50 a piece, the newest known
        event(80, "milk", price=1.0),
        event(90, "milk", price=None),  # the newest, unknown
        event(90, "apple", price=3.0),  # the shop asks nothing that is known
    )
    found = features(query(state(*past)), "bread", "milk", "apple", "hat")
    assert found["bread"]["price_to_paid"] == pytest.approx(log1p(2.0) - log1p(2.5))
    assert [found[a]["price_to_paid"] for a in ("milk", "apple", "hat")] == [0, 0, 0]


def test_views_and_carts() -> None:
    past = (
        event(70, "hat", type="view"),
        event(90, "hat", type="view"),
        event(95, "shirt", type="cart"),
        event(80, "shirt", type="view"),
        event(90, "bread"),
    )
    found = features(query(state(*past)), "hat", "shirt", "bread")
    assert block(found["hat"], LOOKED) == pytest.approx(
        {
            "viewed_decayed": exp(-30 / 14) + exp(-10 / 14),
            "viewed_last_days": log1p(10),
            "carted_last_days": log1p(NEVER),
        },
        abs=1e-5,
    )
    assert block(found["shirt"], LOOKED) == pytest.approx(
        {"viewed_decayed": exp(-20 / 14), "viewed_last_days": log1p(20), "carted_last_days": log1p(5)}, abs=1e-5
    )
    assert block(found["bread"], LOOKED)["viewed_decayed"] == 0  # a purchase is no view
    assert found["hat"]["bought"] == found["shirt"]["bought"] == 0


def test_purchases_in_the_same_group() -> None:
    found = features(query(state(*PAST)), "bread", "rolls", "cheese", "hat")
    habit = (3 * log1p(2.0) + log1p(1.5)) / 4
    assert block(found["cheese"], GROUP) == pytest.approx(
        {
            "subcategory_count": 0,
            "subcategory_decayed": 0,
            "subcategory_last_days": log1p(NEVER),
            "subcategory_bought_share": 0,
            "subcategory_trip_share": 0,
            "subcategory_due": -4,
            "category_share": 1 / 4,  # milk is dairy too
            "category_last_days": log1p(20),
            "brand_share": 1 / 4,
            "product_count": 0,
            "product_last_days": log1p(NEVER),
            "price_to_habit": log1p(6.0) - habit,
        },
        abs=1e-5,
    )
    assert block(found["bread"], GROUP) == pytest.approx(
        {
            "subcategory_count": log1p(3),
            "subcategory_decayed": exp(-40 / 60) + exp(-20 / 60) + exp(-10 / 60),
            "subcategory_last_days": log1p(10),
            "subcategory_bought_share": 1,
            "subcategory_trip_share": 1,
            "subcategory_due": log(0.5 / 1.5),  # by trips, and it is on every one
            "category_share": 3 / 4,
            "category_last_days": log1p(10),
            "brand_share": 3 / 4,
            "product_count": 0,  # the article itself is no variant of its own
            "product_last_days": log1p(10),
            "price_to_habit": log1p(2.0) - habit,
        },
        abs=1e-5,
    )
    assert found["rolls"]["category_share"] == pytest.approx(3 / 4)
    assert found["rolls"]["brand_share"] == pytest.approx(3 / 4)
    assert found["rolls"]["product_count"] == pytest.approx(log1p(3))  # bread is of the same dough
    assert found["rolls"]["product_last_days"] == pytest.approx(log1p(10))
    assert found["hat"]["category_share"] == found["hat"]["brand_share"] == 0


def test_what_is_missing_is_nothing_in_common() -> None:
    # The hat has no brand, the apple no price, and nobody paid a known price for anything.
    found = features(query(state(event(90, "hat", price=None))), "hat", "apple", "bread")
    assert found["hat"]["bought"] == 1
    assert found["hat"]["brand_share"] == 0
    assert [found[article]["price_to_habit"] for article in ("hat", "apple", "bread")] == [0, 0, 0]
    assert features(query(state(*PAST)), "apple")["apple"]["price_to_habit"] == 0


def test_articles_without_a_product_code_are_no_variants_of_each_other() -> None:
    found = features(query(state(event(90, "milk"), event(90, "cheese"))), "apple", "milk")
    assert [found[a]["product_count"] for a in ("apple", "milk")] == [0, 0]
    assert [found[a]["product_last_days"] for a in ("apple", "milk")] == pytest.approx([log1p(NEVER)] * 2)


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


any_event = st.builds(
    lambda day, article, kind, price, n: event(day, article, type=kind, price=price, n=n),
    st.floats(0, 2 * TODAY, allow_subnormal=False),
    st.sampled_from([*IDS, "wine"]),
    st.sampled_from(EVENT_TYPES),
    st.none() | st.floats(0, 1e9),
    st.integers(1, 60_000),
)


@settings(max_examples=40)
@given(st.lists(any_event, max_size=20), st.sampled_from([None, "young"]), st.integers(1, 2_000))
def test_features_are_finite_whatever_happened(past: list[Event], segment: str | None, day: int) -> None:
    given = query(state(*past), segment=segment, day=day, given=CATALOG)
    (found,) = retrieve(CATALOG, [given])
    assert np.isfinite(CATALOG.features.build(given, found)).all()


@pytest.mark.parametrize("customer", [None, state(), state(event(90, "wine")), state(event(90, "apple", price=None))])
def test_features_are_finite_whatever_is_missing(customer: CustomerState | None) -> None:
    given = query(customer)
    (found,) = retrieve(CATALOG, [given])
    assert np.isfinite(CATALOG.features.build(given, found)).all()


purchases = st.lists(st.builds(event, st.integers(0, 99), st.sampled_from(IDS)), max_size=10)
looks = st.builds(
    lambda day, article, kind: event(day, article, type=kind),
    st.integers(0, 99),
    st.sampled_from(IDS[4:]),
    st.sampled_from(["view", "cart"]),
)


@settings(max_examples=40)
@given(purchases, st.lists(looks, max_size=6))
def test_looking_at_articles_changes_no_feature_of_what_was_bought(past: list[Event], seen: list[Event]) -> None:
    """But those of looking, at these articles, and those of retrieval, which answer to interest."""
    plain, looked = features(query(state(*past)), *IDS), features(query(state(*past, *seen)), *IDS)
    steady = [name for name in (*OWN, *GROUP, *ITEM, *CUSTOMER) if name not in LOOKED]
    for article in IDS:
        assert [plain[article][name] for name in steady] == [looked[article][name] for name in steady]
        if article not in {e.article_id for e in seen}:
            assert block(plain[article], LOOKED) == block(looked[article], LOOKED)
        else:
            assert block(plain[article], LOOKED) != block(looked[article], LOOKED)


def test_an_article_never_bought_was_not_on_a_trip_years_ago() -> None:
    """A pause longer than NEVER must not make every unknown article part of the last trip."""
    found = features(query(state(event(0, "bread")), day=NEVER + 200), "bread", "hat")
    assert (found["bread"]["trips_since"], found["bread"]["bought_last_5_trips"]) == (0, 1)
    assert found["hat"]["trips_since"] == pytest.approx(log1p(NEVER))
    assert (found["hat"]["own_trip_due"], found["hat"]["bought_last_5_trips"]) == (-4, 0)


@pytest.mark.parametrize(
    "planted", [event(TODAY, "hat", price=900.0), event(TODAY + 3, "bread", price=900.0)], ids=["now", "later"]
)
def test_a_planted_future_changes_no_feature(planted: Event) -> None:
    def build(*events: Event, day: float = TODAY) -> Floats:
        # The embedding is left out: the pipeline drops one that has seen the future.
        given = CATALOG.query(state(*events), np.ones(N, np.float32), None, query(None, day=day).history.as_of)
        (found,) = retrieve(CATALOG, [given])
        return CATALOG.features.build(given, found)

    assert np.array_equal(build(*PAST), build(*PAST, planted))
    assert not np.array_equal(build(*PAST, day=TODAY + 4), build(*PAST, planted, day=TODAY + 4))


def test_the_groups_are_all_of_the_features() -> None:
    assert (*OWN, *GROUP, *ITEM, *CUSTOMER, *RETRIEVAL) == FEATURES
    assert [name for name in RETRIEVAL if name.endswith("_rank")] == [f"{name}_rank" for name in SOURCES]


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
