"""Train the MMOE ranker on point-in-time examples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from offline.examples import Examples
from offline.models.mmoe import MMOE, MMOEConfig
from offline.progress import step
from offline.ranking_losses import ranking_loss
from offline.training import seed_everything


@dataclass(frozen=True)
class RankingConfig:
    """`weeks` cuts before the data cut, `customers` at most per cut, `epochs` passes."""

    weeks: int = 5
    customers: int = 2_000
    epochs: int = 5
    batch: int = 4_096
    learning_rate: float = 2e-3
    experts: int = 4


def network_config(examples: Examples, config: RankingConfig) -> MMOEConfig:
    return MMOEConfig(n_features=examples.features.shape[1], tasks=examples.tasks, n_experts=config.experts)


def train_mmoe(examples: Examples, config: RankingConfig, *, seed: int) -> MMOE:
    """float32[n, F] examples -> trained network in eval mode."""
    rng = seed_everything(seed)
    model = MMOE(network_config(examples, config))
    if not len(examples):
        return model.eval()
    with torch.no_grad():
        model.mean.copy_(torch.from_numpy(examples.features.mean(axis=0)))
        # A feature that never varies would be blown up by its own rounding noise.
        spread = examples.features.std(axis=0)
        model.std.copy_(torch.from_numpy(np.where(spread < 1e-4, 1.0, spread).astype(np.float32)))
    features = torch.from_numpy(examples.features)
    labels = torch.from_numpy(examples.labels)
    optimiser = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=1e-3)
    batches = -(-len(examples) // config.batch) * config.epochs
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, config.learning_rate, total_steps=batches + 1, pct_start=0.1
    )
    model.train()
    order = np.arange(len(examples))
    with step("ranker", batches) as progress:
        for _ in range(config.epochs):
            rng.shuffle(order)
            for first in range(0, len(order), config.batch):
                rows = torch.from_numpy(order[first : first + config.batch])
                loss = ranking_loss(model(features[rows]), labels[rows], examples.tasks)
                optimiser.zero_grad(set_to_none=True)
                torch.autograd.backward(loss)
                optimiser.step()
                schedule.step()
                progress.advance(1, f"loss {loss.item():.4f}")
    return model.eval()


def gate_entropy(model: MMOE, examples: Examples, sample: int = 20_000) -> list[float]:
    """Mean entropy of each task's gate over log(experts): 1 = all experts alike, 0 = one expert does everything."""
    if not len(examples):
        return []
    with torch.no_grad():
        weights = model.gate_weights(torch.from_numpy(examples.features[:sample]))
        entropy = -(weights * weights.clamp(min=1e-9).log()).sum(dim=-1).mean(dim=0)
    return [round(float(e), 4) for e in entropy / np.log(model.config.n_experts)]
