"""MMOE and CatBoost on the same examples: trained side by side, judged on the last week before the cut, and the better
one serves. The week that is evaluated afterwards has no part in the choice.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from infra.errors import GateError
from offline.calibration import Calibration, calibration_error, fit_platt, log_loss
from offline.examples import Examples
from offline.export_ranker import export_catboost, export_mmoe
from offline.models.mmoe import MMOE, MMOEConfig
from offline.ranking_batches import spans
from offline.train_catboost import CatBoostConfig, catboost_scores, load_catboost, train_catboost
from offline.train_ranking import RankingConfig, mmoe_logits, train_mmoe
from offline.weights import load_weights, save_weights

if TYPE_CHECKING:
    from catboost import CatBoost

Floats = npt.NDArray[np.float32]
MMOE_NAME, CATBOOST_NAME = "mmoe", "catboost"
NAMES = (MMOE_NAME, CATBOOST_NAME)


@dataclass(frozen=True)
class Judgement:
    """What the held-out week said of a ranker that had not seen it. `length`: passes or trees that did best there;
    the calibration is fitted on that week too, two numbers on all its rows."""

    map12: float
    log_loss: float
    calibration_error: float
    log_loss_uncalibrated: float
    calibration_error_uncalibrated: float
    length: int
    calibration: Calibration
    seconds: float = 0.0


@dataclass(frozen=True, eq=False)
class Rankers:
    """Both rankers, trained on every week; `serving` is the name of the better one. `judgements` is empty where no
    week could be held out."""

    mmoe: MMOE
    catboost: CatBoost
    serving: str
    judgements: dict[str, Judgement]

    @property
    def peer(self) -> str:
        """The name of the other one."""
        return CATBOOST_NAME if self.serving == MMOE_NAME else MMOE_NAME

    def tasks(self, name: str) -> tuple[str, ...]:
        """What the columns of its scores are."""
        return self.mmoe.config.tasks if name == MMOE_NAME else ("purchase",)

    def calibration(self, name: str) -> Calibration:
        found = self.judgements.get(name)
        return found.calibration if found else Calibration()

    def export(self, name: str, path: Path, sample: Floats) -> float:
        """Write one of them as ONNX; returns the largest difference to the original on `sample` float32[n, F].

        Raises:
            GateError: it differs by more than offline.export.TOLERANCE.
        """
        if name == MMOE_NAME:
            return export_mmoe(self.mmoe, self.calibration(name), path, sample)
        return export_catboost(self.catboost, self.calibration(name), path, sample)

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


def train_rankers(examples: Examples, config: RankingConfig, *, seed: int) -> Rankers:
    """Judge both on what is held out, calibrate them there, and train both again on everything.

    Raises:
        GateError: nothing was bought in any example.
        ConfigurationError: catboost is not installed.
    """
    if not examples.label("purchase").any():
        raise GateError(
            "no candidate was bought in any ranking example: there is nothing to rank by; give more history"
        )
    judgements: dict[str, Judgement] = {}
    parts = hold_out(examples)
    if parts is not None:
        judgements = {
            MMOE_NAME: _judge_mmoe(*parts, config, seed),
            CATBOOST_NAME: _judge_catboost(*parts, config.catboost, seed),
        }
    lengths = {name: found.length for name, found in judgements.items()}
    return Rankers(
        mmoe=train_mmoe(examples, config, seed=seed, epochs=lengths.get(MMOE_NAME)),
        catboost=train_catboost(examples, config.catboost, seed=seed, rounds=lengths.get(CATBOOST_NAME)),
        serving=better(judgements),
        judgements=judgements,
    )


def better(judgements: dict[str, Judgement]) -> str:
    """The name with the highest MAP@12, the MMOE (which knows more tasks) on a tie or where nothing was judged."""
    return max(NAMES, key=lambda name: judgements[name].map12 if judgements else 0.0)


def hold_out(examples: Examples) -> tuple[Examples, Examples] | None:
    """(to train on, to judge on): the last week is judged on; where that leaves one side without a purchase, every
    fifth customer; where that does too, None."""
    bought = examples.label("purchase") > 0
    last = examples.cut == examples.cut.max()
    fifth = examples.group % 5 == 4
    for held in (last, fifth):
        if bought[held].any() and bought[~held].any():
            return examples.rows(~held), examples.rows(held)
    return None


def mean_average_precision(scores: Floats, bought: Floats, group: npt.NDArray[np.int64], k: int = 12) -> float:
    """MAP@k over the candidates of each group (rows of a group together), groups without a purchase left out.

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
    return float((found[some] / np.minimum(relevant[some], k)).mean()) if some.any() else 0.0


