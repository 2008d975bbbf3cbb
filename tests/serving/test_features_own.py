"""What the customer did with an article and with its like, computed by hand."""

from __future__ import annotations

from math import exp, log, log1p

import pytest

from serving.rhythm import LONGEST, NEVER
from streams.bundle_contract import GROUP, OWN
from tests.serving.feature_rows import LOOKED, PAST, block, features
from tests.support.toy_catalog import event, query, state


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
            "needed": (3 / 7 + 3 / 5 + 3 / 4) * (1 + 0.3 * exp(-((log(10.5 / 15.5) / 1.5) ** 2))),
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
            "needed": 3 / 5,
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


def test_an_article_never_bought_was_not_on_a_trip_years_ago() -> None:
    """A pause longer than NEVER must not make every unknown article part of the last trip."""
    found = features(query(state(event(0, "bread")), day=NEVER + 200), "bread", "hat")
    assert (found["bread"]["trips_since"], found["bread"]["bought_last_5_trips"]) == (0, 1)
    assert found["hat"]["trips_since"] == pytest.approx(log1p(NEVER))
    assert (found["hat"]["own_trip_due"], found["hat"]["bought_last_5_trips"]) == (-4, 0)


def test_what_happened_years_ago_did_happen() -> None:
    """1,100 days are no "never": they read as just below it, and as long overdue."""
    past = (event(0, "bread"), event(10, "bread"), event(10, "milk", type="view"))
    found = features(query(state(*past), day=1_110), "bread", "milk", "hat")
    long_ago = log1p(LONGEST)
    bread = block(
        found["bread"], ("bought_last_days", "bought_first_days", "subcategory_last_days", "category_last_days")
    )
    assert bread == pytest.approx(dict.fromkeys(bread, long_ago))
    assert found["bread"]["own_interval_days"] == pytest.approx(log1p(10))
    assert found["bread"]["own_due"] == pytest.approx(min(log((LONGEST + 0.5) / 10.5), 4), abs=1e-4)
    assert found["bread"]["last_trip_days"] == pytest.approx(long_ago)
    assert found["bread"]["trip_due"] > 0
    assert found["milk"]["viewed_last_days"] == pytest.approx(long_ago)
    assert found["hat"]["own_due"] == found["hat"]["item_due"] == -4
    assert features(query(state(event(0, "bread")), day=999), "bread")["bread"]["bought_last_days"] == pytest.approx(
        log1p(999)
    )
