"""Ranking metrics against numbers worked out by hand, and what must hold for any list."""

from __future__ import annotations

import doctest
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offline import metrics
from offline.metrics import (
    Hits,
    Ints,
    average_precision,
    coverage,
    diversity,
    gini,
    hit_rate,
    ndcg,
    novelty,
    precision,
    recall,
)


def hits(text: str) -> Hits:
    """'x.x' is a hit, a miss, a hit."""
    return np.array([mark == "x" for mark in text], np.bool_)


def test_the_docstrings_numbers_are_true() -> None:
    failed, tried = doctest.testmod(metrics)
    assert tried >= 7
    assert failed == 0


@pytest.mark.parametrize(
    ("marks", "relevant", "expected"),
    [
        ("x..", 1, 1.0),
        (".x.", 1, 1 / 2),
        ("x.x", 2, (1 / 1 + 2 / 3) / 2),
        ("x.x", 4, (1 / 1 + 2 / 3) / 4),  # two bought articles were never shown
        ("...", 3, 0.0),
        ("", 1, 0.0),
        ("............x", 1, 0.0),  # rank 13 is outside of 12
        ("xxxxxxxxxxxx", 30, 1.0),  # at most 12 can be found: Kaggle divides by min(relevant, 12)
    ],
)
def test_average_precision_at_12(marks: str, relevant: int, expected: float) -> None:
    assert average_precision(hits(marks), relevant) == pytest.approx(expected)


def test_recall_divides_by_all_that_was_bought() -> None:
    assert recall(hits("x.x"), relevant=4, k=2) == 1 / 4
    assert recall(hits("x.x"), relevant=4, k=3) == 2 / 4
    assert recall(hits("x" * 12), relevant=24, k=12) == 1 / 2


def test_hit_rate_looks_at_the_first_k_only() -> None:
    assert hit_rate(hits("..x"), k=2) == 0.0
    assert hit_rate(hits("..x"), k=3) == 1.0


def test_ndcg_discounts_by_log2_of_the_rank_plus_one() -> None:
    ideal = 1 / np.log2(2) + 1 / np.log2(3)
    assert ndcg(hits("x.x"), relevant=2, k=12) == pytest.approx((1 / np.log2(2) + 1 / np.log2(4)) / ideal)
    assert ndcg(hits(".x"), relevant=1, k=1) == 0.0


@st.composite
def lists(draw: st.DrawFn) -> tuple[Hits, int]:
    """A list of up to 40 and how many were bought, at least as many as were hit."""
    marks = draw(st.lists(st.booleans(), max_size=40))
    missed = draw(st.integers(0, 20))
    return np.array(marks, np.bool_), max(1, sum(marks) + missed)


@given(lists(), st.integers(1, 50))
def test_every_metric_lies_between_0_and_1(given_list: tuple[Hits, int], k: int) -> None:
    marks, relevant = given_list
    values = (average_precision(marks, relevant, k), recall(marks, relevant, k), hit_rate(marks, k))
    for value in (*values, ndcg(marks, relevant, k)):
        assert 0.0 <= value <= 1.0 + 1e-12


@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 30))
def test_a_perfect_list_scores_1(relevant: int, k: int, tail: int) -> None:
    marks = hits("x" * relevant + "." * tail)
    assert average_precision(marks, relevant, k) == pytest.approx(1.0)
    assert ndcg(marks, relevant, k) == pytest.approx(1.0)
    assert hit_rate(marks, k) == 1.0
    assert recall(marks, relevant, k) == pytest.approx(min(k, relevant) / relevant)


@given(lists(), st.integers(1, 49))
def test_a_longer_list_never_recalls_less(given_list: tuple[Hits, int], k: int) -> None:
    marks, relevant = given_list
    assert recall(marks, relevant, k) <= recall(marks, relevant, k + 1)
    assert hit_rate(marks, k) <= hit_rate(marks, k + 1)


@given(lists(), st.integers(0, 38))
def test_moving_a_hit_up_never_lowers_a_score(given_list: tuple[Hits, int], place: int) -> None:
    marks, relevant = given_list
    if place + 1 >= len(marks) or marks[place] or not marks[place + 1]:
        return
    better = marks.copy()
    better[[place, place + 1]] = True, False
    assert average_precision(better, relevant) >= average_precision(marks, relevant)
    assert ndcg(better, relevant, 12) >= ndcg(marks, relevant, 12) - 1e-12