def _judge_mmoe(fit: Examples, held: Examples, config: RankingConfig, seed: int) -> Judgement:
    started = time.monotonic()
    found: dict[int, Floats] = {}

    def score(epoch: int, model: MMOE) -> None:
        found[epoch] = mmoe_logits(model, held.features)

    train_mmoe(fit, config, seed=seed, after_epoch=score)
    return _best(found, held, time.monotonic() - started)


def _judge_catboost(fit: Examples, held: Examples, config: CatBoostConfig, seed: int) -> Judgement:
    started = time.monotonic()
    model = train_catboost(fit, config, seed=seed)
    lengths = sorted({*range(config.every, config.rounds, config.every), config.rounds})
    found = {n: catboost_scores(model, held.features, n) for n in lengths}
    return _best(found, held, time.monotonic() - started)


def _best(found: dict[int, Floats], held: Examples, seconds: float) -> Judgement:
    """The length with the highest MAP@12, the shortest of equals."""
    bought = held.label("purchase")
    by_length = {n: mean_average_precision(scores, bought, held.group) for n, scores in found.items()}
    length = max(sorted(by_length), key=lambda n: by_length[n])
    scores = found[length]
    calibration = fit_platt(scores, bought)
    raw, calibrated = Calibration().apply(scores), calibration.apply(scores)
    return Judgement(
        map12=by_length[length],
        log_loss=log_loss(calibrated, bought),
        calibration_error=calibration_error(calibrated, bought),
        log_loss_uncalibrated=log_loss(raw, bought),
        calibration_error_uncalibrated=calibration_error(raw, bought),
        length=length,
        calibration=calibration,
        seconds=round(seconds, 2),
    )


def save_rankers(rankers: Rankers, directory: Path) -> None:
    """Checkpoint: ranker.npz, ranker.cbm, and rankers.json, which is written last and makes it whole."""
    directory.mkdir(parents=True, exist_ok=True)
    note = directory / "rankers.json"
    note.unlink(missing_ok=True)
    save_weights(rankers.mmoe, directory / "ranker.npz")
    trees = directory / "ranker.cbm"
    rankers.catboost.save_model(str(trees))
    facts = {
        "mmoe": asdict(rankers.mmoe.config),
        "trees": hashlib.sha256(trees.read_bytes()).hexdigest(),
        "serving": rankers.serving,
        "judgements": {name: asdict(found) for name, found in rankers.judgements.items()},
    }
    aside = note.with_suffix(".part")
    aside.write_text(json.dumps(facts))
    aside.replace(note)


def load_rankers(directory: Path) -> Rankers | None:
    """What save_rankers wrote, None where it is not whole."""
    note, trees = directory / "rankers.json", directory / "ranker.cbm"
    if not note.exists() or not trees.exists():
        return None
    try:
        facts = json.loads(note.read_text())
    except ValueError:
        return None
    if hashlib.sha256(trees.read_bytes()).hexdigest() != facts["trees"]:
        return None
    mmoe = MMOE(MMOEConfig(**facts["mmoe"] | {"tasks": tuple(facts["mmoe"]["tasks"])}))
    if not load_weights(mmoe, directory / "ranker.npz"):
        return None
    catboost = load_catboost().CatBoost()
    catboost.load_model(str(trees))
    judgements = {
        name: Judgement(**found | {"calibration": Calibration(**found["calibration"])})
        for name, found in facts["judgements"].items()
    }
    return Rankers(mmoe.eval(), catboost, facts["serving"], judgements)
