"""What an article earns at a place, learned from the log: the model behind the direct method and doubly robust.

A credibility model: each article's own mean pulled towards the mean of all, the more the less it was shown, times what
its place does to it. Credibility Z = n / (n + k), with k the variance within articles over the variance between them
(Bühlmann and Straub 1970, "Glaubwürdigkeit für Schadensätze", ASTIN Bulletin 5:111-133, and its usual moment
estimators). It knows nothing of the visitor: where few of a hundred impressions earn anything, what tells articles
apart fits into one number each, and doubly robust is right with any model as long as the propensities are.

Fitted on other visitors than those it is asked about (cross-fitting: Chernozhukov et al. 2018, "Double/debiased machine
learning", The Econometrics Journal 21(1):C1-C68, definition 3.2), so no row has been seen by its own prediction.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from offline.counterfactual.log import Flags, Floats, Log
from offline.counterfactual.targets import Target

FOLDS = 5
REFITS = 200  # a standard error from 200 resamples is itself known to 5%


@dataclass(frozen=True, eq=False)
class RewardModel:
    """rate: float64[actions] · factor: float64[positions], 1 on average over the log."""

    rate: Floats
    factor: Floats

    def of_logged(self, log: Log) -> Floats:
        """Expected reward of what was shown: float64[n]."""
        return np.asarray(self.rate[log.action] * self.factor[log.position], np.float64)

    def of_target(self, log: Log, target: Target) -> Floats:
        """Expected reward of what the target would have shown in its place: float64[n]."""
        return np.asarray(target.mean_of(log, self.rate) * self.factor[log.position], np.float64)


def fit(log: Log, times: Floats | None = None) -> RewardModel:
    """Learn from all rows of a log, each counted so many `times` (float64[n], default once)."""
    times = np.ones(len(log)) if times is None else times
    paid = times * log.reward
    mean = float(paid.sum() / times.sum())
    factor = np.ones(log.positions)
    if mean != 0:
        shown = np.bincount(log.position, times, minlength=log.positions)
        earned = np.bincount(log.position, paid, minlength=log.positions)
        factor = np.divide(earned, shown * mean, out=factor, where=shown > 0)
    n = np.bincount(log.action, times, minlength=log.actions)
    # Impressions count as much as their place lets them earn, or an article that stood first would seem better.
    worth = np.bincount(log.action, times * factor[log.position], minlength=log.actions)
    earned = np.bincount(log.action, paid, minlength=log.actions)
    own = np.divide(earned, worth, out=np.full(log.actions, mean), where=worth > 0)
    rest = log.reward - own[log.action] * factor[log.position]
    met = n > 0
    total, articles = float(n.sum()), int(met.sum())
    if articles < 2 or total <= articles:
        return RewardModel(np.where(met, own, mean), factor)
    within = float((times * rest**2).sum() / (total - articles))
    between = float((n[met] * (own[met] - mean) ** 2).sum() - (articles - 1) * within)
    between /= total - (n**2).sum() / total
    if between <= 0:
        return RewardModel(np.full(log.actions, mean), factor)  # articles differ no more than chance makes them
    credibility = n / (n + within / between)
    return RewardModel(credibility * own + (1 - credibility) * mean, factor)


def cross_fitted(log: Log, target: Target, seed: int, folds: int = FOLDS) -> tuple[Floats, Floats]:
    """Predictions for each row by a model that has not seen its unit: float64[n] of what was shown, float64[n] of the
    target. With a single unit there are no others, and the one model is fitted on all rows."""
    logged, wanted = np.empty(len(log)), np.empty(len(log))
    for held in _folds(log, seed, folds):
        model = fit(log.take(~held)) if not held.all() else fit(log)
        logged[held] = model.of_logged(log)[held]
        wanted[held] = model.of_target(log, target)[held]
    return logged, wanted


def refitted(log: Log, target: Target, seed: int, refits: int = REFITS) -> Floats:
    """The direct method's value from models learned anew on resampled units: float64[refits].

    Its error is the model's, which no spread of predictions shows (Efron and Tibshirani 1993, "An introduction to the
    bootstrap", chapter 9: resample, then repeat all that was estimated).
    """
    rng = np.random.default_rng([seed, 1])
    even = np.full(log.units, 1 / log.units)
    drawn = np.empty(refits)
    for number in range(refits):
        times = rng.multinomial(log.units, even)[log.unit].astype(np.float64)
        drawn[number] = np.average(fit(log, times).of_target(log, target), weights=times)
    return drawn


def _folds(log: Log, seed: int, folds: int) -> Iterator[Flags]:
    units = log.units
    folds = max(1, min(folds, units))
    fold = np.random.default_rng(seed).permutation(units) % folds
    for number in range(folds):
        yield fold[log.unit] == number
