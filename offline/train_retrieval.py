"""Train the two-tower network on next purchases, point-in-time: each example's past ends before its basket."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from infra.errors import DataError
from offline.build_statistics import item_column
from offline.losses import sampled_softmax
from offline.models.two_tower import TwoTower, TwoTowerConfig
from offline.progress import step
from offline.training import seed_everything
from serving.items import ATTRIBUTES, ItemTable
from streams.encoder import MICROS_A_DAY, SEQUENCE_LENGTH
from streams.events import PURCHASE
from streams.histories import Histories

Ints = npt.NDArray[np.int64]
N_WORDS = 20_000
WORDS_AN_ITEM = 8


@dataclass(frozen=True)
class RetrievalConfig:
    """`examples` are drawn from the last `days` before the cut; `epochs` passes over them."""

    examples: int = 300_000
    epochs: int = 3
    days: int = 182
    batch: int = 1_024
    negatives: int = 2_048
    learning_rate: float = 2e-3
    dim: int = 64
    log_q: float = 0.5
    recency_days: float = 120.0


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


@dataclass(frozen=True, eq=False)
class Sequences:
    """Purchases of known articles by customer in time order, with the start of each one's past basket boundary.

    item: int64[n] · time: int64[n] · start: int64[n] first row of the customer ·
    basket: int64[n] first row of the basket.
    """

    item: Ints
    time: Ints
    start: Ints
    basket: Ints


def sequences(histories: Histories, items: ItemTable, cut: int) -> Sequences:
    column = item_column(histories, items)
    use = (column >= 0) & (histories.types == PURCHASE) & (histories.occurred_at < cut)
    item, time, customer = column[use], histories.occurred_at[use], histories.customer_rows[use]
    n = len(item)
    if not n:
        return Sequences(item, time, item, item)
    rows = np.arange(n)
    new_customer = np.r_[True, customer[1:] != customer[:-1]]
    new_basket = new_customer | np.r_[True, time[1:] != time[:-1]]
    start = np.maximum.accumulate(np.where(new_customer, rows, 0))
    basket = np.maximum.accumulate(np.where(new_basket, rows, 0))
    return Sequences(item, time, start, basket)


def new_two_tower(inputs: ItemInputs, config: RetrievalConfig, seed: int) -> TwoTower:
    """An untrained network for these articles; the same seed gives the same weights."""
    seed_everything(seed)
    return TwoTower(
        TwoTowerConfig(
            n_items=len(inputs),
            attribute_sizes=inputs.attribute_sizes,
            n_words=N_WORDS,
            content_dim=0 if inputs.content is None else inputs.content.shape[1],
            dim=config.dim,
        )
    )


def train_two_tower(
    model: TwoTower,
    inputs: ItemInputs,
    histories: Histories,
    items: ItemTable,
    cut: int,
    config: RetrievalConfig,
    *,
    seed: int,
) -> None:
    """Train in place on purchases before `cut` (microseconds), from the weights the model has."""
    rng = seed_everything(seed)
    data = sequences(histories, items, cut)
    targets = _draw(data, cut, config, rng)
    if not len(targets):
        return
    counts = np.bincount(data.item[targets], minlength=len(items)) + 1.0
    log_q = torch.from_numpy(np.log(counts / counts.sum()).astype(np.float32))
    # The tables are touched sparsely, but plain Adam over 92k rows costs less here than sparse gradients would.
    optimiser = torch.optim.Adam(model.parameters(), lr=config.learning_rate)
    model.train()
    batches = -(-len(targets) // config.batch) * config.epochs
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, config.learning_rate, total_steps=batches + 1, pct_start=0.1
    )
    with step("two-tower", batches) as progress:
        for _ in range(config.epochs):
            rng.shuffle(targets)
            for first in range(0, len(targets), config.batch):
                batch = targets[first : first + config.batch]
                negatives = rng.integers(0, len(items), config.negatives)
                loss = _batch_loss(model, inputs, data, batch, negatives, log_q, config.log_q)
                optimiser.zero_grad(set_to_none=True)
                torch.autograd.backward(loss)
                optimiser.step()
                schedule.step()
                progress.advance(1, f"loss {loss.item():.3f}")
    model.eval()


def _draw(data: Sequences, cut: int, config: RetrievalConfig, rng: np.random.Generator) -> Ints:
    """Rows to predict: with a past, within `days`, recent ones more often."""
    age = (cut - data.time) / MICROS_A_DAY
    eligible = np.flatnonzero((age <= config.days) & (data.basket > data.start))
    if not len(eligible):
        return eligible
    weight = np.exp(-age[eligible] / config.recency_days)
    size = min(config.examples, len(eligible))
    return rng.choice(eligible, size=size, replace=False, p=weight / weight.sum())


def _batch_loss(
    model: TwoTower,
    inputs: ItemInputs,
    data: Sequences,
    batch: Ints,
    negatives: Ints,
    log_q: Tensor,
    alpha: float,
) -> Tensor:
    past = data.basket[batch][:, None] - np.arange(SEQUENCE_LENGTH, 0, -1)
    valid = past >= data.start[batch][:, None]
    past = np.maximum(past, 0)
    newest = data.time[data.basket[batch] - 1][:, None]
    gaps = np.where(valid, np.log1p(np.maximum(newest - data.time[past], 0) / MICROS_A_DAY), 0).astype(np.float32)
    history = np.where(valid, data.item[past], 0)
    target = data.item[batch]
    unique, place = np.unique(np.concatenate([history.ravel(), target, negatives]), return_inverse=True)
    rows = torch.from_numpy(unique)
    vectors = model.item_encoder(*inputs.rows(rows))
    place_t = torch.from_numpy(place)
    n_history = history.size
    mask = torch.from_numpy(valid.astype(np.float32))
    seen = vectors[place_t[:n_history]].view(*history.shape, -1) * mask.unsqueeze(-1)
    queries = model.query_encoder(seen, torch.from_numpy(gaps), mask)
    positives = vectors[place_t[n_history : n_history + len(batch)]]
    drawn = vectors[place_t[n_history + len(batch) :]]
    target_t = torch.from_numpy(target)
    return sampled_softmax(
        queries,
        positives,
        drawn,
        model.scale,
        target_t,
        torch.from_numpy(negatives),
        log_q[target_t],
        alpha,
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
