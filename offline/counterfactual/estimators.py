"""Estimates of a target policy's mean reward from a log of another policy.

With w = target's chance / propensity of what was shown, r its reward, q the model's prediction of it, v the model's
mean over what the target would have shown, all means over rows:

| name | value | source |
|---|---|---|
| ips | mean of w·r | Horvitz and Thompson 1952, JASA 47(260):663-685, the estimator of section 3 |
| clipped ips | mean of min(w, c)·r | Ionides 2008, J. Comput. Graph. Stat. 17(2):295-311 |
| snips | sum of w·r / sum of w | Swaminathan and Joachims 2015, NIPS 28:3231-3239, section 5 |
| dm | mean of v | Dudík, Langford and Li 2011, ICML:1097-1104, section 2 |
| dr | mean of v + w·(r - q) | the same, section 3 |
| sndr | mean of v + sum of w·(r - q) / sum of w | snips of what dr weights; Saito et al. 2021, section 3 |
| switch-dr | mean of v + [w <= c]·w·(r - q) | Wang, Agarwal and Dudík 2017, ICML, PMLR 70:3589-3597, section 3 |

Saito et al. 2021 is "Open Bandit Dataset and Pipeline", NeurIPS Datasets and Benchmarks, arXiv:2008.07146. ips and dr
are unbiased where propensities are true and support is whole; snips and sndr nearly so and never outside what was
earned; the clipped ones trade a bias for less variance; dm is as good as its model.

Intervals are 95%, twice: by the linearised standard error (a normal approximation), and by bootstrap percentiles.
Both take a unit (a visitor) with all its rows. For dm the model is learned anew on every resample, for its error is the
model's; elsewhere predictions are held as they are, for to first order their error cancels (Chernozhukov et al. 2018).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from offline.bootstrap import RESAMPLES, Bootstrap
from offline.counterfactual.log import Floats, Ints, Log

Z = 1.959963984540054
# Beyond so many units a bootstrap draws for minutes, and the normal approximation is the same but for the third digit.
BOOTSTRAP_UNITS = 50_000


@dataclass(frozen=True)
class Estimate:
    """One estimator's value. low, high: normal approximation · bootstrap: percentiles, None where not drawn."""

    name: str
    value: float
    standard_error: float
    low: float
    high: float
    bootstrap: tuple[float, float] | None


@dataclass(frozen=True, eq=False)
class _Form:
    """value = mean(plain) + sum(top) / sum(bottom), each float64[n] a row; bottom of ones makes the second a mean."""

    plain: Floats
    top: Floats
    bottom: Floats


def estimates(
    log: Log,
    weights: Floats,
    logged: Floats,
    wanted: Floats,
    clip: float,
    seed: int,
    resamples: int = RESAMPLES,
    refitted: Floats | None = None,
) -> list[Estimate]:
    """All estimators of one log on the same draws, in the order of the table above.

    Args:
        weights: float64[n] · logged: the model's prediction of what was shown, float64[n] · wanted: of what the target
            would have shown, float64[n].
        resamples: of the bootstrap; 0 for none.
        refitted: values of dm by models learned anew on resamples; without them the model counts as given.
    """
    none, one = np.zeros(len(log)), np.ones(len(log))
    rest = log.reward - logged
    forms = {
        "ips": _Form(none, weights * log.reward, one),
        "clipped ips": _Form(none, np.minimum(weights, clip) * log.reward, one),
        "snips": _Form(none, weights * log.reward, weights),
        "dm": _Form(wanted, none, one),
        "dr": _Form(wanted, weights * rest, one),
        "sndr": _Form(wanted, weights * rest, weights),
        "switch-dr": _Form(wanted, np.where(weights <= clip, weights, 0.0) * rest, one),
    }
    drawn = _drawn(forms, log, seed, resamples)
    found = [_estimate(name, form, log.unit, drawn.get(name)) for name, form in forms.items()]
    if refitted is None:
        return found
    return [_by_draws(estimate, refitted) if estimate.name == "dm" else estimate for estimate in found]


def own_mean(log: Log) -> Estimate:
    """The logging policy's own mean reward, with its interval."""
    one = np.ones(len(log))
    return _estimate("logged mean", _Form(np.zeros(len(log)), log.reward, one), log.unit, None)


def _by_draws(estimate: Estimate, drawn: Floats) -> Estimate:
    """The same value with the spread of resampled ones."""
    value, error = estimate.value, float(drawn.std(ddof=1))
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Estimate(estimate.name, value, error, value - Z * error, value + Z * error, (float(low), float(high)))


def _estimate(name: str, form: _Form, unit: Ints, drawn: Floats | None) -> Estimate:
    n, bottom = len(unit), float(form.bottom.sum())
    ratio = float(form.top.sum()) / bottom if bottom > 0 else 0.0
    mean = float(form.plain.mean())
    # What each row adds to n times the error, to first order (the delta method of a ratio).
    pull = (form.plain - mean) + ((form.top - ratio * form.bottom) * (n / bottom) if bottom > 0 else 0.0)
    by_unit = np.bincount(unit, pull)
    units = len(by_unit)
    error = float(np.sqrt((by_unit**2).sum() * units / max(units - 1, 1)) / n)
    value = mean + ratio
    low, high = (None, None) if drawn is None else np.percentile(drawn, [2.5, 97.5])
    return Estimate(
        name,
        value,
        error,
        value - Z * error,
        value + Z * error,
        None if low is None or high is None else (float(low), float(high)),
    )


def _drawn(forms: dict[str, _Form], log: Log, seed: int, resamples: int) -> dict[str, Floats]:
    """Each form's value in every resample of the units, float64[resamples]."""
    if resamples == 0 or log.units > BOOTSTRAP_UNITS:
        return {}
    columns = [np.ones(len(log)), *(part for form in forms.values() for part in (form.plain, form.top, form.bottom))]
    by_unit = [np.bincount(log.unit, column, minlength=log.units) for column in columns]
    means = Bootstrap(log.units, seed, resamples).means(np.stack(by_unit, axis=1, dtype=np.float64))
    rows, parts = means[:, 0], means[:, 1:].reshape(len(means), len(forms), 3)
    found = {}
    for number, name in enumerate(forms):
        plain, top, bottom = parts[:, number].T
        # A resample in which nothing that the target shows was drawn says 0, as the whole log would.
        found[name] = plain / rows + np.divide(top, bottom, out=np.zeros_like(top), where=bottom > 0)
    return found
