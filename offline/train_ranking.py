"""Train the MMOE ranker on point-in-time examples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from offline.examples import Examples
from offline.models.mmoe import MMOE, MMOEConfig
from offline.progress import step
from offline.ranking_batches import batches
from offline.ranking_losses import ranking_loss
from offline.train_catboost import CatBoostConfig
from offline.training import seed_everything

SCORE_ROWS = 32_768


@dataclass(frozen=True)
class RankingConfig:
    """`weeks` cuts before the data cut, `customers` at most per cut; the rest is of the MMOE, but `catboost`.

    steps: at most so many batches, the best number of them on the last week, in steps of `every`; so the time is the
    same for much data and for little. batch: customers. negatives: share of candidates not bought that a pass looks at.
    averaging: decay of the weight average that serves, per step.
    """

    weeks: int = 9
    customers: int = 2_000
    steps: int = 1_600
    every: int = 400
    batch: int = 32
    learning_rate: float = 2e-3
    weight_decay: float = 1e-3
    experts: int = 4
    negatives: float = 0.15
    averaging: float = 0.995
    dropout: float = 0.1
    catboost: CatBoostConfig = field(default_factory=CatBoostConfig)


Watch = Callable[[int, MMOE], None]


def train_mmoe(
    examples: Examples,
    config: RankingConfig,
    *,
    seed: int,
    steps: int | None = None,
    watch: Watch | None = None,
) -> MMOE:
    """Trained network in eval mode, weights averaged over the last steps.

    Args:
        steps: batches, config.steps if None.
        watch: called with the number of batches done and the averaged network, every config.every and at the end.
    """
    rng = seed_everything(seed)
    model = MMOE(
        MMOEConfig(
            n_features=examples.features.shape[1],
            tasks=examples.tasks,
            n_experts=config.experts,
            dropout=config.dropout,
        )
    )
    if not len(examples):
        return model.eval()
    model.standardise_by(examples.features)
    averaged = AveragedModel(model, multi_avg_fn=_averaging(config.averaging))
    features, labels = torch.from_numpy(examples.features), torch.from_numpy(examples.labels)
    optimiser = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    total = config.steps if steps is None else steps
    model.train()
    with step("ranker", total) as progress:
        for done, batch in enumerate(islice(batches(examples, config.batch, config.negatives, rng), total), start=1):
            rows, weights = torch.from_numpy(batch.rows), torch.from_numpy(batch.weights)
            loss = ranking_loss(model(features[rows]), labels[rows], weights, examples.tasks)
            optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimiser.step()
            averaged.update_parameters(model)
            progress.advance(1, f"loss {loss.item():.4f}")
            if watch is not None and (done % config.every == 0 or done == total):
                watch(done, _averaged(averaged))
    return _averaged(averaged)


def _averaged(model: AveragedModel) -> MMOE:
    return cast(MMOE, model.module.eval())


def _averaging(decay: float) -> Callable[[Sequence[torch.Tensor], Sequence[torch.Tensor], torch.Tensor | int], None]:
    """Exponential average that forgets its start quickly: in a short training it would be all there is."""

    def average(averaged: Sequence[torch.Tensor], current: Sequence[torch.Tensor], steps: torch.Tensor | int) -> None:
        keep = min(decay, (1.0 + float(steps)) / (10.0 + float(steps)))
        for mean, newest in zip(averaged, current, strict=True):
            mean.lerp_(newest, 1.0 - keep)

    return average


def mmoe_logits(model: MMOE, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """float32[n, F] -> float32[n] raw purchase logits."""
    column = model.config.tasks.index("purchase")
    with torch.no_grad():
        parts = [
            model(torch.from_numpy(features[first : first + SCORE_ROWS]))[:, column].numpy()
            for first in range(0, len(features), SCORE_ROWS)
        ]
    return np.concatenate(parts) if parts else np.empty(0, np.float32)


def gate_entropy(model: MMOE, examples: Examples, sample: int = 20_000) -> list[float]:
    """Mean entropy of each task's gate over log(experts): 1 = all experts alike, 0 = one expert does everything."""
    if not len(examples):
        return []
    with torch.no_grad():
        weights = model.gate_weights(torch.from_numpy(examples.features[:sample]))
        entropy = -(weights * weights.clamp(min=1e-9).log()).sum(dim=-1).mean(dim=0)
    return [round(float(e), 4) for e in entropy / np.log(model.config.n_experts)]
