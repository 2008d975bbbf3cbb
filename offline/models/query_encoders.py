"""Query encoders: recent article vectors with their ages -> one unit vector in the space of the articles.

Both know time as order of baskets, not as order of rows: events at one moment see each other, are interchangeable, and
see nothing later. So one pass over a history yields, at every position, the vector that serving would give a customer
whose history ended with that position's basket. Training uses all of them at once.

Inputs of both: items (B, L, dim), zero where masked; gaps (B, L), log1p of days before the newest event, falling to
the right; mask (B, L), 1 where there is an event. Padding stands on the left. `forward` gives unit vectors (B, dim) of
whole histories, finite and without meaning where there is nothing but padding; `at` gives (B, P, dim), at each of
`positions` int64[B, P] the vector of the history up to the end of that position's basket.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from infra.errors import ConfigurationError

HIDDEN = -1e4  # a logit so low that softmax gives 0, and finite where everything is hidden


@dataclass(frozen=True)
class Relations:
    """How each of P positions (all L, or only the last) stands to each of the L events. All (B, P, L).

    visible: bool, not later than the position's basket and no padding · age: log1p of days from the event to the
    position · steps: baskets from the event to the position, 0 in the same basket.
    """

    visible: Tensor
    age: Tensor
    steps: Tensor


Pick = Callable[[Tensor], Tensor]


def everywhere(rows: Tensor) -> Tensor:
    return rows


def last(rows: Tensor) -> Tensor:
    return rows[:, -1:]


def relations(gaps: Tensor, mask: Tensor, pick: Pick) -> Relations:
    """Args:
    pick: takes the asked positions (B, P) out of columns (B, L).
    """
    days = torch.expm1(gaps)
    opens = F.pad((gaps[:, 1:] != gaps[:, :-1]).to(gaps.dtype), (1, 0))
    basket = torch.cumsum(opens, dim=1)
    steps = pick(basket).unsqueeze(2) - basket.unsqueeze(1)
    age = torch.log1p((days.unsqueeze(1) - pick(days).unsqueeze(2)).clamp(min=0.0))
    return Relations((steps >= 0) & (mask.unsqueeze(1) > 0), age, steps.clamp(min=0.0))


class PoolingEncoder(nn.Module):
    """Attention pooling with learned queries, each fading with age at its own slope, beside the plain mean.

    Between a mean and a transformer: events do not look at each other.
    """

    def __init__(self, dim: int, n_queries: int) -> None:
        super().__init__()
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        self.queries = nn.Parameter(torch.randn(n_queries, dim) * 0.1)
        self.gap_slope = nn.Parameter(torch.linspace(0.2, 1.5, n_queries))
        self.out = nn.Sequential(
            nn.Linear((n_queries + 1) * dim, 2 * dim),
            nn.LayerNorm(2 * dim),
            nn.SiLU(),
            nn.Linear(2 * dim, dim),
        )

    def forward(self, items: Tensor, gaps: Tensor, mask: Tensor) -> Tensor:
        return self._pool(items, relations(gaps, mask, last)).squeeze(1)

    def at(self, items: Tensor, gaps: Tensor, mask: Tensor, positions: Tensor) -> Tensor:
        return self._pool(items, relations(gaps, mask, lambda rows: rows.gather(1, positions)))

    def _pool(self, items: Tensor, to: Relations) -> Tensor:
        # (B, Q, P, L): what each learned query looks for, seen from each position.
        sought = torch.matmul(self.queries, self.key(items).transpose(1, 2)) / items.shape[-1] ** 0.5
        logits = sought.unsqueeze(2) - self.gap_slope.view(-1, 1, 1) * to.age.unsqueeze(1)
        logits = logits.masked_fill(~to.visible.unsqueeze(1), HIDDEN)
        pooled = torch.matmul(torch.softmax(logits, dim=-1), self.value(items).unsqueeze(1))
        seen = to.visible.to(items.dtype)
        mean = torch.matmul(seen, items) / seen.sum(dim=2, keepdim=True).clamp(min=1.0)
        together = torch.cat([pooled.transpose(1, 2).flatten(2), mean], dim=-1)
        return F.normalize(mean + self.out(together), dim=-1)


NEAR = 4  # baskets back that have an attention weight of their own; farther ones share a slope


class Block(nn.Module):
    """Pre-norm attention with learned biases for time, then SwiGLU (LiGR's shape: Borisyuk et al. 2024; SwiGLU: Shazeer
    2020). Biases depend on distances only, so a shifted history gives the same vector and no position is untrained."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(dim)
        self.query = nn.Linear(dim, dim)
        self.key_value = nn.Linear(dim, 2 * dim)
        self.mix = nn.Linear(dim, dim)
        # Rows: log1p of baskets back, log1p of days back, then one for each of the NEAR nearest baskets.
        self.time = nn.Parameter(torch.zeros(heads, NEAR + 2))
        self.swiglu_norm = nn.LayerNorm(dim)
        self.gate_up = nn.Linear(dim, 4 * dim)
        self.down = nn.Linear(2 * dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, at: Tensor, events: Tensor, to: Relations) -> Tensor:
        """at: (B, P, dim) the positions to move on; events: (B, L, dim) what they look at."""
        normed = self.attention_norm(events)
        key, value = (self._split(part) for part in torch.chunk(self.key_value(normed), 2, dim=-1))
        query = self._split(self.query(self.attention_norm(at)))
        logits = torch.matmul(query, key.transpose(2, 3)) / query.shape[-1] ** 0.5 + self._bias(to)
        weights = torch.softmax(logits.masked_fill(~to.visible.unsqueeze(1), HIDDEN), dim=-1)
        heard = torch.matmul(self.dropout(weights), value).transpose(1, 2).flatten(2)
        at = at + self.dropout(self.mix(heard))
        gate, up = self.gate_up(self.swiglu_norm(at)).chunk(2, dim=-1)
        moved: Tensor = at + self.dropout(self.down(F.silu(gate) * up))
        return moved

    def _split(self, rows: Tensor) -> Tensor:
        return rows.view(*rows.shape[:2], self.heads, -1).transpose(1, 2)

    def _bias(self, to: Relations) -> Tensor:
        near = [(to.steps == n).to(to.age.dtype) for n in range(NEAR)]
        distances = torch.stack([torch.log1p(to.steps), to.age, *near], dim=-1)
        return torch.matmul(distances, self.time.T).permute(0, 3, 1, 2)


