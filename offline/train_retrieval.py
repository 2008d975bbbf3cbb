"""Train the two-tower network on next baskets, point-in-time: the past of each question ends before its basket."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from infra.errors import DataError
from offline.losses import inclusion_log_q, sampled_softmax
from offline.models.two_tower import QueryEncoderKind, TwoTower, TwoTowerConfig
from offline.progress import step
from offline.sequences import Batch, Ints, Questions, Sequences, assemble, batches, draw, questions, sequences, spans
from offline.training import seed_everything
from serving.items import ATTRIBUTES, ItemTable
from streams.encoder import MICROS_A_DAY, SEQUENCE_LENGTH
from streams.histories import Histories

N_WORDS = 20_000
WORDS_AN_ITEM = 8


@dataclass(frozen=True)
class TowerConfig:
    """Each epoch draws baskets with about `examples` articles from the last `days` before the cut."""

    examples: int = 300_000
    epochs: int = 3
    days: float = 182
    batch: int = 2_048  # articles to predict in a step
    negatives: int = 2_048  # uniform ones a step, beside those that others of the batch bought
    in_batch: bool = True  # whether what others of the batch bought is a negative at all
    learning_rate: float = 6e-3
    weight_decay: float = 0.0
    dim: int = 64
    log_q: float = 1.0
    recency_days: float = 120.0
    id_dropout: float = 0.3
    query_encoder: QueryEncoderKind = "pooling"
    blocks: int = 2
    heads: int = 2
    dropout: float = 0.1
    scale: float = 15.0
    history: int = SEQUENCE_LENGTH
    stride: int = SEQUENCE_LENGTH // 2  # a question sees at least history - stride events of its past


@dataclass(frozen=True, eq=False)
class ItemInputs:
    """What the item encoder reads of n articles.

    attributes: int64[n, A], 0 = missing · attribute_sizes: codes of each attribute, the missing one counted ·
    words: int64[n, W] hashed words of title and type, 0 = padding · content: float32[n, dc] or None.
    """

    attributes: Tensor
    attribute_sizes: tuple[int, ...]
    words: Tensor
    content: Tensor | None = None

    def __len__(self) -> int:
        return len(self.words)

    def rows(self, ids: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """The item encoder's arguments for articles `ids` int64[k]."""
        return ids, self.attributes[ids], self.words[ids], None if self.content is None else self.content[ids]


def item_inputs(items: ItemTable, content: npt.NDArray[np.float32] | None = None) -> ItemInputs:
    """Args:
    content: float32[n, dc], one row an article (offline/content/vectors.py), zero where there is nothing to see.
    """
    if content is not None and (content.ndim != 2 or len(content) != len(items)):
        raise DataError(f"content vectors have shape {content.shape}, but there are {len(items)} articles")
    attributes = np.stack([items.codes[name] + 1 for name in ATTRIBUTES], axis=1).astype(np.int64)
    words = np.zeros((len(items), WORDS_AN_ITEM), np.int64)
    for row, title in enumerate(items.titles):
        found = re.findall(r"[a-z0-9]+", title.lower())[:WORDS_AN_ITEM] or [""]
        # crc32, not hash(): the same word must land in the same row in every process.
        words[row, : len(found)] = [1 + zlib.crc32(word.encode()) % (N_WORDS - 1) for word in found]
    return ItemInputs(
        torch.from_numpy(attributes),
        tuple(len(items.labels[a]) + 1 for a in ATTRIBUTES),
        torch.from_numpy(words),
        None if content is None else torch.from_numpy(content.astype(np.float32, copy=False)),
    )


def new_two_tower(inputs: ItemInputs, config: TowerConfig, seed: int) -> TwoTower:
    """An untrained network for these articles; the same seed gives the same weights."""
    seed_everything(seed)
    return TwoTower(
        TwoTowerConfig(
            n_items=len(inputs),
            attribute_sizes=inputs.attribute_sizes,
            n_words=N_WORDS,
            content_dim=0 if inputs.content is None else inputs.content.shape[1],
            dim=config.dim,
            id_dropout=config.id_dropout,
            query_encoder=config.query_encoder,
            blocks=config.blocks,
            heads=config.heads,
            dropout=config.dropout,
            scale=config.scale,
        )
    )


def train_two_tower(
    model: TwoTower,
    inputs: ItemInputs,
    histories: Histories,
    items: ItemTable,
    cut: int,
    config: TowerConfig,
    *,
    seed: int,
    known: Ints | None = None,
) -> None:
    """Train in place on purchases before `cut` (microseconds), from the weights the model has.

    Args:
        known: int64[m] articles that were known at the cut, None: all. No other is drawn as a negative.
    """
    fit(model, inputs, sequences(histories, items, cut), cut, config, seed=seed, known=known)


