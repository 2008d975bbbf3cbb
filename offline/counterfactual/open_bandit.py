"""The Open Bandit data: two policies on the same shop in the same week, so an estimate can be held against the truth.

ZOZOTOWN showed fashion at three places, by a random policy (`random`) to some visitors and by Bernoulli Thompson
sampling (`bts`) to others; each row has its propensity and whether it was clicked (Saito, Aihara, Matsutani and Narita
2021, "Open Bandit Dataset and Pipeline", NeurIPS Datasets and Benchmarks, arXiv:2008.07146). As in section 5 of the
paper, the value of one policy is estimated from the log of the other and held against its own logged mean.

`--path` holds random_C.parquet and bts_C.parquet for each campaign C of all, men, women, with the columns item_id,
position (from 1), click, propensity_score.

- random from bts: the target shows every article of the campaign with the same chance; nothing is assumed.
- bts from random: the log has the chance of what was shown, not of what was not. bts looks at no visitor, only at the
  time, so on average over the week it draws article and place with fixed shares. They are estimated from one half of
  the bts log (every other row) as frequencies, smoothed; its value is the mean of the other half, so no row is on both
  sides. What is assumed: rewards of an article do not move within the week together with the shares of bts, which
  learned meanwhile. The chance error of 5,000 rows' frequencies is not in the intervals: it moves the value by about
  the spread of click rates among articles over sqrt(5,000), a tenth of what the few clicks do.
- The paper's pipeline simulates bts from its parameters at the start of the week. Held against what bts then showed,
  these are 29% to 53% of all choices away (total variation, measured on the three campaigns; chance alone makes 3% to
  5%), for bts goes on learning: so its own log is the better witness here.
- The shares are checked against the logged propensities: by them each article at each place weighs
  sum of 1/propensity / rows, 1 but for chance.

Rows are resampled alone: nothing says which of them one visitor saw.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from infra.errors import ConfigurationError, DataError
from offline.counterfactual.estimators import Estimate, Z, own_mean
from offline.counterfactual.evaluation import Evaluation, evaluate
from offline.counterfactual.log import Floats, Ints, Log, checked
from offline.counterfactual.targets import Shares, Target, even, frequencies

CAMPAIGNS = ("all", "men", "women")
POLICIES = ("random", "bts")
PLACES = 3
COLUMNS = ("item_id", "position", "click", "propensity_score")


@dataclass(frozen=True)
class Against:
    """An estimate and the truth it is held against. "logged mean" is no estimate but the log's own mean, as if both
    policies were worth the same.

    relative_error: |estimate - truth| / truth, as in the paper; None where the truth is 0 · difference: with a 95%
    interval that holds the chance of both logs · agrees: it holds 0.
    """

    name: str
    relative_error: float | None
    difference: float
    low: float
    high: float
    agrees: bool


@dataclass(frozen=True)
class Case:
    """One campaign in one direction."""

    campaign: str
    logged: str
    target: str
    truth: Estimate
    truth_rows: int
    truth_clicks: int
    evaluation: Evaluation
    against: tuple[Against, ...]
    shares_check: dict[str, float] | None

    def report(self) -> dict[str, Any]:
        return asdict(self) | {"evaluation": self.evaluation.report()}


def read_log(path: Path, policy: str, campaign: str) -> Log:
    """The log of one policy on one campaign, every row checked.

    Raises:
        ConfigurationError: the file is not there · DataError: it is no Parquet file, lacks a column or has a row that
            cannot be.
    """
    file = path / f"{policy}_{campaign}.parquet"
    if not file.is_file():
        raise ConfigurationError(
            f"{path} has no {file.name}; --path is the folder of the Open Bandit logs, one Parquet file for each of "
            f"{', '.join(f'{p}_{c}' for p in POLICIES for c in CAMPAIGNS)}"
        )
    try:
        known = pq.ParquetFile(file).schema_arrow.names
        if missing := [name for name in COLUMNS if name not in known]:
            raise DataError(f"missing; found are {', '.join(known[:8])}", file=file.name, column=missing[0])
        table = pq.read_table(file, columns=list(COLUMNS))
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"not a Parquet file: {error}", file=file.name) from error
    item, place, click, chance = (_numbers(table[name], file.name, name) for name in COLUMNS)
    return checked(
        Log(
            action=_whole(item, file.name, "item_id"),
            position=_whole(place, file.name, "position") - 1,
            propensity=chance,
            reward=click,
            unit=np.arange(len(item)),
            actions=int(np.max(item, initial=0)) + 1,
            positions=PLACES,
            name=file.name,
        )
    )


def cases(path: Path, campaigns: tuple[str, ...], seed: int) -> Iterator[Case]:
    """Both directions of each campaign."""
    for campaign in campaigns:
        logs = {policy: read_log(path, policy, campaign) for policy in POLICIES}
        actions = max(log.actions for log in logs.values())
        random, bts = (replace(logs[policy], actions=actions) for policy in POLICIES)
        yield _case(campaign, "bts", "random", bts, even(bts), random, seed, None)
        learn = np.arange(len(bts)) % 2 == 0
        share = frequencies(bts.take(learn))
        target = Shares(share, random.position)
        yield _case(campaign, "random", "bts", random, target, bts.take(~learn), seed, check_shares(bts, share))


def check_shares(log: Log, share: Floats) -> dict[str, float]:
    """Estimated shares beside the logged propensities.

    The propensities of a policy that changes give the share of an article at a place without its frequency: rows at
    the place over the sum of 1/propensity of that article's, times its rows - the harmonic mean. `distance`: half the
    sum of absolute differences between the two, averaged over places (0 the same, 1 nothing in common) ·
    `mean_inverse`: the mean of 1/(propensity x articles), 1 but for chance where the propensities are true.
    """
    cell = log.position * log.actions + log.action
    size = log.positions * log.actions
    rows = np.bincount(cell, minlength=size).astype(np.float64)
    inverse = np.bincount(cell, 1 / log.propensity, minlength=size)
    harmonic = np.divide(rows, inverse, out=np.zeros(size), where=inverse > 0).reshape(share.shape)
    return {
        "distance": float(np.abs(harmonic - share).sum(axis=1).mean() / 2),
        "mean_inverse": float((1 / (log.propensity * log.actions)).mean()),
    }


def summary(found: list[Case]) -> list[dict[str, Any]]:
    """By estimator over all cases: mean relative error, and in how many it agrees with the truth."""
    names = [row.name for row in found[0].against]
    rows = []
    for number, name in enumerate(names):
        mine = [case.against[number] for case in found]
        errors = [row.relative_error for row in mine if row.relative_error is not None]
        rows.append(
            {
                "name": name,
                "mean_relative_error": float(np.mean(errors)) if errors else None,
                "agrees": sum(row.agrees for row in mine),
                "cases": len(mine),
            }
        )
    return rows


def _case(
    campaign: str,
    logged: str,
    wanted: str,
    log: Log,
    target: Target,
    own: Log,
    seed: int,
    check: dict[str, float] | None,
) -> Case:
    truth, found = own_mean(own), evaluate(log, target, seed)
    against = tuple(_against(estimate, truth) for estimate in (*found.estimates, found.logged))
    return Case(campaign, logged, wanted, truth, len(own), int(own.reward.sum()), found, against, check)


def _against(estimate: Estimate, truth: Estimate) -> Against:
    difference = estimate.value - truth.value
    reach = Z * float(np.hypot(estimate.standard_error, truth.standard_error))
    relative = abs(difference) / truth.value if truth.value else None
    return Against(
        estimate.name, relative, difference, difference - reach, difference + reach, abs(difference) <= reach
    )


def _numbers(column: pa.ChunkedArray, file: str, name: str) -> Floats:
    """float64; what is missing becomes NaN, which no check lets pass."""
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        raise DataError(f"holds {column.type}; numbers are wanted", file=file, column=name)
    return np.asarray(column.cast(pa.float64()).to_numpy(zero_copy_only=False), np.float64)


def _whole(values: Floats, file: str, name: str) -> Ints:
    bad = ~(np.isfinite(values) & (values == np.floor(values)))
    if bad.any():
        row = int(np.argmax(bad))
        raise DataError(f"{values[row]}; a whole number is wanted", file=file, column=name, row=row)
    return values.astype(np.int64)
