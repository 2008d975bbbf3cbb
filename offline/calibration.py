"""Scores become probabilities: Platt scaling, which cannot change an order, and what it is judged by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.float32] | npt.NDArray[np.float64]

STEPS = 50
EPSILON = 1e-7


@dataclass(frozen=True)
class Calibration:
    """p = sigmoid(scale * score + shift), scale > 0: strictly rising, so a ranking stays what it is."""

    scale: float = 1.0
    shift: float = 0.0

    def apply(self, scores: Numbers) -> npt.NDArray[np.float64]:
        """float64[n] probabilities of raw scores."""
        # Beyond +-60 a double's sigmoid is 0 or 1 to the last bit that matters, and exp stays finite.
        return 1.0 / (1.0 + np.exp(-np.clip(self.scale * scores.astype(np.float64) + self.shift, -60.0, 60.0)))


def fit_platt(scores: Numbers, labels: Numbers) -> Calibration:
    """Maximum likelihood of scale and shift by Newton's method, with Platt's smoothed targets (Platt 1999, Lin et al.
    2007), which keep it finite where the scores separate the labels. Scores that do not rise with the labels, or labels
    all alike, leave the scores as they are: a scale of 0 or below would change the order.

    Args:
        scores: [n] raw scores. labels: [n] 0 or 1.
    """
    positives = float(labels.sum())
    negatives = len(labels) - positives
    spread = float(np.std(scores)) if len(scores) else 0.0
    if not positives or not negatives or spread < 1e-9:
        return Calibration()
    target = np.where(labels > 0, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    centre = float(np.mean(scores))
    x = np.stack([(scores.astype(np.float64) - centre) / spread, np.ones(len(scores))], axis=1)
    weights = np.array([0.0, np.log(positives / negatives)])
    best = _cross_entropy(x @ weights, target)
    for _ in range(STEPS):
        p = 1.0 / (1.0 + np.exp(-np.clip(x @ weights, -60, 60)))
        hessian = (x * (p * (1 - p))[:, None]).T @ x + 1e-9 * np.eye(2)
        move = np.linalg.solve(hessian, x.T @ (target - p))
        length = 1.0
        while length > 1e-6 and _cross_entropy(x @ (weights + length * move), target) > best:
            length /= 2
        found = _cross_entropy(x @ (weights + length * move), target)
        if found > best - 1e-12 * len(labels):
            break
        weights, best = weights + length * move, found
    if weights[0] <= 1e-6:
        return Calibration()
    scale = weights[0] / spread
    return Calibration(float(scale), float(weights[1] - scale * centre))


def _cross_entropy(logits: npt.NDArray[np.float64], target: npt.NDArray[np.float64]) -> float:
    return float((np.logaddexp(0.0, logits) - target * logits).sum())


def log_loss(probabilities: Numbers, labels: Numbers) -> float:
    """Mean negative log likelihood of 0/1 labels, probabilities kept EPSILON away from 0 and 1."""
    p = np.clip(probabilities.astype(np.float64), EPSILON, 1 - EPSILON)
    return float(-np.mean(np.where(labels > 0, np.log(p), np.log1p(-p))))


def calibration_error(probabilities: Numbers, labels: Numbers, bins: int = 20) -> float:
    """Expected calibration error (Naeini et al., AAAI 2015) over bins of equal count: the mean distance between what
    was predicted and what happened, each bin weighted by its rows."""
    if not len(probabilities):
        return 0.0
    order = np.argsort(probabilities, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    gaps = [abs(float(probabilities[p].mean()) - float(labels[p].mean())) * len(p) for p in parts]
    return sum(gaps) / len(order)
