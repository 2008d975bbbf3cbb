"""Calibration of probabilities whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offline.reliability import reliability


def test_two_bins_by_hand() -> None:
    found = reliability(np.array([0.1, 0.1, 0.6, 0.6]), np.array([0.0, 0.0, 1.0, 0.0]), bins=2)
    assert found["bins"] == [
        {"predicted": 0.1, "observed": 0.0, "predictions": 2},
        {"predicted": 0.6, "observed": 0.5, "predictions": 2},
    ]
    assert found["ece"] == pytest.approx((0.1 + 0.1) / 2)
    assert found["base_rate"] == 0.25
    assert found["log_loss"] == pytest.approx(-(2 * np.log(0.9) + np.log(0.6) + np.log(0.4)) / 4, abs=1e-6)
    assert found["log_loss_of_base_rate"] == pytest.approx(-(np.log(0.25) + 3 * np.log(0.75)) / 4, abs=1e-6)


def test_the_truth_told_is_calibrated_and_exaggeration_is_not() -> None:
    rng = np.random.default_rng(1)
    chance = rng.beta(0.5, 10, 20_000)
    happened = (rng.random(20_000) < chance).astype(np.float64)
    honest, loud = reliability(chance, happened), reliability(np.minimum(3 * chance, 1), happened)
    assert honest["ece"] < 0.006
    assert loud["ece"] > 0.05
    assert honest["log_loss"] < loud["log_loss"]
    assert honest["log_loss"] < honest["log_loss_of_base_rate"]
    assert len(honest["bins"]) == 15


def test_nothing_predicted_cannot_be_judged() -> None:
    with pytest.raises(ValueError, match="at least one prediction"):
        reliability(np.empty(0), np.empty(0))


@given(st.lists(st.tuples(st.sampled_from([0.0, 0.1, 0.5, 1.0]), st.booleans()), min_size=1, max_size=60))
def test_bins_hold_every_prediction_once_and_equal_ones_together(pairs: list[tuple[float, bool]]) -> None:
    probability, happened = np.array([p for p, _ in pairs]), np.array([float(h) for _, h in pairs])
    found = reliability(probability, happened, bins=4)
    assert sum(b["predictions"] for b in found["bins"]) == len(pairs)
    assert 0 <= found["ece"] <= 1
    predicted = [b["predicted"] for b in found["bins"]]
    assert predicted == sorted(predicted)
    assert len(predicted) <= min(4, len(set(probability.tolist())))
    mean = sum(b["observed"] * b["predictions"] for b in found["bins"]) / len(pairs)
    assert mean == pytest.approx(found["base_rate"], abs=1e-5)