def test_many_lists_at_once_score_like_one_after_the_other() -> None:
    rng = np.random.default_rng(3)
    marks = rng.random((30, 40)) < 0.2
    relevant = marks.sum(axis=1) + rng.integers(1, 9, 30)
    together = (average_precision(marks, relevant), recall(marks, relevant, 20), ndcg(marks, relevant, 12))
    for row, n in enumerate(relevant):
        alone = (average_precision(marks[row], n), recall(marks[row], n, 20), ndcg(marks[row], n, 12))
        assert [values[row] for values in together] == pytest.approx([float(value) for value in alone])
    assert hit_rate(marks, 12).tolist() == [float(row[:12].any()) for row in marks]


def test_precision_counts_empty_places_as_misses() -> None:
    assert precision(hits("x.x"), k=2) == 1 / 2
    assert precision(hits("xx"), k=4) == 1 / 2


def test_coverage_counts_each_article_once() -> None:
    assert coverage(np.array([[0, 2], [2, -1]]), n_items=10) == 2 / 10
    assert coverage(np.empty((0, 12), np.int64), n_items=10) == 0.0


def test_gini_of_hand_counted_exposure() -> None:
    # Shown 0, 1 and 3 times: half the mean absolute difference over the mean, ((1 + 3 + 2) * 2 / 9) / (2 * 4/3).
    assert gini(np.array([[1, 2], [2, 2]]), n_items=3) == pytest.approx((12 / 9) / (8 / 3))
    assert gini(np.full((2, 3), -1), n_items=5) == 0.0


def test_novelty_in_bits() -> None:
    # Half of the customers bought article 0: 1 bit. One in 16 bought article 1: 4 bits.
    found = novelty(np.array([[0, 1], [0, -1], [-1, -1]]), np.array([1 / 2, 1 / 16]))
    np.testing.assert_allclose(found, [2.5, 1.0, np.nan])


def test_diversity_by_group() -> None:
    groups = np.array([1, 1, 2, -1, -1])
    lists_shown = np.array([[0, 1, -1], [0, 2, -1], [0, 1, 2], [3, 4, 3], [0, -1, -1]])
    # the same, different, one pair of three the same, unknown is unlike all, no pair
    np.testing.assert_allclose(diversity(lists_shown, groups), [0, 1, 2 / 3, 1, np.nan])


@st.composite
def exposures(draw: st.DrawFn) -> tuple[Ints, int]:
    n_items = draw(st.integers(1, 12))
    rows = draw(st.integers(0, 6))
    cells = draw(st.lists(st.integers(-1, n_items - 1), min_size=3 * rows, max_size=3 * rows))
    return np.array(cells, np.int64).reshape(rows, 3), n_items


@given(exposures(), st.randoms())
def test_exposure_does_not_know_the_articles_names(given_shown: tuple[Ints, int], random: Random) -> None:
    shown, n_items = given_shown
    names = list(range(n_items))
    random.shuffle(names)
    renamed = np.where(shown >= 0, np.array(names)[shown], -1)
    for measure in (coverage, gini):
        assert measure(renamed, n_items) == pytest.approx(measure(shown, n_items))
        assert 0.0 <= measure(shown, n_items) <= 1.0


@given(exposures(), st.integers(0, 3))
def test_a_list_is_as_mixed_in_any_order_and_novelty_is_between_its_ends(
    given_shown: tuple[Ints, int], shift: int
) -> None:
    shown, n_items = given_shown
    groups = np.arange(n_items) % 3 - 1
    turned = np.roll(shown, shift, axis=1)
    np.testing.assert_allclose(diversity(turned, groups), diversity(shown, groups))
    share = 2.0 ** -np.arange(n_items)
    for row, bits in zip(shown, novelty(shown, share), strict=True):
        there = row[row >= 0]
        if len(there):
            assert there.min() - 1e-9 <= bits <= there.max() + 1e-9
        else:
            assert np.isnan(bits)
