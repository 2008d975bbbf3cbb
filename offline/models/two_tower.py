"""Two-tower retrieval network: an item encoder over attributes, a query encoder over recent item vectors.

    attributes, words, content vector, id (drops out) -> sum -> MLP -> unit vector          (item encoder)
    last L item vectors + time gaps -> transformer or attention pooling -> unit vector       (query encoder)

The query encoder sees articles only through their vectors, so new customers need no training; the item encoder drops
its id part at random while it learns, so an article that was never sold still lands near its kind.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from offline.models.query_encoders import PoolingEncoder, TransformerEncoder

QueryEncoderKind = Literal["pooling", "transformer"]


@dataclass(frozen=True)
class TwoTowerConfig:
    n_items: int
    attribute_sizes: tuple[int, ...]  # rows of each attribute's embedding, row 0 = missing
    n_words: int  # rows of the word embedding, row 0 = padding
    content_dim: int = 0  # length of an article's text and image vector; 0 = there is none
    dim: int = 64
    id_dropout: float = 0.3  # share of articles a step that go without their id; 1 = a network without ids
    query_encoder: QueryEncoderKind = "pooling"
    n_queries: int = 4  # of pooling
    blocks: int = 2  # of the transformer, as are the next two
    heads: int = 2
    dropout: float = 0.1
    scale: float = 15.0  # inverse temperature that learning starts from


class ItemEncoder(nn.Module):
    """(ids (N,), attributes (N, A), words (N, W), content (N, dc) or None) -> unit vectors (N, dim)."""

    def __init__(self, config: TwoTowerConfig) -> None:
        super().__init__()
        self.id_dropout = config.id_dropout
        self.ids = nn.Embedding(config.n_items, config.dim) if config.id_dropout < 1 else None
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
        if self.ids is not None:
            nn.init.normal_(self.ids.weight, std=0.02)
        for table in (*self.attributes, self.words):
            nn.init.normal_(table.weight, std=0.2)

    def forward(self, ids: Tensor, attributes: Tensor, words: Tensor, content: Tensor | None = None) -> Tensor:
        total = self.words(words)
        if self.ids is not None:
            identity = self.ids(ids)
            if self.training and self.id_dropout:
                identity = identity * (torch.rand(len(ids), 1) >= self.id_dropout)
            total = total + identity
        for column, table in enumerate(self.attributes):
            total = total + table(attributes[:, column])
        if self.content is not None and content is not None:
            total = total + self.content(content)
        return F.normalize(total + self.mlp(total), dim=-1)


class TwoTower(nn.Module):
    """Both encoders and the softmax temperature (learned, as 1/exp)."""

    def __init__(self, config: TwoTowerConfig) -> None:
        super().__init__()
        self.config = config
        self.item_encoder = ItemEncoder(config)
        self.query_encoder = _query_encoder(config)
        self.log_scale = nn.Parameter(torch.tensor(math.log(config.scale)))

    @property
    def scale(self) -> Tensor:
        """Inverse temperature, at most 50 so that the loss cannot sharpen without bound."""
        return self.log_scale.exp().clamp(max=50.0)


def _query_encoder(config: TwoTowerConfig) -> PoolingEncoder | TransformerEncoder:
    if config.query_encoder == "pooling":
        return PoolingEncoder(config.dim, config.n_queries)
    return TransformerEncoder(config.dim, config.heads, config.blocks, config.dropout)