def fit(
    model: TwoTower,
    inputs: ItemInputs,
    data: Sequences,
    now: int,
    config: TowerConfig,
    *,
    seed: int,
    enough: Callable[[int], bool] | None = None,
    known: Ints | None = None,
) -> None:
    """Train in place on every question of the last `config.days` before `now` (microseconds).

    Args:
        known: see train_two_tower.
        enough: called after each epoch with its number, from 1; training ends where it answers True.
    """
    rng = seed_everything(seed)
    asked = questions(data, now - int(config.days * MICROS_A_DAY))
    if not len(asked):
        return
    plan = []
    for _ in range(config.epochs):
        drawn = draw(data, asked, config.examples, now, config.recency_days, rng)
        plan.append(batches(data, drawn, config.history, config.stride, config.batch, rng))
    pool = np.arange(len(inputs)) if known is None else known
    share = torch.from_numpy(_answer_share(data, asked, now, config, len(inputs)))
    # The tables are touched sparsely, but plain Adam over 92k rows costs less here than sparse gradients would.
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
    )
    steps = sum(len(parts) for parts in plan)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, config.learning_rate, total_steps=steps + 1, pct_start=0.1
    )
    model.train()
    with step("two-tower", steps) as progress:
        for number, parts in enumerate(plan, 1):
            for part in parts:
                negatives = pool[rng.integers(0, len(pool), config.negatives)]
                batch = assemble(data, part, config.history, config.stride)
                note = ""
                if len(batch.answer):
                    loss = _loss(model, inputs, batch, negatives, share, len(pool), config)
                    optimiser.zero_grad(set_to_none=True)
                    torch.autograd.backward(loss)
                    optimiser.step()
                    schedule.step()
                    note = f"loss {loss.item():.3f}"
                progress.advance(1, note)
            if enough is not None and enough(number):
                break
            model.train()
    model.eval()


def _answer_share(
    data: Sequences, asked: Questions, now: int, config: TowerConfig, n_items: int
) -> npt.NDArray[np.float32]:
    """Each article's share of the answers that are drawn, float32[n]."""
    _, row = spans(asked.first, asked.until)
    row = row[data.target[row]]
    weight = np.exp((data.time[row] - now) / MICROS_A_DAY / config.recency_days)
    counted = np.bincount(data.item[row], weight, minlength=n_items)
    return np.asarray(counted / counted.sum(), np.float32)


def _loss(
    model: TwoTower, inputs: ItemInputs, batch: Batch, negatives: Ints, share: Tensor, n_pool: int, config: TowerConfig
) -> Tensor:
    mask = torch.from_numpy(batch.mask)
    seen = mask > 0
    history = batch.item[batch.mask > 0]
    candidates, columns = np.unique(np.concatenate([batch.answer, negatives]), return_inverse=True)
    used, place = np.unique(np.concatenate([history, candidates]), return_inverse=True)
    vectors = model.item_encoder(*inputs.rows(torch.from_numpy(used)))
    places = torch.from_numpy(place)
    events = torch.zeros(*mask.shape, vectors.shape[1])
    events = events.masked_scatter(seen.unsqueeze(-1), vectors[places[: len(history)]])
    asked = model.query_encoder.at(events, torch.from_numpy(batch.gaps), mask, torch.from_numpy(batch.positions))
    n_answers = len(batch.answer)
    uniform = torch.zeros(len(candidates), dtype=torch.bool)
    uniform[torch.from_numpy(columns[n_answers:])] = True
    in_batch = n_answers if config.in_batch else 0
    return sampled_softmax(
        asked[torch.from_numpy(batch.window), torch.from_numpy(batch.place)],
        vectors[places[len(history) :]],
        torch.from_numpy(batch.question),
        torch.from_numpy(columns[:n_answers]),
        model.scale,
        log_q=inclusion_log_q(share[torch.from_numpy(candidates)], in_batch, config.negatives, n_pool),
        alpha=config.log_q,
        negative=None if config.in_batch else uniform,
    )


def item_vectors(model: TwoTower, inputs: ItemInputs, chunk: int = 16_384) -> npt.NDArray[np.float32]:
    """Unit vectors of the full catalogue, float32[n, dim]."""
    model.eval()
    parts = []
    with torch.no_grad():
        for first in range(0, len(inputs), chunk):
            rows = torch.arange(first, min(first + chunk, len(inputs)))
            parts.append(model.item_encoder(*inputs.rows(rows)).numpy())
    return np.concatenate(parts).astype(np.float32)
