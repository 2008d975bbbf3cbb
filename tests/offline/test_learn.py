"""Where the past is cut to learn to rank, and what a shop knew at its cut."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.errors import GateError
from offline.learn import Learner, example_cuts
from offline.shop import load_shop
from offline.window import Window
from streams.events import to_micros
from tests.offline.toy_log import DAY
from tests.support.tiny import START, TINY, article_number, customer_id
from tests.support.tiny_fixture import Tiny

WEEK = 7 * DAY
CUT = 100 * DAY


@pytest.mark.parametrize(
    ("history_days", "horizon_days", "weeks", "expected"),
    [
        (100, 7, 3, [79, 86, 93]),
        (28, 7, 3, [79, 86, 93]),  # just enough: a week to learn the first tower from
        (27, 7, 3, [91, 92, 93]),  # too short for whole weeks: every day
        (9, 7, 3, [92, 93]),  # the third would know nothing
        (7, 7, 3, [93]),  # and even the first does
        (3, 7, 3, [93]),
        (3, 1, 2, [98, 99]),
        (100, 7, 1, [93]),
        (50, 7, 9, [58, 65, 72, 79, 86, 93]),  # no room for nine weeks, but for more than a few
    ],
)
def test_example_cuts_by_hand(history_days: int, horizon_days: int, weeks: int, expected: list[int]) -> None:
    found = example_cuts(CUT - history_days * DAY, CUT, horizon_days * DAY, weeks)
    assert [cut / DAY for cut in found] == expected


@given(st.integers(0, 200 * DAY), st.integers(1, 14), st.integers(1, 8))
def test_every_label_lies_before_the_cut_and_every_cut_after_the_first_event(
    history: int, horizon_days: int, weeks: int
) -> None:
    first, horizon = CUT - history, horizon_days * DAY
    found = example_cuts(first, CUT, horizon, weeks)
    assert 1 <= len(found) <= weeks
    assert found == sorted(set(found))
    assert found[-1] == CUT - horizon
    assert all(cut > first for cut in found) or len(found) == 1
    if history >= (weeks + 1) * horizon:
        assert len(found) == weeks
        assert all(b - a == horizon for a, b in pairwise(found))  # no label twice


def test_a_shop_knows_what_came_before_its_cut(tiny: Tiny, tmp_path: Path) -> None:
    cut = START + timedelta(weeks=2)
    shop = load_shop(tiny.log, Window(cut, 7), TINY.content, None, tmp_path)
    assert shop.cut == to_micros(cut)
    assert int(shop.histories.occurred_at.max()) < shop.cut
    assert shop.articles["article_id"].to_pylist() == shop.items.article_ids
    assert shop.segments[customer_id(0)] != shop.segments[customer_id(23)]  # 20 and 43 years old
    assert shop.content.shape == (len(shop.items), TINY.content.dim)
    assert shop.content.dtype == np.float32
    # What the bundle keeps in half precision is what was learned from.
    assert np.array_equal(shop.content.astype(np.float16).astype(np.float32), shop.content)
    products = shop.items.products
    same = [products[shop.items.index[article_number("top", n)]] for n in range(4)]
    assert same[0] == same[1] != same[2] == same[3]


def test_prices_at_an_earlier_cut_are_those_known_then(tiny: Tiny, tmp_path: Path) -> None:
    shop = load_shop(tiny.log, Window(START + timedelta(weeks=4), 7), TINY.content, None, tmp_path)
    earlier = shop.items_at(to_micros(START))  # before anything was sold
    assert np.isnan(earlier.prices).all()
    sold = shop.items.index[article_number("top", 0)]
    assert shop.items.prices[sold] == pytest.approx(9.5)
    assert earlier.article_ids == shop.items.article_ids
    assert earlier.labels == shop.items.labels
    for name, codes in shop.items.codes.items():
        assert np.array_equal(earlier.codes[name], codes)


def test_a_log_without_a_purchase_to_predict_is_refused(tiny: Tiny, tmp_path: Path) -> None:
    shop = load_shop(tiny.log, Window(START + timedelta(hours=1), 1), TINY.content, None, tmp_path)
    learner = Learner(shop, TINY.learn, DAY, tmp_path / "run", seed=1)
    with pytest.raises(GateError, match="nothing to rank by; give more history"):
        learner.learn()
