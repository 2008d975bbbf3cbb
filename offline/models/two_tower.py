"""Two-tower retrieval network: an item encoder over attributes, a query encoder over recent item vectors.

    attributes, words, content vector, id (drops out) -> sum -> MLP -> unit vector          (item encoder)
    last L item vectors + time gaps -> attention with learned queries, mean -> MLP -> unit  (query encoder)

The query encoder sees articles only through their vectors, so new customers need no training; the item encoder drops
its id part at random while it learns, so an article that was never sold still lands near its kind.
Attention pooling over a short window stands between a mean and a transformer, and trains in minutes on two cores.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class TwoTowerConfig:
    n_items: int
    attribute_sizes: tuple[int, ...]  # rows of each attribute's embedding, row 0 = missing
    n_words: int  # rows of the word embedding, row 0 = padding
    content_dim: int = 0  # length of an article's text and image vector; 0 = there is none
    dim: int = 64
    n_queries: int = 4
    id_dropout: float = 0.3


class ItemEncoder(nn.Module):
    """(ids (N,), attributes (N, A), words (N, W), content (N, dc) or None) -> unit vectors (N, dim)."""

    def __init__(self, config: TwoTowerConfig) -> None:
        super().__init__()
        self.id_dropout = config.id_dropout
        self.ids = nn.Embedding(config.n_items, config.dim)
        self.attributes = nn.ModuleList(nn.Embedding(size, config.dim) for size in config.attribute_sizes)
        self.words = nn.EmbeddingBag(config.n_words, config.dim, mode="mean", padding_idx=0)
        # No bias: an article without content (a zero row) adds nothing.
        self.content = nn.Linear(config.content_dim, config.dim, bias=False) if config.content_dim else None
        self.mlp = nn.Sequential(
            nn.LayerNorm(config.dim),
            nn.Linear(config.dim, 2 * config.dim),
            nn.SiLU(),
            nn.Linear(2 * config.dim, config.dim),
        )
        # Small ids: an article that training never saw keeps a vector made by its content.
        nn.init.normal_(self.ids.weight, std=0.02)
        for table in (*self.attributes, self.words):
            nn.init.normal_(table.weight, std=0.2)

    def forward(self, ids: Tensor, attributes: Tensor, words: Tensor, content: Tensor | None = None) -> Tensor:
        identity = self.ids(ids)
        if self.training:
            keep = (torch.rand(len(ids), 1) >= self.id_dropout).to(identity.dtype)
            identity = identity * keep
        total = identity + self.words(words)
        for column, table in enumerate(self.attributes):
            total = total + table(attributes[:, column])
        if self.content is not None and content is not None:
            total = total + self.content(content)
        return F.normalize(total + self.mlp(total), dim=-1)


class QueryEncoder(nn.Module):
    """(items (B, L, dim), gaps (B, L) log1p days, mask (B, L)) -> unit vectors (B, dim)."""

    def __init__(self, config: TwoTowerConfig) -> None:
        super().__init__()
        dim = config.dim
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        self.queries = nn.Parameter(torch.randn(config.n_queries, dim) * 0.1)
        self.gap_slope = nn.Parameter(torch.linspace(0.2, 1.5, config.n_queries))
        self.gap = nn.Linear(1, dim)
        self.out = nn.Sequential(
            nn.Linear((config.n_queries + 1) * dim, 2 * dim),
            nn.LayerNorm(2 * dim),
            nn.SiLU(),
            nn.Linear(2 * dim, dim),
        )

    def forward(self, items: Tensor, gaps: Tensor, mask: Tensor) -> Tensor:
        keys = self.key(items) + self.gap(gaps.unsqueeze(-1))
        # (B, Q, L): what each learned query looks for, fading with age at its own slope.
        logits = torch.matmul(self.queries, keys.transpose(1, 2)) / items.shape[-1] ** 0.5
        logits = logits - self.gap_slope.unsqueeze(-1) * gaps.unsqueeze(1)
        logits = logits + (mask.unsqueeze(1) - 1.0) * 1e4
        pooled = torch.matmul(torch.softmax(logits, dim=-1), self.value(items)).flatten(1)
        count = mask.sum(dim=1, keepdim=True).clamp(min=1.0)
        mean = (items * mask.unsqueeze(-1)).sum(dim=1) / count
        return F.normalize(mean + self.out(torch.cat([pooled, mean], dim=1)), dim=-1)


class TwoTower(nn.Module):
    """Both encoders and the softmax temperature (learned, as 1/exp)."""

    def __init__(self, config: TwoTowerConfig) -> None:
        super().__init__()
        self.config = config
        self.item_encoder = ItemEncoder(config)
        self.query_encoder = QueryEncoder(config)
        self.log_scale = nn.Parameter(torch.tensor(2.7))

    @property
    def scale(self) -> Tensor:
        """Inverse temperature, at most 50 so that the loss cannot sharpen without bound."""
        return self.log_scale.exp().clamp(max=50.0)
