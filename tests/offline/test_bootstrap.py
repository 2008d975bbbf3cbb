"""Intervals that hold what they should, paired by customer, the same on every call."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offline.bootstrap import Bootstrap


def test_the_interval_of_a_difference_is_that_of_its_mean() -> None:
    rng = np.random.default_rng(1)
    for n in (50, 5_000):
        gain = rng.normal(0.5, 1, n)
        found = Bootstrap(n, seed=1).compare(gain, np.zeros(n))
        low, high = found.difference_interval
        assert low < gain.mean() < high
        half = 1.96 * gain.std() / np.sqrt(n)
        assert (high - low) / 2 == pytest.approx(half, rel=0.15)
        assert found == Bootstrap(n, seed=1).compare(gain, np.zeros(n))


def test_pairing_removes_what_both_share() -> None:
    """Customers differ wildly, but each gains exactly a tenth: the interval of the gain is a point."""
    hard = np.random.default_rng(2).gamma(0.3, 1, 300)
    found = Bootstrap(300, seed=1).compare(1.1 * hard, hard)
    assert found.ratio == 1.1
    assert found.ratio_interval == (1.1, 1.1)
    assert found.verdict == "better"
    low, high = Bootstrap(300, seed=1).compare(hard + 0.25, hard).difference_interval
    assert (low, high) == (0.25, 0.25)


def test_the_ratio_is_of_means_and_not_the_mean_of_ratios() -> None:
    found = Bootstrap(2, seed=1).compare(np.array([0.4, 0.2]), np.array([0.1, 0.5]))
    assert (found.value, found.baseline_value, found.difference, found.ratio) == (0.3, 0.3, 0.0, 1.0)
    # Both customers drawn once, or one of them twice: 1, 4 or 0.4 and nothing else.
    assert found.ratio_interval == (0.4, 4.0)
    assert found.verdict == "undecided"


def test_verdicts() -> None:
    ones, zeros = np.ones(20), np.zeros(20)
    assert Bootstrap(20, seed=1).compare(zeros, ones).verdict == "worse"
    assert Bootstrap(20, seed=1).compare(ones, ones).verdict == "undecided"
    report = Bootstrap(20, seed=1).compare(ones, 0.5 * ones).report()
    assert (report["verdict"], report["ratio"], report["customers"]) == ("better", 2.0, 20)


def test_a_baseline_of_nothing_has_no_ratio() -> None:
    found = Bootstrap(20, seed=1).compare(np.ones(20), np.zeros(20))
    assert (found.ratio, found.ratio_interval) == (None, (None, None))
    assert found.verdict == "better"
    rarely = np.zeros(20)
    rarely[0] = 1.0  # about a third of the resamples leave this customer out
    found = Bootstrap(20, seed=1).compare(np.ones(20), rarely)
    assert found.ratio == 20.0
    assert found.ratio_interval[0] is not None
    assert found.ratio_interval[1] is None


def test_many_at_once_are_the_same_as_one_by_one() -> None:
    rng = np.random.default_rng(4)
    scores = {name: rng.random(40) for name in ("full", "peer", "popular")}
    together = Bootstrap(40, seed=7).compare_all(scores, {"popular": scores["popular"]})
    assert set(together) == {("full", "popular"), ("peer", "popular"), ("popular", "popular")}
    assert together["peer", "popular"] == Bootstrap(40, seed=7).compare(scores["peer"], scores["popular"])


def test_nobody_has_no_mean() -> None:
    with pytest.raises(ValueError, match="at least one customer"):
        Bootstrap(0, seed=1)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.floats(0.1, 10))
def test_the_ends_stand_in_order_and_scale_with_the_scores(values: list[float], scale: float) -> None:
    scores = np.array(values)
    means = Bootstrap(len(scores), seed=1, resamples=50).means(np.stack([scores, scale * scores], axis=1))
    assert means.shape == (50, 2)
    np.testing.assert_allclose(means[:, 1], scale * means[:, 0], atol=1e-12)
    assert scores.min() - 1e-9 <= means[:, 0].min() <= means[:, 0].max() <= scores.max() + 1e-9
