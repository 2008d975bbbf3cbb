"""Lists of all customers checked at once against what each of them bought."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from offline.truth import Truth

BOUGHT = {"bea": {2: 1.0, 0: 3.0}, "ann": {4: 9.5}, "nobody": {}}


def test_customers_are_sorted_and_those_without_a_purchase_left_out() -> None:
    truth = Truth.of(BOUGHT, n_items=5)
    assert truth.customers == ["ann", "bea"]
    assert truth.relevant.tolist() == [1, 2]
    assert len(Truth.of({}, 5)) == 0


def test_hits_of_lists_and_of_one_customers_candidates() -> None:
    truth = Truth.of(BOUGHT, n_items=5)
    shown = np.array([[0, 4, -1], [0, 4, 2]])
    assert truth.hits(shown).tolist() == [[False, True, False], [True, False, True]]
    assert truth.bought(1, np.array([1, 2, 3])).tolist() == [False, True, False]


def test_an_empty_place_is_never_a_hit() -> None:
    """Row 1, place -1 must not be taken for the last article of row 0, which was bought."""
    truth = Truth.of({"ann": {4: 1.0}, "bea": {0: 1.0}}, n_items=5)
    assert not truth.hits(np.array([[-1], [-1]])).any()


def test_the_truth_about_some_articles_keeps_the_customers_who_bought_them() -> None:
    truth = Truth.of(BOUGHT | {"cleo": {0: 1.0}}, n_items=5)
    part, rows = truth.of_articles(np.array([True, False, False, False, False]))
    assert part.customers == ["bea", "cleo"]
    assert rows.tolist() == [1, 2]
    assert part.relevant.tolist() == [1, 1]
    assert part.hits(np.array([[0, 2], [0, 2]])).tolist() == [[True, False], [True, False]]
    nothing, none = truth.of_articles(np.zeros(5, np.bool_))
    assert (len(nothing), len(none)) == (0, 0)


@given(st.dictionaries(st.text("abc", min_size=1), st.sets(st.integers(0, 7), min_size=1), min_size=1, max_size=6))
def test_hits_are_what_sets_say(bought: dict[str, set[int]]) -> None:
    truth = Truth.of({c: dict.fromkeys(items, 1.0) for c, items in bought.items()}, n_items=8)
    everything = np.tile(np.arange(8), (len(truth), 1))
    for customer, hits in zip(truth.customers, truth.hits(everything), strict=True):
        assert set(np.flatnonzero(hits).tolist()) == bought[customer]
