"""Train the MMOE ranker on point-in-time examples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from offline.examples import Examples
from offline.models.encoding import Bins
from offline.models.mmoe import MMOE, MMOEConfig
from offline.progress import step
from offline.ranking_batches import batches
from offline.ranking_losses import listwise_loss, ranking_loss
from offline.train_catboost import CatBoostConfig
from offline.training import seed_everything

SCORE_ROWS = 32_768


@dataclass(frozen=True)
class RankingConfig:
    """`weeks` cuts before the data cut, `customers` at most per cut; the rest is of the MMOE, but `catboost`.

    epochs: at most so many passes, the best of them on the last week. batch: customers. negatives: share of candidates
    not bought that a pass looks at. listwise: weight of the softmax within a customer beside the cross entropy.
    averaging: decay of the weight average that serves, per step. bins: per feature, of the piecewise-linear encoding.
    """

    weeks: int = 5
    customers: int = 2_000
    epochs: int = 8
    batch: int = 32
    learning_rate: float = 2e-3
    weight_decay: float = 1e-3
    experts: int = 4
    negatives: float = 0.15
    listwise: float = 0.0
    averaging: float = 0.995
    dropout: float = 0.1
    bins: int = 0
    catboost: CatBoostConfig = field(default_factory=CatBoostConfig)


AfterEpoch = Callable[[int, MMOE], None]


def train_mmoe(
    examples: Examples,
    config: RankingConfig,
    *,
    seed: int,
    epochs: int | None = None,
    after_epoch: AfterEpoch | None = None,
) -> MMOE:
    """Trained network in eval mode, weights averaged over the last steps.

    Args:
        epochs: passes, config.epochs if None.
        after_epoch: called with the number of passes done and the averaged network after each.
    """
    rng = seed_everything(seed)
    bins = Bins.of(examples.features, config.bins) if config.bins else Bins.none()
    model = MMOE(
        MMOEConfig(
            n_features=examples.features.shape[1],
            tasks=examples.tasks,
            n_bins=len(bins),
            n_experts=config.experts,
            dropout=config.dropout,
        )
    )
    if not len(examples):
        return model.eval()
    model.encoding.fit(examples.features, bins)
    averaged = AveragedModel(model, multi_avg_fn=_averaging(config.averaging))
    features, labels = torch.from_numpy(examples.features), torch.from_numpy(examples.labels)
    optimiser = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    passes = config.epochs if epochs is None else epochs
    purchase = examples.tasks.index("purchase")
    groups = len(np.unique(examples.group))
    steps = -(-groups // config.batch) * passes
    with step("ranker", steps) as progress:
        for epoch in range(1, passes + 1):
            model.train()
            for batch in batches(examples, config.batch, config.negatives, rng):
                rows, weights = torch.from_numpy(batch.rows), torch.from_numpy(batch.weights)
                outputs, wanted = model(features[rows]), labels[rows]
                loss = ranking_loss(outputs, wanted, weights, examples.tasks)
                if config.listwise:
                    within = listwise_loss(
                        outputs[:, purchase], wanted[:, purchase], weights, torch.from_numpy(batch.customer)
                    )
                    loss = loss + config.listwise * within
                optimiser.zero_grad(set_to_none=True)
                torch.autograd.backward(loss)
                nn.utils.clip_grad_norm_(model.parameters(), 5.0)
                optimiser.step()
                averaged.update_parameters(model)
                progress.advance(1, f"loss {loss.item():.4f}")
            if after_epoch is not None:
                after_epoch(epoch, _averaged(averaged))
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
