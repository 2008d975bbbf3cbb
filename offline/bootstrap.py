"""Paired bootstrap by customer: intervals of means, of differences and of ratios of means.

One resample is a number of times that each customer is drawn. The same resamples serve every contender, so whatever is
compared is compared on the same customers (Sakai 2006, SIGIR, "Evaluating evaluation metrics based on the bootstrap").
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Interval = tuple[float, float]

RESAMPLES = 1_000
CELLS = 2_000_000  # counts drawn at a time, resamples x customers: 16 MB


@dataclass(frozen=True)
class Comparison:
    """One contender against a baseline in one metric, 95% intervals.

    value, baseline_value: means over customers · difference: the first less the second · ratio: the first over the
    second, None where that is 0, as is an end of its interval where a resample's is.
    """

    customers: int
    value: float
    baseline_value: float
    difference: float
    difference_interval: Interval
    ratio: float | None
    ratio_interval: tuple[float | None, float | None]

    @property
    def verdict(self) -> str:
        """better, worse, or undecided where the interval of the difference holds 0."""
        low, high = self.difference_interval
        return "better" if low > 0 else "worse" if high < 0 else "undecided"

    def report(self) -> dict[str, Any]:
        return asdict(self) | {"verdict": self.verdict}


class Bootstrap:
    """Resampled means over n customers, drawn with replacement.

    Raises:
        ValueError: no customer, which has no mean.
    """

    def __init__(self, n: int, seed: int, resamples: int = RESAMPLES) -> None:
        if n < 1:
            raise ValueError("a bootstrap needs at least one customer")
        self._n, self._seed, self._resamples = n, seed, resamples

    def means(self, scores: Floats) -> Floats:
        """Mean of each column in every resample: float64[n, m] -> float64[resamples, m]. The same draws each call."""
        rng = np.random.default_rng(self._seed)
        even = np.full(self._n, 1 / self._n)
        parts = []
        block = max(1, CELLS // self._n)
        for first in range(0, self._resamples, block):
            counts = rng.multinomial(self._n, even, size=min(block, self._resamples - first))
            parts.append(counts.astype(np.float64) @ scores)
        return np.concatenate(parts) / self._n

    def compare(self, value: Floats, baseline: Floats) -> Comparison:
        """Judge per-customer scores `value` against `baseline`, both float64[n] in the same order."""
        return self.compare_all({"": value}, {"": baseline})[("", "")]

    def compare_all(self, values: dict[str, Floats], baselines: dict[str, Floats]) -> dict[tuple[str, str], Comparison]:
        """Every value against every baseline on one set of draws, by (value's name, baseline's name)."""
        columns = np.stack([*values.values(), *baselines.values()], axis=1)
        means, drawn = columns.mean(axis=0), self.means(columns)
        return {
            (name, other): comparison(self._n, means[[i, j]], drawn[:, i], drawn[:, j])
            for i, name in enumerate(values)
            for j, other in enumerate(baselines, start=len(values))
        }


def interval(drawn: Floats) -> Interval:
    """95% percentile interval of resampled values, float64[resamples]."""
    low, high = np.percentile(drawn, [2.5, 97.5])
    return round(float(low), 5), round(float(high), 5)


def comparison(n: int, means: Floats, value: Floats, baseline: Floats) -> Comparison:
    """Of two means, float64[2], by their resampled values, float64[resamples] each, drawn together."""
    ratios = np.divide(value, baseline, out=np.full(len(value), np.inf), where=baseline > 0)
    # Ends that are themselves resamples: between inf and a number there is nothing to interpolate.
    low, high = np.percentile(ratios, 2.5, method="lower"), np.percentile(ratios, 97.5, method="higher")
    return Comparison(
        customers=n,
        value=round(float(means[0]), 5),
        baseline_value=round(float(means[1]), 5),
        difference=round(float(means[0] - means[1]), 5),
        difference_interval=interval(value - baseline),
        ratio=_finite(means[0] / means[1]) if means[1] > 0 else None,
        ratio_interval=(_finite(low), _finite(high)),
    )


def _finite(number: float) -> float | None:
    return round(float(number), 4) if np.isfinite(number) else None
