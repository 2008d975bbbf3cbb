"""How much of a log speaks for a target policy, and what to be told before its estimates are believed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from offline.counterfactual.log import Floats, Log

# A share of clicks known from so few effective rows is off by a fifth or more even where half of them are clicks, and
# an interval by the central limit theorem is no longer one.
MIN_ROWS = 100.0
# Effective rewarded rows: of so few the relative error is above 1/sqrt(20) = 22%, whatever the number of rows.
MIN_REWARDED = 20.0
# Standard errors from 1 at which a mean weight is not chance any more (one in 16,000).
MAX_OFF = 4.0
# The share of all weight that one row may carry.
MAX_ROW = 0.1


@dataclass(frozen=True)
class Caution:
    """Why an estimate is not to be believed as it stands. `code` is stable, `message` is for people."""

    code: str
    message: str


@dataclass(frozen=True)
class Support:
    """What the weights w = target's chance / propensity say, before any reward is looked at but for `rewarded`.

    Attributes:
        rows, units: of the log.
        effective_rows: Kish's (sum of w)² / sum of w² (Kish 1965, "Survey Sampling", section 11.7): how many rows of
            equal weight would tell as much. 0 where every weight is 0.
        effective_rewarded: the same of w·|reward|, over the rows that earned something.
        mean_weight: 1 but for chance, if propensities are true and the target shows only what the log might have.
        weight_error: its standard error.
        largest_weight: of one row · largest_share: that row's share of all weight.
        clip: weights above it count as it in the clipped estimators · clipped: share of rows above.
        unsupported: a lower bound of the share of the target's choices that could not have been logged: what it shows
            elsewhere than the log where the propensity is 1, so that nothing else had a chance.
    """

    rows: int
    units: int
    effective_rows: float
    effective_rewarded: float
    mean_weight: float
    weight_error: float
    largest_weight: float
    largest_share: float
    clip: float
    clipped: float
    unsupported: float
    cautions: tuple[Caution, ...]

    @property
    def reliable(self) -> bool:
        return not self.cautions


def kish(weights: Floats) -> float:
    """(sum of w)² / sum of w², 0 of nothing."""
    largest = float(np.abs(weights).max(initial=0.0))
    if largest == 0:
        return 0.0
    scaled = weights / largest  # squares of weights of 1e200 would not fit
    return float(scaled.sum() ** 2 / (scaled**2).sum())


def clip_at(rows: int) -> float:
    """Where weights are clipped: the square root of the number of rows, the rate at which both the bias of clipping and
    the variance of not clipping vanish (Ionides 2008, "Truncated importance sampling", Journal of Computational and
    Graphical Statistics 17(2):295-311)."""
    return float(np.sqrt(rows))


def support(log: Log, chance: Floats, weights: Floats) -> Support:
    """Judge the weights float64[n] of a log. chance: the target's of what was shown, float64[n]."""
    n = len(log)
    total, largest = float(weights.sum()), float(np.max(weights))
    clip = clip_at(n)
    by_unit = np.bincount(log.unit, weights - weights.mean(), minlength=log.units)
    error = float(np.sqrt((by_unit**2).sum() * log.units / max(log.units - 1, 1)) / n)
    found: dict[str, Any] = {
        "rows": n,
        "units": log.units,
        "effective_rows": kish(weights),
        "effective_rewarded": kish(weights * np.abs(log.reward)),
        "mean_weight": total / n,
        "weight_error": error,
        "largest_weight": largest,
        "largest_share": largest / total if total > 0 else 0.0,
        "clip": clip,
        "clipped": float((weights > clip).mean()),
        "unsupported": float(np.where(log.propensity >= 1, 1 - chance, 0.0).mean()),
    }
    return Support(**found, cautions=tuple(_cautions(found, bool((log.propensity >= 1).all()))))


def _cautions(found: dict[str, Any], fixed: bool) -> list[Caution]:
    told = []
    if fixed and found["unsupported"] > 0:
        told.append(
            Caution(
                "no-support",
                f"every propensity is 1: the logging policy left nothing to chance, so this log cannot say what the "
                f"{found['unsupported']:.1%} of the target's choices that differ would have earned; let a small share "
                f"of places be drawn at random and log its propensity",
            )
        )
    elif found["unsupported"] > 0:
        told.append(
            Caution(
                "part-support",
                f"at least {found['unsupported']:.1%} of the target's choices had no chance in the log (propensity 1 "
                f"for something else); weighting leaves them out",
            )
        )
    if found["effective_rows"] < MIN_ROWS:
        told.append(
            Caution(
                "few-effective-rows",
                f"{found['rows']:,} rows tell as much as {found['effective_rows']:.1f} of equal weight; at least "
                f"{MIN_ROWS:.0f} are needed: log more, or judge a target nearer to the logging policy",
            )
        )
    if found["effective_rewarded"] < MIN_REWARDED:
        told.append(
            Caution(
                "few-rewards",
                f"the weighted rewards tell as much as {found['effective_rewarded']:.1f} of equal weight; at least "
                f"{MIN_REWARDED:.0f} are needed",
            )
        )
    if found["largest_share"] > MAX_ROW:
        told.append(
            Caution(
                "one-row-decides",
                f"one row of {found['rows']:,} carries {found['largest_share']:.0%} of all weight "
                f"({found['largest_weight']:.4g})",
            )
        )
    if not fixed and abs(found["mean_weight"] - 1) > MAX_OFF * found["weight_error"]:
        told.append(
            Caution(
                "weights-off",
                f"the mean weight is {found['mean_weight']:.4f}, {MAX_OFF:.0f} standard errors and more from 1: "
                f"propensities are not the true ones, or the target shows what the log could not",
            )
        )
    return told
