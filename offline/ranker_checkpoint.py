"""Trained rankers on disk: weights as .npz, trees in catboost's own format, read only where all of it is whole."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

from offline.calibration import Calibration
from offline.models.mmoe import MMOE, MMOEConfig
from offline.rankers import Judgement, Rankers
from offline.train_catboost import load_catboost
from offline.weights import load_weights, save_weights


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
