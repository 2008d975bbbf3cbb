"""One target policy on one log: support, all estimates, and bounds where the log cannot know."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from offline.bootstrap import RESAMPLES
from offline.counterfactual.estimators import Estimate, estimates, own_mean
from offline.counterfactual.log import Floats, Log, checked
from offline.counterfactual.reward_model import cross_fitted, refitted
from offline.counterfactual.support import Support, support
from offline.counterfactual.targets import Target


@dataclass(frozen=True)
class Evaluation:
    """logged: the logging policy's own mean · estimates: of the target's, empty where the log left nothing to chance
    and the target differs from it · bounds: what the target's mean lies between whatever the unseen would have earned,
    between the log's least and greatest reward; None where all was seen."""

    logged: Estimate
    support: Support
    estimates: tuple[Estimate, ...]
    bounds: tuple[float, float] | None

    def report(self) -> dict[str, Any]:
        return asdict(self) | {"reliable": self.support.reliable}


def evaluate(log: Log, target: Target, seed: int, resamples: int = RESAMPLES) -> Evaluation:
    """Judge `target` on `log`.

    Raises:
        DataError: a row of the log cannot be (`checked`).
    """
    checked(log)
    chance = target.chance(log)
    weights = chance / log.propensity
    found = support(log, chance, weights)
    blind = any(caution.code == "no-support" for caution in found.cautions)
    values: list[Estimate] = []
    if not blind:
        logged, wanted = cross_fitted(log, target, seed)
        refits = refitted(log, target, seed) if resamples else None
        values = estimates(log, weights, logged, wanted, found.clip, seed, resamples, refits)
    return Evaluation(own_mean(log), found, tuple(values), _bounds(log, weights * log.reward, found.unsupported))


def _bounds(log: Log, earned: Floats, unsupported: float) -> tuple[float, float] | None:
    """What was seen is known, the rest lies between the extremes of a reward (Manski 1990, "Nonparametric bounds on
    treatment effects", American Economic Review 80(2):319-323). Rewards are from 0 to 1 unless the log says more."""
    if unsupported == 0:
        return None
    seen = float(earned.mean())
    least, most = min(0.0, float(np.min(log.reward))), max(1.0, float(np.max(log.reward)))
    return seen + unsupported * least, seen + unsupported * most
