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
