"""Losses of the ranker, apart from the networks so that serving never carries them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def ranking_loss(
    outputs: Tensor, labels: Tensor, weights: Tensor, tasks: Sequence[str], side_weight: float = 0.1
) -> Tensor:
    """Purchase: binary cross entropy, which keeps the score a probability; the other tasks beside it.

    Args:
        outputs: (B, T) logits, and log1p of the amount for `spend`. labels: (B, T), see offline.examples.Examples.
        weights: (B,) how many rows each stands for.
        side_weight: of every task but `purchase`; `spend` counts where something was bought.
    """
    bought = labels[:, tasks.index("purchase")]
    total = outputs.new_zeros(())
    for column, task in enumerate(tasks):
        given, wanted = outputs[:, column], labels[:, column]
        if task == "spend":
            error = F.smooth_l1_loss(given, wanted, reduction="none")
            total = total + side_weight * (error * bought).sum() / bought.sum().clamp(min=1.0)
        else:
            loss = F.binary_cross_entropy_with_logits(given, wanted, reduction="none")
            mean = (loss * weights).sum() / weights.sum()
            total = total + (mean if task == "purchase" else side_weight * mean)
    return total


def listwise_loss(logits: Tensor, bought: Tensor, weights: Tensor, customer: Tensor) -> Tensor:
    """Softmax cross entropy of each bought candidate against what the same customer did not buy (a positive never
    pushes another positive down), mean over what was bought.

    Args:
        logits, bought, weights: (B,); a row of weight w stands for w like it. customer: (B,) 0, 1, 2 ...
    """
    positive = bought > 0
    if not bool(positive.any()):
        return logits.sum() * 0.0
    groups = int(customer.max()) + 1
    others = torch.where(positive, torch.full_like(logits, -1e9), logits + weights.log())
    top = torch.full((groups,), -1e9).scatter_reduce(0, customer, others.detach(), "amax")
    total = torch.zeros(groups).index_add(0, customer, torch.exp(others - top[customer]) * (~positive))
    rivals = top + total.clamp_min(1e-20).log()
    return F.softplus(rivals[customer[positive]] - logits[positive]).mean()
