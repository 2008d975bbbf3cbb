"""Statistics counted by hand on a toy log, and deaf to whatever comes at or after the cut."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from offline.build_statistics import REPEAT_PRIOR, SMOOTHING, build_items, build_statistics, prices_at
from offline.sources.base import ARTICLE_SCHEMA
from serving.history import INTEREST
from serving.rhythm import LONGEST, NEVER
from serving.statistics import ItemStatistics
from streams.events import VIEW
from tests.offline.toy_log import CUT_US, DAY, Line, articles_of, bought, histories_of, items_of, viewed

MILK, BREAD, WINE = range(3)
ITEMS = items_of("milk", "bread", "wine")
LOG = [
    bought(1, "anna", "milk"),
    bought(8, "anna", "milk"),
    bought(22, "anna", "milk"),
    bought(7, "bert", "milk"),  # exactly seven days before
    bought(30, "bert", "milk"),
    bought(3, "cleo", "bread"),
    bought(3, "cleo", "bread"),  # the same trip: two lines, no repeat purchase
    bought(2, "bert", "bread"),
    bought(2, "bert", "unknown article"),
    viewed(2, "cleo", "wine"),
]
SEGMENTS = {"anna": "young", "bert": "old", "cleo": "old"}


def count(lines: list[Line], segments: dict[str, str] | None = None, cut: int = CUT_US) -> ItemStatistics:
    return build_statistics(histories_of(lines), ITEMS, SEGMENTS if segments is None else segments, cut)


def test_lines_sold_in_1_to_91_days() -> None:
    found = count(LOG)
    assert found.sold_1d.tolist() == [1, 0, 0]
    assert found.sold_3d.tolist() == [1, 3, 0]
    assert found.sold_7d.tolist() == [2, 3, 0]
    assert found.sold_28d.tolist() == [4, 3, 0]
    assert found.sold_91d.tolist() == [5, 3, 0]
    assert found.buyers_91d.tolist() == [2, 2, 0]


def test_what_happens_at_the_cut_is_not_before_it() -> None:
    assert count([bought(0, "anna", "milk"), bought(1, "anna", "bread")]).sold_7d.tolist() == [0, 1, 0]
    just_before = count([bought(1e-6 / 86_400, "anna", "milk")])
    assert just_before.sold_7d.tolist() == [1, 0, 0]


def test_repeat_rate_is_smoothed_share_of_buyers_who_came_back() -> None:
    prior, weight = REPEAT_PRIOR
    expected = [(2 + prior * weight) / (2 + weight), prior * weight / (2 + weight), prior]
    assert count(LOG).repeat_rate.tolist() == pytest.approx(expected)


def test_interval_is_the_mean_of_days_between_occasions() -> None:
    milk, bread, wine = count(LOG).interval.tolist()
    assert milk == pytest.approx((7 + 14 + 23) / 3)  # anna 8->1 and 22->8, bert 30->7
    assert np.isnan(bread)
    assert np.isnan(wine)


def test_first_and_last_sold_in_days_before_the_cut() -> None:
    found = count(LOG)
    assert found.last_sold.tolist() == [1, 2, NEVER]
    assert found.first_sold.tolist() == [30, 3, NEVER]
    long_ago = count([bought(400, "anna", "milk"), bought(1, "anna", "milk")])
    assert (long_ago.first_sold[MILK], long_ago.last_sold[MILK]) == (400, 1)


def test_only_what_was_never_sold_may_have_a_debut() -> None:
    debut = count(LOG).debut
    assert (debut > 0).tolist() == [False, False, True]  # wine was looked at and not bought
    assert (count([]).debut > 0).all()


def test_price_of_the_week_is_the_mean_paid_a_piece() -> None:
    found = count(
        [
            bought(7, "anna", "milk", 3.0),
            bought(2, "bert", "milk", 8.0, pieces=4),  # 2.00 a piece
            bought(1, "bert", "milk", None),
            bought(7.001, "bert", "bread", 5.0),
            viewed(1, "anna", "wine", 7.0),
        ]
    )
    assert found.price_7d.tolist() == pytest.approx([2.5, np.nan, np.nan], nan_ok=True)


def test_segments_have_their_share_of_the_month_pulled_to_everybodys() -> None:
    found = count(LOG)
    assert found.segments == ["all", "old", "young"]
    seen = INTEREST[VIEW]  # wine was looked at once
    everybody = np.array([4, 3, seen]) / (7 + seen)
    old = (np.array([1, 3, seen]) + SMOOTHING * everybody) / (4 + seen + SMOOTHING)
    young = (np.array([3, 0, 0]) + SMOOTHING * everybody) / (3 + SMOOTHING)
    assert found.segment_share == pytest.approx(np.array([everybody, old, young]), abs=1e-6)
    assert found.segment_of("young") == 2
    assert found.segment_of(None) == found.segment_of("never heard of") == 0


def test_buyers_are_counted_by_segment() -> None:
    """Anna, who is young, and old Bert bought milk; Bert and Cleo bread. Dora bought milk too, and is of no segment."""
    found = count([*LOG, bought(4, "dora", "milk"), bought(92, "anna", "wine")])
    assert found.segment_buyers.tolist() == [[3, 2, 0], [1, 2, 0], [1, 0, 0]]


def test_top_is_the_weeks_order_and_a_segments_leans_to_its_own() -> None:
    lines = [bought(2, f"a{n}", "milk") for n in range(100)] + [bought(2, f"b{n}", "bread") for n in range(99)]
    segments = {f"b{n}": "bakers" for n in range(99)}
    found = count(lines, segments)
    assert found.top[0].tolist() == [MILK, BREAD, WINE]
    assert found.top[found.segment_of("bakers")].tolist() == [BREAD, MILK, WINE]


def test_top_has_a_memory_of_days() -> None:
    """One sale of this morning outweighs two of last week: exp(-0 / 4) against 2 exp(-7 / 4)."""
    found = count([bought(0.01, "a", "wine"), bought(7, "b", "milk"), bought(7, "c", "milk"), bought(27, "d", "bread")])
    assert found.top[0].tolist() == [WINE, MILK, BREAD]
    two_days = count([bought(1, "a", "wine"), bought(3, "b", "milk"), bought(3, "c", "milk")])
    assert two_days.top[0].tolist() == [MILK, WINE, BREAD]


def test_looks_count_less_than_purchases_for_what_is_popular() -> None:
    looks = [viewed(1, f"v{n}", "wine") for n in range(4)]
    assert count([bought(1, "a", "milk"), *looks]).top[0].tolist() == [MILK, WINE, BREAD]
    more = [viewed(1, f"v{n}", "wine") for n in range(6)]
    found = count([bought(1, "a", "milk"), *more])
    assert found.top[0].tolist() == [WINE, MILK, BREAD]
    assert found.segment_share[0].tolist() == pytest.approx([1 / 2.2, 0, 1.2 / 2.2])
    assert found.sold_7d.tolist() == [1, 0, 0]  # what was sold is another matter


def test_a_log_without_events_counts_nothing() -> None:
    found = count([])
    assert found.sold_91d.tolist() == [0, 0, 0]
    assert found.top.shape == (3, 3)
    assert np.isfinite(found.segment_share).all()


FUTURE = [
    bought(0, "anna", "wine", 99.0),
    bought(-1, "bert", "wine", 99.0),
    bought(-2, "dora", "milk", 99.0),
    bought(-3, "anna", "an article of the future", 99.0),
    viewed(-1, "cleo", "bread", 99.0),
]


def test_the_future_changes_no_statistic() -> None:
    plain, planted = count(LOG), count(FUTURE + LOG)
    for field in fields(ItemStatistics):
        one, other = getattr(plain, field.name), getattr(planted, field.name)
        assert np.array_equal(one, other, equal_nan=field.name != "segments"), field.name


def test_what_sold_years_ago_did_sell() -> None:
    found = count([bought(1_500, "anna", "milk"), bought(1_100, "bert", "milk"), bought(999, "anna", "bread")])
    assert found.last_sold.tolist() == [LONGEST, 999, NEVER]
    assert found.first_sold.tolist() == [LONGEST, 999, NEVER]


def test_statistics_of_an_earlier_cut_know_nothing_later() -> None:
    a_week_ago = count(LOG, cut=CUT_US - 7 * DAY)
    assert a_week_ago.sold_7d.tolist() == [1, 0, 0]  # only anna's of 8 days; bert's stands at the cut itself
    assert a_week_ago.last_sold.tolist() == [1, 1_000, 1_000]


PRICES = [
    bought(1, "anna", "milk", 1.0),
    bought(2, "anna", "milk", 3.0),
    bought(3, "bert", "milk", 8.0, pieces=4),  # 2.00 a piece
    bought(4, "bert", "milk", None),
    bought(92, "bert", "bread", 5.0),  # too old
    viewed(1, "anna", "wine", 7.0),  # nobody paid it
]


def test_a_price_is_the_asked_one_else_the_median_paid_a_piece() -> None:
    histories = histories_of(PRICES)
    assert prices_at(articles_of("milk", "bread", "wine"), histories, CUT_US) == pytest.approx(
        [2.0, np.nan, np.nan], nan_ok=True
    )
    asked = articles_of("milk", "bread", "wine", asked={"milk": 2.5, "bread": 4.0})
    assert prices_at(asked, histories, CUT_US) == pytest.approx([2.5, 4.0, np.nan], nan_ok=True)


def test_items_carry_nulls_for_unknown_prices_and_nothing_of_the_future() -> None:
    articles = articles_of("milk", "bread", "wine")
    plain = build_items(articles, histories_of(PRICES), CUT_US)
    assert plain["price"].to_pylist() == [2.0, None, None]
    assert plain.equals(build_items(articles, histories_of(FUTURE + PRICES), CUT_US))
    assert set(plain.column_names) <= set(ARTICLE_SCHEMA.names)
