"""MMOE and CatBoost on the same examples: trained side by side, judged on the last week before the cut, and the best of
the two and of their blend serves; the blend also where one alone was better by no more than chance would have it, for a
mean of two errs less from week to week than either. The week that is evaluated afterwards has no part in the choice.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from infra.errors import GateError
from offline.calibration import Calibration, calibration_error, fit_platt, log_loss
from offline.examples import Examples
from offline.export_ranker import blend_logits, export_blend, export_catboost, export_mmoe
from offline.models.mmoe import MMOE
from offline.ranking_batches import spans
from offline.train_catboost import CatBoostConfig, catboost_scores, train_catboost
from offline.train_ranking import RankingConfig, mmoe_logits, train_mmoe

if TYPE_CHECKING:
    from catboost import CatBoost

Floats = npt.NDArray[np.float32]
MMOE_NAME, CATBOOST_NAME, BLEND_NAME = "mmoe", "catboost", "blend"
NAMES = (MMOE_NAME, CATBOOST_NAME, BLEND_NAME)


@dataclass(frozen=True)
class Judgement:
    """What the held-out week said of a ranker that had not seen it. `length`: batches or trees that did best there, 0
    for the blend; the calibration is fitted on that week too, two numbers on all its rows. `map12_error`: of what its
    MAP@12 lies below the best one's, the standard error over the week's customers."""

    map12: float
    log_loss: float
    calibration_error: float
    log_loss_uncalibrated: float
    calibration_error_uncalibrated: float
    length: int
    calibration: Calibration
    seconds: float = 0.0
    map12_error: float = 0.0


@dataclass(frozen=True, eq=False)
class Rankers:
    """Both rankers, trained on every week; `serving` is the best of NAMES. `judgements` is empty where no week could be
    held out."""

    mmoe: MMOE
    catboost: CatBoost
    serving: str
    judgements: dict[str, Judgement]

    @property
    def peers(self) -> tuple[str, ...]:
        """MMOE and CatBoost, without the one that serves."""
        return tuple(name for name in (MMOE_NAME, CATBOOST_NAME) if name != self.serving)

    def tasks(self, name: str) -> tuple[str, ...]:
        """What the columns of its scores are."""
        return self.mmoe.config.tasks if name == MMOE_NAME else ("purchase",)

    def calibration(self, name: str) -> Calibration:
        found = self.judgements.get(name)
        return found.calibration if found else Calibration()

    def raw(self, name: str, features: Floats) -> Floats:
        """float32[n, F] -> float32[n] scores before calibration."""
        if name == MMOE_NAME:
            return mmoe_logits(self.mmoe, features)
        if name == CATBOOST_NAME:
            return catboost_scores(self.catboost, features)
        return blend_logits(*(self.probabilities(part, features) for part in (MMOE_NAME, CATBOOST_NAME)))

    def probabilities(self, name: str, features: Floats) -> npt.NDArray[np.float64]:
        """float32[n, F] -> float64[n] calibrated probabilities of a purchase."""
        return self.calibration(name).apply(self.raw(name, features))

    def export(self, name: str, path: Path, sample: Floats) -> float:
        """Write one of them as ONNX; returns the largest difference to the original on `sample` float32[n, F].

        Raises:
            GateError: it differs by more than offline.export.TOLERANCE.
        """
        calibration = self.calibration(name)
        if name == MMOE_NAME:
            return export_mmoe(self.mmoe, calibration, path, sample)
        if name == CATBOOST_NAME:
            return export_catboost(self.catboost, calibration, path, sample)
        parts = (path.with_suffix(".mmoe.onnx"), path.with_suffix(".trees.onnx"))
        self.export(MMOE_NAME, parts[0], sample)
        self.export(CATBOOST_NAME, parts[1], sample)
        return export_blend(*parts, calibration, path, sample, self.probabilities(name, sample))

    def report(self) -> dict[str, object]:
        """{"serving": name, "validation": {name: numbers of the held-out week}}."""
        return {
            "serving": self.serving,
            "validation": {
                name: {
                    key: round(value, 6) if isinstance(value, float) else value for key, value in asdict(found).items()
                }
                for name, found in self.judgements.items()
            },
        }


def train_rankers(examples: Examples, config: RankingConfig, horizon: int, *, seed: int) -> Rankers:
    """Judge both on what is held out, calibrate them there, and train both again on everything.

    Raises:
        GateError: nothing was bought in any example.
        ConfigurationError: catboost is not installed.
    """
    if not examples.label("purchase").any():
        raise GateError(
            "no candidate was bought in any ranking example: there is nothing to rank by; give more history"
        )
    parts = hold_out(examples, horizon)
    judgements = {} if parts is None else _judge(*parts, config, seed)
    lengths = {name: found.length for name, found in judgements.items()}
    return Rankers(
        mmoe=train_mmoe(examples, config, seed=seed, steps=lengths.get(MMOE_NAME)),
        catboost=train_catboost(examples, config.catboost, seed=seed, rounds=lengths.get(CATBOOST_NAME)),
        serving=better(judgements),
        judgements=judgements,
    )


def better(judgements: dict[str, Judgement]) -> str:
    """The name with the highest MAP@12, the first of NAMES where two tie or nothing was judged; the blend where it is
    no more than one standard error behind."""
    judged = [name for name in NAMES if name in judgements]
    best = max(judged, key=lambda name: judgements[name].map12, default=MMOE_NAME)
    blend = judgements.get(BLEND_NAME)
    if blend is not None and judgements[best].map12 - blend.map12 <= blend.map12_error:
        return BLEND_NAME
    return best


def hold_out(examples: Examples, horizon: int) -> tuple[Examples, Examples] | None:
    """(to train on, to judge on): judged on the last cut with a purchase, trained on those whose labels end before it
    begins. Where that leaves nothing bought to train on, every fifth customer of the last cut is judged on, and the
    others train; where that leaves one side without a purchase too, None.

    Args:
        horizon: microseconds after its cut in which an example's label lies.
    """
    bought = examples.label("purchase") > 0
    if not bought.any():
        return None
    newest = int(np.max(examples.cut[bought]))
    last = examples.cut == newest
    fifth = examples.group % 5 == 4
    for fit, held in ((examples.cut + horizon <= newest, last), (last & ~fifth, last & fifth)):
        if bought[held].any() and bought[fit].any():
            return examples.rows(fit), examples.rows(held)
    return None


def mean_average_precision(scores: Floats, bought: Floats, group: npt.NDArray[np.int64], k: int = 12) -> float:
    """The mean of `average_precisions`, 0 where nothing was bought."""
    each = average_precisions(scores, bought, group, k)
    return float(each.mean()) if len(each) else 0.0


def average_precisions(
    scores: Floats, bought: Floats, group: npt.NDArray[np.int64], k: int = 12
) -> npt.NDArray[np.float64]:
    """AP@k of the candidates of each group (rows of a group together), groups without a purchase left out.

    Precision at each hit among the first k, summed, over min(k, bought candidates); equal scores keep their order.
    """
    starts, counts = spans(group)
    number = np.repeat(np.arange(len(starts)), counts)
    order = np.lexsort((-scores, number))  # stable: number is ascending already
    hits = bought[order] > 0
    rank = np.arange(len(group)) - np.repeat(starts, counts)
    so_far: npt.NDArray[np.int64] = np.cumsum(hits)
    before: npt.NDArray[np.int64] = np.repeat(so_far[starts] - hits[starts], counts)
    precision = np.where(hits & (rank < k), (so_far - before) / (rank + 1), 0.0)
    relevant = np.bincount(number, weights=hits, minlength=len(starts))
    found = np.bincount(number, weights=precision, minlength=len(starts))
    some = relevant > 0
    return np.asarray(found[some] / np.minimum(relevant[some], k))


def _judge(fit: Examples, held: Examples, config: RankingConfig, seed: int) -> dict[str, Judgement]:
    mmoe, mmoe_scores = _judge_mmoe(fit, held, config, seed)
    trees, tree_scores = _judge_catboost(fit, held, config.catboost, seed)
    both = blend_logits(mmoe.calibration.apply(mmoe_scores), trees.calibration.apply(tree_scores))
    blend, blend_scores = _best({0: both}, held, mmoe.seconds + trees.seconds)
    judged = {MMOE_NAME: mmoe, CATBOOST_NAME: trees, BLEND_NAME: blend}
    scores = {MMOE_NAME: mmoe_scores, CATBOOST_NAME: tree_scores, BLEND_NAME: blend_scores}
    bought = held.label("purchase")
    errors = errors_behind({name: average_precisions(found, bought, held.group) for name, found in scores.items()})
    return {name: replace(found, map12_error=errors[name]) for name, found in judged.items()}


def errors_behind(each: dict[str, npt.NDArray[np.float64]]) -> dict[str, float]:
    """Of the mean by which each lies below the best one, the standard error over customers; 0 where there is one."""
    best = max(each.values(), key=np.mean)
    customers = len(best)
    if customers < 2:
        return dict.fromkeys(each, 0.0)
    return {name: float((best - found).std(ddof=1) / np.sqrt(customers)) for name, found in each.items()}


def _judge_mmoe(fit: Examples, held: Examples, config: RankingConfig, seed: int) -> tuple[Judgement, Floats]:
    started = time.monotonic()
    found: dict[int, Floats] = {}

    def score(done: int, model: MMOE) -> None:
        found[done] = mmoe_logits(model, held.features)

    train_mmoe(fit, config, seed=seed, watch=score)
    return _best(found, held, time.monotonic() - started)


def _judge_catboost(fit: Examples, held: Examples, config: CatBoostConfig, seed: int) -> tuple[Judgement, Floats]:
    started = time.monotonic()
    model = train_catboost(fit, config, seed=seed)
    lengths = sorted({*range(config.every, config.rounds, config.every), config.rounds})
    found = {n: catboost_scores(model, held.features, n) for n in lengths}
    return _best(found, held, time.monotonic() - started)


def _best(found: dict[int, Floats], held: Examples, seconds: float) -> tuple[Judgement, Floats]:
    """The length with the lowest log loss once calibrated, over few customers steadier than MAP@12, and its scores."""
    bought = held.label("purchase")
    fitted = {n: fit_platt(scores, bought) for n, scores in found.items()}
    length = min(found, key=lambda n: log_loss(fitted[n].apply(found[n]), bought))
    scores, calibration = found[length], fitted[length]
    raw, calibrated = Calibration().apply(scores), calibration.apply(scores)
    judgement = Judgement(
        map12=mean_average_precision(scores, bought, held.group),
        log_loss=log_loss(calibrated, bought),
        calibration_error=calibration_error(calibrated, bought),
        log_loss_uncalibrated=log_loss(raw, bought),
        calibration_error_uncalibrated=calibration_error(raw, bought),
        length=length,
        calibration=calibration,
        seconds=round(seconds, 2),
    )
    return judgement, scores
