"""Losses of the ranker, apart from the networks so that serving never carries them."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F


def ranking_loss(
    outputs: Tensor, labels: Tensor, weights: Tensor, tasks: Sequence[str], side_weight: float = 0.1
) -> Tensor:
    """Purchase: binary cross entropy, which keeps the score a probability; the other tasks beside it.

    Args:
        outputs: (B, T) logits, and log1p of the amount for `spend`. labels: (B, T), see offline.examples.Examples.
        weights: (B,) what each row counts, see offline.ranking_batches.Batch; `spend` goes without.
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
