"""Ranking metrics against numbers worked out by hand, and what must hold for any list."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offline import metrics
from offline.metrics import Hits, average_precision, hit_rate, ndcg, recall


def hits(text: str) -> Hits:
    """'x.x' is a hit, a miss, a hit."""
    return np.array([mark == "x" for mark in text], np.bool_)


def test_the_docstrings_numbers_are_true() -> None:
    failed, tried = doctest.testmod(metrics)
    assert tried >= 3
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
