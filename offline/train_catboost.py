"""CatBoost on the same examples: the peer that the MMOE ranker is judged against in every run, and serves if better."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from infra.errors import ConfigurationError
from offline.examples import Examples
from offline.progress import Step, step
from offline.ranking_batches import customer_weights, keep_some

if TYPE_CHECKING:
    from catboost import CatBoost

Floats = npt.NDArray[np.float32]
# Those whose trees add up to one score of a candidate.
LOSSES = ("Logloss", "YetiRank", "PairLogit", "QuerySoftMax", "QueryRMSE")
POINTWISE = ("Logloss", "QueryRMSE")  # those that weigh each row by itself


@dataclass(frozen=True)
class CatBoostConfig:
    """`loss`: one of LOSSES, catboost's own options after a colon. `rounds`: at most so many trees; the best number of
    them on the last week is kept, in steps of `every`. `negatives`: share of candidates not bought that it is given.

    Raises:
        ConfigurationError: another loss.
    """

    loss: str = "Logloss"
    rounds: int = 160
    every: int = 20
    depth: int = 6
    learning_rate: float = 0.1
    l2: float = 3.0
    negatives: float = 0.1

    def __post_init__(self) -> None:
        if self.loss.partition(":")[0] not in LOSSES:
            raise ConfigurationError(f"catboost loss {self.loss!r}; allowed: {', '.join(LOSSES)}, each with :options")


def train_catboost(examples: Examples, config: CatBoostConfig, *, seed: int, rounds: int | None = None) -> CatBoost:
    """Gradient boosted trees that order a customer's candidates, by default as likely or not to be bought.

    Each customer counts as in the MMOE's training. On Complete Journey's weeks of 10 and 17 December, trained on the
    seven before, this weighing brings 0.6% of MAP@12 with either of two seeds, and 0.0 and 0.3% of recall@100.

    Args:
        examples: with at least one purchase.
        rounds: trees, config.rounds if None.

    Raises:
        ConfigurationError: catboost is not installed.
    """
    catboost = load_catboost()
    rows, stands_for = keep_some(examples, config.negatives, np.random.default_rng(seed))
    bought = examples.label("purchase")[rows]
    customers = customer_weights(examples)[rows]
    # What was only viewed is kept whole and must not count more than what was drawn. That all of them count less than
    # they are, beside purchases, shifts every score alike, which calibration takes back.
    weights = np.where(bought > 0, 1.0, stands_for * config.negatives) * customers
    pointwise = config.loss.partition(":")[0] in POINTWISE
    pool = catboost.Pool(
        np.ascontiguousarray(examples.features[rows]),
        bought,
        group_id=examples.group[rows],
        **({"weight": weights} if pointwise else {"group_weight": customers}),
    )
    trees = config.rounds if rounds is None else rounds
    model = catboost.CatBoost(
        {
            "loss_function": config.loss,
            "iterations": trees,
            "depth": config.depth,
            "learning_rate": config.learning_rate,
            "l2_leaf_reg": config.l2,
            "random_seed": seed % 2**31,
            # The number of threads is part of what makes two runs equal.
            "thread_count": torch.get_num_threads(),
            "allow_writing_files": False,
            "logging_level": "Silent",
        }
    )
    with step("catboost", trees) as progress:
        model.fit(pool, callbacks=[_Advance(progress)])
    return model


def catboost_scores(model: CatBoost, features: Floats, trees: int = 0) -> Floats:
    """float32[n, F] -> float32[n] raw scores of the first `trees` trees, 0 = all."""
    if not len(features):
        return np.empty(0, np.float32)
    found = model.predict(
        np.ascontiguousarray(features),
        prediction_type="RawFormulaVal",
        ntree_end=trees,
        thread_count=torch.get_num_threads(),
    )
    return np.asarray(found, np.float32)


def load_catboost() -> Any:
    """The library, where it is installed.

    Raises:
        ConfigurationError: it is not; says what to install.
    """
    try:
        import catboost
    except ImportError as error:
        raise ConfigurationError(
            "catboost is not installed; the ranker is trained beside it in every run: pip install 'modiste[train]'"
        ) from error
    return catboost


class _Advance:
    """Counts trees on the progress bar."""

    def __init__(self, progress: Step) -> None:
        self._progress = progress

    def after_iteration(self, _: Any) -> bool:
        self._progress.advance(1)
        return True  # go on
