"""Losses, apart from the networks so that serving never carries them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def sampled_softmax(
    queries: Tensor,
    positives: Tensor,
    negatives: Tensor,
    scale: Tensor,
    positive_ids: Tensor,
    negative_ids: Tensor,
    log_q: Tensor | None = None,
    alpha: float = 1.0,
) -> Tensor:
    """Cross entropy of each query's article against in-batch and uniform negatives (Yi et al., RecSys 2019, section 4).

    Args:
        queries, positives: (B, d) unit rows. negatives: (N, d) unit rows, drawn uniformly.
        log_q: (B,) log of the share of each positive among in-batch targets, subtracted from in-batch logits (logQ
            correction) `alpha` times; None switches it off.
    """
    inside = scale * queries @ positives.T
    if log_q is not None:
        inside = inside - alpha * log_q.unsqueeze(0)
    outside = scale * queries @ negatives.T
    same_inside = positive_ids.unsqueeze(0) == positive_ids.unsqueeze(1)
    same_inside.fill_diagonal_(False)
    same_outside = positive_ids.unsqueeze(1) == negative_ids.unsqueeze(0)
    logits = torch.cat(
        [inside.masked_fill(same_inside, -1e4), outside.masked_fill(same_outside, -1e4)],
        dim=1,
    )
    return F.cross_entropy(logits, torch.arange(len(queries)))


def ranking_loss(outputs: Tensor, bought: Tensor, spend: Tensor, spend_weight: float = 0.1) -> Tensor:
    """Purchase: binary cross entropy, which keeps the score a probability. Spend: Huber on log1p, bought rows only.

    Args:
        outputs: (B, 2). bought: (B,) 0 or 1. spend: (B,) log1p of the amount, 0 where not bought.
    """
    purchase = F.binary_cross_entropy_with_logits(outputs[:, 0], bought)
    error = F.smooth_l1_loss(outputs[:, 1], spend, reduction="none")
    amount = (error * bought).sum() / bought.sum().clamp(min=1.0)
    return purchase + spend_weight * amount
