"""A customer's purchases as of a moment, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from serving.history import history_of
from streams.events import CART, PURCHASE, VIEW, to_micros
from tests.support.toy_catalog import IDS, TODAY, event, moment, state

INDEX = {article: row for row, article in enumerate(IDS)}
AS_OF = to_micros(moment(TODAY))


def test_columns_and_sums_by_article() -> None:
    anna = state(
        event(60, "bread", price=4.0, n=2),
        event(80, "milk", price=1.5),
        event(80, "bread"),
        event(90, "bread", price=None),
    )
    history = history_of(anna, INDEX, AS_OF)
    assert len(history) == 4
    assert sorted(zip(history.ages.tolist(), [IDS[i] for i in history.item_idx], strict=True)) == [
        (10.0, "bread"),
        (20.0, "bread"),
        (20.0, "milk"),
        (40.0, "bread"),
    ]
    assert history.prices[0] == 2.0  # a piece, of a line of two for 4.00
    assert np.isnan(history.prices[-1])
    assert [IDS[i] for i in history.items] == ["bread", "milk"]
    assert history.count.tolist() == [3, 1]
    assert history.first_age.tolist() == [40, 20]
    assert history.last_age.tolist() == [10, 20]
    assert history.decayed == pytest.approx([np.exp(-40 / 60) + np.exp(-20 / 60) + np.exp(-10 / 60), np.exp(-20 / 60)])


def test_acts_are_all_events_of_known_articles_oldest_first() -> None:
    anna = state(
        event(95, "milk", type="cart"),
        event(60, "bread"),
        event(90, "wine"),
        event(80, "bread", type="view"),
        event(60, "hat"),
    )
    history = history_of(anna, INDEX, AS_OF)
    acts = zip(history.act_ages.tolist(), [IDS[i] for i in history.acts], history.act_types.tolist(), strict=True)
    first, second, *others = acts
    assert {first, second} == {(40.0, "bread", PURCHASE), (40.0, "hat", PURCHASE)}  # one time
    assert others == [(20.0, "bread", VIEW), (5.0, "milk", CART)]
    assert (history.acts.dtype, history.act_types.dtype) == (np.int64, np.uint8)


def test_interest_is_a_faded_sum_by_type() -> None:
    anna = state(event(70, "milk"), event(40, "milk", type="view"), event(40, "bread"), event(85, "hat", type="cart"))
    items, interest = history_of(anna, INDEX, AS_OF).interest(30)
    assert [IDS[i] for i in items] == ["bread", "milk", "hat"]
    assert interest == pytest.approx([np.exp(-2), np.exp(-1) + 0.2 * np.exp(-2), 0.5 * np.exp(-0.5)])


def test_only_purchases_of_known_articles_count() -> None:
    anna = state(event(90, "bread", type="view"), event(91, "milk", type="cart"), event(92, "wine"), event(93, "hat"))
    history = history_of(anna, INDEX, AS_OF)
    assert [IDS[i] for i in history.item_idx] == ["hat"]
    assert [IDS[i] for i in history.items] == ["hat"]


def test_what_happens_at_the_moment_or_later_is_not_known() -> None:
    anna = state(event(99.999, "bread"), event(TODAY, "milk"), event(TODAY + 1, "bread", price=900.0))
    history = history_of(anna, INDEX, AS_OF)
    assert [IDS[i] for i in history.items] == ["bread"]
    assert history.count.tolist() == [1]
    assert history.prices.tolist() == [2.0]
    assert (history.ages > 0).all()
    assert len(history_of(anna, INDEX, AS_OF + 1)) == 2


def test_unknown_customer_has_an_empty_history() -> None:
    for nothing in (None, state(), state(event(TODAY + 1, "bread")), state(event(1, "wine"))):
        history = history_of(nothing, INDEX, AS_OF)
        assert len(history) == 0
        assert [len(c) for c in (history.items, history.count, history.decayed, history.last_age)] == [0] * 4
        assert [len(c) for c in (history.acts, history.act_ages, history.act_types)] == [0] * 3
        assert [c.tolist() for c in history.interest(30)] == [[], []]
