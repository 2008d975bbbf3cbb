"""Losses of retrieval, apart from the networks so that serving never carries them."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def sampled_softmax(
    queries: Tensor,
    candidates: Tensor,
    rows: Tensor,
    columns: Tensor,
    scale: Tensor,
    *,
    log_q: Tensor | None = None,
    alpha: float = 1.0,
    negative: Tensor | None = None,
) -> Tensor:
    """Cross entropy of each right answer against the candidates that are no answer to the same query.

    Answers to one query (a basket is a set) never push each other away: each is compared with wrong candidates only.

    Args:
        queries: (Q, d) unit rows. candidates: (C, d) unit rows of distinct articles, among them every answer, so that
            an article drawn as a negative can never stand against itself.
        rows, columns: int64[T], answer t is candidate columns[t] to query rows[t].
        scale: inverse temperature.
        log_q: (C,) log of each candidate's chance to be among the candidates, subtracted `alpha` times (logQ
            correction, Yi et al., RecSys 2019; for mixed negatives, Yang et al., WWW 2020); None switches it off.
        negative: bool (C,), candidates that may stand as a wrong answer; None = all of them.
    """
    logits = scale * queries @ candidates.T
    if log_q is not None and alpha:
        logits = logits - alpha * log_q
    right = logits[rows, columns]
    hidden = torch.zeros_like(logits, dtype=torch.bool)
    hidden[rows, columns] = True
    if negative is not None:
        hidden |= ~negative
    wrong = torch.logsumexp(logits.masked_fill(hidden, -1e4), dim=1)[rows]
    return (torch.logaddexp(right, wrong) - right).mean()


def inclusion_log_q(share: Tensor, targets: int, uniform: int, n_items: int) -> Tensor:
    """Log of the chance that an article is among the candidates of a step: drawn at least once as one of `targets`
    right answers, where it has `share` of all answers, or as one of `uniform` negatives out of `n_items`.

    Args:
        share: (n,) in [0, 1).
    """
    undrawn = uniform * math.log1p(-1 / n_items) if n_items > 1 else -math.inf
    missed = targets * torch.log1p(-share) + undrawn
    return torch.log(-torch.expm1(missed))
