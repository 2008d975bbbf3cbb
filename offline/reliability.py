"""How well a probability says what happens: reliability bins, expected calibration error, log loss."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from offline.calibration import log_loss

Floats = npt.NDArray[np.float64]

BINS = 15


def reliability(probability: Floats, happened: Floats, bins: int = BINS) -> dict[str, Any]:
    """Judge probabilities float64[n] in [0, 1] against what happened, float64[n] 0 or 1.

    Bins hold equally many predictions each (purchases are rare: bins of equal width would leave all but the first
    nearly empty). Expected calibration error is the mean over predictions of |observed - predicted| of their bin
    (Naeini et al. 2015, AAAI); equal predictions always share a bin.

    Returns:
        predictions, base_rate, ece, log_loss, log_loss_of_base_rate, bins: predicted, observed, predictions.

    Raises:
        ValueError: no prediction.
    """
    if not len(probability):
        raise ValueError("reliability needs at least one prediction")
    base = float(happened.mean())
    # Ties go to the bin of the first of them.
    edges = np.unique(np.quantile(probability, np.linspace(0, 1, bins + 1)[1:-1], method="inverted_cdf"))
    place = np.searchsorted(edges, probability, side="left")
    size = np.bincount(place)
    some = size > 0
    predicted = np.bincount(place, weights=probability)[some] / size[some]
    observed = np.bincount(place, weights=happened)[some] / size[some]
    size = size[some]
    return {
        "predictions": len(probability),
        "base_rate": round(base, 6),
        "ece": round(float(np.average(np.abs(predicted - observed), weights=size)), 6),
        "log_loss": round(log_loss(probability, happened), 6),
        "log_loss_of_base_rate": round(log_loss(np.full(len(happened), base), happened), 6),
        "bins": [
            {"predicted": round(float(p), 6), "observed": round(float(o), 6), "predictions": int(n)}
            for p, o, n in zip(predicted, observed, size, strict=True)
        ],
    }
