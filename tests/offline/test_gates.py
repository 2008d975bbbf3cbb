"""The gates: strictly better than repurchase, and an index that finds what is there."""

from __future__ import annotations

import pytest

from offline.gates import MIN_INDEX_RECALL, gates


def verdicts(full: float, repurchase: float, recall_of_index: float = 1.0) -> list[bool]:
    metrics = {"full": {"map@12": full}, "repurchase": {"map@12": repurchase}, "popular": {"map@12": 0.9}}
    return [gate.passed for gate in gates(metrics, recall_of_index)]


@pytest.mark.parametrize(("full", "repurchase", "passed"), [(0.2, 0.1, True), (0.1, 0.1, False), (0.1, 0.2, False)])
def test_ranking_must_beat_repurchase_and_not_just_equal_it(full: float, repurchase: float, passed: bool) -> None:
    assert verdicts(full, repurchase) == [passed, True]


@pytest.mark.parametrize(("found", "passed"), [(1.0, True), (MIN_INDEX_RECALL, True), (0.9499, False)])
def test_the_index_must_find_95_of_100_of_what_exact_search_finds(found: float, passed: bool) -> None:
    assert verdicts(0.2, 0.1, found) == [True, passed]


def test_a_number_that_is_none_fails() -> None:
    assert verdicts(float("nan"), 0.1, float("nan")) == [False, False]


def test_a_gate_says_what_was_given_and_what_is_wanted() -> None:
    ranking, index = gates({"full": {"map@12": 0.1}, "repurchase": {"map@12": 0.25}}, 0.5)
    assert (ranking.given, ranking.wanted) == ("0.10000", "above 0.25000")
    assert (index.given, index.wanted) == ("0.5000", "at least 0.95")