class TransformerEncoder(nn.Module):
    """SASRec's causal transformer (Kang and McAuley 2018) with the blocks of its best successors, over baskets.

    The last block starts from the mean of the position's basket, so rows of one basket may change places freely; with
    one event a basket this is SASRec's "the last event asks".
    """

    def __init__(self, dim: int, heads: int, blocks: int, dropout: float) -> None:
        super().__init__()
        if dim % heads:
            raise ConfigurationError(
                f"vectors of {dim} cannot be split among {heads} heads; choose a multiple of {heads}"
            )
        # Unit rows have entries of about 1/sqrt(dim), too small beside what the blocks add.
        self.scale = nn.Parameter(torch.tensor(math.sqrt(dim) / 2))
        self.blocks = nn.ModuleList(Block(dim, heads, dropout) for _ in range(blocks))
        self.norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, items: Tensor, gaps: Tensor, mask: Tensor) -> Tensor:
        return self._run(items, gaps, mask, last).squeeze(1)

    def at(self, items: Tensor, gaps: Tensor, mask: Tensor, positions: Tensor) -> Tensor:
        return self._run(items, gaps, mask, lambda rows: rows.gather(1, positions))

    def _run(self, items: Tensor, gaps: Tensor, mask: Tensor, pick: Pick) -> Tensor:
        events = self.dropout(items * self.scale)
        *inner, outer = self.blocks
        among = relations(gaps, mask, everywhere)
        for block in inner:
            events = block(events, events, among)
        asked = relations(gaps, mask, pick)
        own = (asked.visible & (asked.steps == 0)).to(events.dtype)
        at = torch.matmul(own, events) / own.sum(dim=2, keepdim=True).clamp(min=1.0)
        return F.normalize(self.norm(outer(at, events, asked)), dim=-1)
