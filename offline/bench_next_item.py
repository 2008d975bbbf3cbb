"""Public next-item benchmarks, told to the product's own two-tower: this file only builds sequences and counts ranks.

Leave-one-out as in SASRec (Kang and McAuley 2018) and its successors: of each user the last item is the test, the one
before it the validation, the rest is training. Every item of the catalogue is ranked, seen ones too: that is how the
published full-ranking numbers were counted.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from infra.errors import ConfigurationError, DataError
from offline.models.two_tower import TwoTower
from offline.sequences import Ints, Sequences, by_customer
from offline.train_retrieval import N_WORDS, ItemInputs, item_vectors

DAY = 86_400_000_000
TITLE_WORDS = 16
ATTRIBUTES_AN_ITEM = 8
CHUNK = 512
K = 10


@dataclass(frozen=True, eq=False)
class NextItemData:
    """item: int64[n] rows of the catalogue, by user in time order · offsets: int64[users + 1] · inputs: what the item
    encoder reads of the catalogue."""

    item: Ints
    offsets: Ints
    inputs: ItemInputs

    @property
    def users(self) -> int:
        return len(self.offsets) - 1

    def training(self) -> Sequences:
        """Everything but each user's last two items; the file knows only the order, so one item is one day."""
        ends = np.repeat(self.offsets[1:], np.diff(self.offsets))
        user = np.repeat(np.arange(self.users), np.diff(self.offsets))
        place = np.arange(len(self.item)) - self.offsets[user]
        use = np.arange(len(self.item)) < ends - 2
        return by_customer(self.item[use], place[use] * DAY, user[use], np.ones(int(use.sum()), np.bool_))

    @property
    def now(self) -> int:
        """A moment after all training items, microseconds."""
        return int(np.diff(self.offsets).max()) * DAY


def amazon_beauty(path: Path) -> NextItemData:
    """Amazon Beauty 5-core: beauty_interactions (user, pos, item from 1), beauty_item_titles, beauty_item_attributes.

    Raises:
        ConfigurationError: a file is not there. DataError: a user has fewer than three items.
    """
    rows = _table(path, "beauty_interactions.parquet")
    user, pos, item = (np.asarray(rows[name], np.int64) for name in ("user", "pos", "item"))
    order = np.lexsort((pos, user))
    user, item = user[order], item[order] - 1
    offsets = np.append(np.flatnonzero(np.r_[True, user[1:] != user[:-1]]), len(user))
    if np.diff(offsets).min() < 3:
        raise DataError(
            "a user has fewer than three items: nothing is left to train on", file="beauty_interactions.parquet"
        )
    words: list[list[str]] = [[] for _ in range(int(item.max()) + 1)]
    titles = _table(path, "beauty_item_titles.parquet")
    for row, title in zip(titles["item"].to_pylist(), titles["title"].to_pylist(), strict=True):
        words[row - 1] += re.findall(r"[a-z0-9]+", title.lower())[:TITLE_WORDS]
    kinds = _table(path, "beauty_item_attributes.parquet")
    for row, codes in zip(kinds["item"].to_pylist(), kinds["attributes"].to_pylist(), strict=True):
        words[row - 1] += [f"attribute {code}" for code in codes[:ATTRIBUTES_AN_ITEM]]
    return NextItemData(item, offsets, word_inputs(words))


def word_inputs(words: list[list[str]]) -> ItemInputs:
    """Articles that are described by words alone."""
    hashed = np.zeros((len(words), max(1, *map(len, words))), np.int64)
    for row, found in enumerate(words):
        hashed[row, : len(found)] = [1 + zlib.crc32(word.encode()) % (N_WORDS - 1) for word in found]
    return ItemInputs(torch.zeros(len(words), 0, dtype=torch.int64), (), torch.from_numpy(hashed))


def judge(model: TwoTower, data: NextItemData, held_out: int, length: int) -> dict[str, float]:
    """recall@10 and ndcg@10 of each user's item `held_out` from the end (1 = test, 2 = validation), all items ranked.

    Args:
        length: the newest events that the query encoder is shown.
    """
    vectors = torch.from_numpy(item_vectors(model, data.inputs))
    end = data.offsets[1:] - held_out
    size = np.minimum(end - data.offsets[:-1], length)
    ranks = []
    users = np.argsort(size, kind="stable")
    for first in range(0, len(users), CHUNK):
        part = users[first : first + CHUNK]
        back = np.arange(int(size[part].max()), 0, -1)
        mask = torch.from_numpy((back <= size[part][:, None]).astype(np.float32))
        seen = torch.from_numpy(data.item[np.maximum(end[part][:, None] - back, 0)])
        gaps = torch.log1p(torch.from_numpy((back - 1).astype(np.float32))) * mask
        with torch.no_grad():
            scores = model.query_encoder(vectors[seen] * mask.unsqueeze(-1), gaps, mask) @ vectors.T
        answer = torch.from_numpy(data.item[end[part]]).unsqueeze(1)
        # An equal score counts against us: a network that gives all the same must not look good.
        # Counted in floats, exact to 16 million: torch sums booleans ten times slower.
        ranks.append((scores >= scores.gather(1, answer)).float().sum(dim=1).long().numpy())
    return rank_metrics(np.concatenate(ranks))


def rank_metrics(ranks: npt.NDArray[np.int64]) -> dict[str, float]:
    """Args:
    ranks: int64[n], 1 = first.
    """
    hit = ranks <= K
    gain = np.where(hit, 1 / np.log2(ranks + 1.0), 0.0)
    return {f"recall@{K}": round(float(hit.mean()), 5), f"ndcg@{K}": round(float(gain.mean()), 5)}


def _table(path: Path, name: str) -> pa.Table:
    if not (path / name).is_file():
        raise ConfigurationError(f"{path / name} is not there; --path must be the folder that holds {name}")
    return pq.read_table(path / name)
