"""Platt scaling: keeps the order, repairs what is off, and stays sane where nothing can be learned."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offline.calibration import Calibration, calibration_error, fit_platt, log_loss

RNG = np.random.default_rng(1)
TRUE = RNG.normal(-2.0, 1.5, 20_000)  # logits that are right
LABELS = (RNG.random(20_000) < 1 / (1 + np.exp(-TRUE))).astype(np.float32)


@pytest.mark.parametrize(("scale", "shift"), [(3.0, 2.0), (0.2, -1.0), (1.0, 4.0), (1e-3, 0.0), (1e3, 50.0)])
def test_a_planted_distortion_is_undone(scale: float, shift: float) -> None:
    scores = scale * TRUE + shift
    found = fit_platt(scores, LABELS)
    assert found.scale * scale == pytest.approx(1.0, abs=0.05)
    assert found.shift + found.scale * shift == pytest.approx(0.0, abs=0.1)
    before, after = Calibration().apply(scores), found.apply(scores)
    assert log_loss(after, LABELS) < log_loss(before, LABELS)
    assert calibration_error(after, LABELS) < 0.01 < calibration_error(before, LABELS)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.floats(-20, 20, width=32), st.booleans()), min_size=2, max_size=60),
)
def test_any_fit_keeps_the_order_and_never_makes_the_likelihood_worse_than_the_base_rate(
    rows: list[tuple[float, bool]],
) -> None:
    scores = np.array([row[0] for row in rows])
    labels = np.array([row[1] for row in rows], np.float32)
    found = fit_platt(scores, labels)
    assert found.scale > 0
    assert np.isfinite([found.scale, found.shift]).all()
    order = np.argsort(scores, kind="stable")
    assert (np.diff(found.apply(scores)[order]) >= 0).all()


def test_scores_that_separate_the_labels_stay_finite() -> None:
    found = fit_platt(np.array([-1.0, -0.5, 0.5, 1.0]), np.array([0, 0, 1, 1], np.float32))
    p = found.apply(np.array([-1.0, 1.0]))
    assert 0.0 < p[0] < 0.5 < p[1] < 1.0


@pytest.mark.parametrize(
    ("scores", "labels"),
    [
        ([1.0, 2.0, 3.0], [0, 0, 0]),
        ([1.0, 2.0, 3.0], [1, 1, 1]),
        ([2.0, 2.0, 2.0], [0, 1, 0]),
        ([1.0, 2.0, 3.0, 4.0], [1, 1, 0, 0]),  # falls with the labels
        ([], []),
    ],
)
def test_where_nothing_can_be_learned_scores_stay_as_they_are(scores: list[float], labels: list[int]) -> None:
    assert fit_platt(np.array(scores), np.array(labels, np.float32)) == Calibration(1.0, 0.0)


def test_log_loss_and_calibration_error_by_hand() -> None:
    p, labels = np.array([0.8, 0.4]), np.array([1, 0], np.float32)
    assert log_loss(p, labels) == pytest.approx(-(np.log(0.8) + np.log(0.6)) / 2)
    assert np.isfinite(log_loss(np.array([0.0, 1.0]), np.array([1, 0], np.float32)))
    # Two bins of two rows: predicted 0.15 and happened 0.5; predicted 0.85 and happened 1.
    p, labels = np.array([0.1, 0.9, 0.2, 0.8]), np.array([0, 1, 1, 1], np.float32)
    assert calibration_error(p, labels, bins=2) == pytest.approx((0.35 + 0.15) / 2)
    assert calibration_error(np.array([]), np.array([])) == 0.0
