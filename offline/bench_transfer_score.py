"""Recall@100 of the transferred two-tower beside its peers, by shop and by who and what is new to it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from offline.bench_transfer import TransferData, train_on_known
from offline.models.two_tower import TwoTower
from offline.train_retrieval import TowerConfig
from streams.encoder import MICROS_A_DAY, EncoderInput, encoder_input

_Ints = npt.NDArray[np.int64]
_Floats = npt.NDArray[np.float32]

K = 100
POPULAR_DAYS = 7
_MEAN_DAYS = 30.0  # time constant of the untrained content mean
_CHUNK = 256
_RESAMPLES = 1_000


@dataclass(frozen=True)
class TransferRow:
    """Recall@100 of one ranker for one question. `low`, `high`: 95% bootstrap interval over customers.

    shop: whose customers and catalogue · asked: known or new customers, and which articles are ranked and looked for ·
    candidates: articles ranked.
    """

    shop: str
    asked: str
    ranker: str
    recall: float
    low: float
    high: float
    customers: int
    candidates: int


def measure(data: TransferData, config: TowerConfig, seed: int) -> Iterator[TransferRow]:
    """Train both towers and rank each shop's catalogue for each group of customers and articles."""
    encoded = {
        name: train_on_known(data, config, seed, content_only=content_only)
        for name, content_only in (("two-tower", False), ("two-tower, content only", True))
    }
    for row, shop in enumerate(data.shops):
        mine = data.shop_of_item == row
        if shop == data.to:
            groups = [("new shop", True, mine, False), ("new shop, not met before", True, mine, True)]
        else:
            fresh = mine & data.new_item
            groups = [
                ("known customers, all articles", False, mine, False),
                ("new customers, all articles", True, mine, False),
                ("known customers, new articles", False, fresh, False),
                ("new customers, new articles", True, fresh, False),
            ]
        for asked, new_customers, candidates, not_met in groups:
            yield from _answered(data, row, asked, new_customers, np.flatnonzero(candidates), not_met, encoded, seed)


def _answered(
    data: TransferData,
    shop: int,
    asked: str,
    new_customers: bool,
    candidates: _Ints,
    not_met: bool,
    encoded: dict[str, tuple[TwoTower, _Floats]],
    seed: int,
) -> Iterator[TransferRow]:
    chosen = np.flatnonzero((data.shop_of_customer == shop) & (data.new_customer == new_customers))
    place = np.full(len(data.items), -1, np.int64)
    place[candidates] = np.arange(len(candidates))
    truth = {customer: found for customer in chosen.tolist() if len(found := _truth(data, customer, place, not_met))}
    if not truth or len(candidates) <= K:
        return
    customers = np.array(list(truth), np.int64)
    relevant = list(truth.values())
    popular = np.argsort(-_popularity(data, shop)[candidates], kind="stable")[:K]
    answers = {"random": None, "popular": np.broadcast_to(popular, (len(customers), K))}
    past = Past.of(data, customers)
    answers["content mean, untrained"] = _nearest(past.content_means(data.content), data.content[candidates])
    for name, (model, vectors) in encoded.items():
        answers[name] = _nearest(past.queries(model, vectors), vectors[candidates])
    rng = np.random.default_rng(seed)
    draws = rng.integers(0, len(customers), (_RESAMPLES, len(customers)))
    for name, best in answers.items():
        if best is None:
            found = np.full(len(customers), K / len(candidates))
        else:
            found = np.array([np.isin(want, best[n]).mean() for n, want in enumerate(relevant)])
        low, high = np.quantile(found[draws].mean(axis=1), [0.025, 0.975])
        mean, low, high = (round(float(value), 5) for value in (found.mean(), low, high))
        yield TransferRow(data.shops[shop], asked, name, mean, low, high, len(customers), len(candidates))


def _truth(data: TransferData, customer: int, place: _Ints, not_met: bool) -> _Ints:
    """Places of the candidates that the customer met in the horizon, if there was a history before it."""
    histories = data.histories
    part = slice(int(histories.offsets[customer]), int(histories.offsets[customer + 1]))
    times, items = histories.occurred_at[part], data.item_of_event[part]
    before = times < 0
    if not before.any():
        return np.empty(0, np.int64)
    end = data.horizon[int(data.shop_of_customer[customer])] * MICROS_A_DAY
    after = np.unique(items[~before & (times < end)])
    if not_met:
        after = np.setdiff1d(after, items[before])
    places = place[after]
    return places[places >= 0]


def _popularity(data: TransferData, shop: int) -> _Ints:
    histories = data.histories
    recent = (histories.occurred_at < 0) & (histories.occurred_at >= -POPULAR_DAYS * MICROS_A_DAY)
    recent &= data.shop_of_customer[histories.customer_rows] == shop
    return np.bincount(data.item_of_event[recent], minlength=len(data.items))


def _nearest(queries: _Floats, vectors: _Floats) -> _Ints:
    """The K nearest rows of `vectors` for each query, by inner product: int64[m, K], in no order."""
    parts = [np.empty((0, K), np.int64)]
    for first in range(0, len(queries), _CHUNK):
        scores = queries[first : first + _CHUNK] @ vectors.T
        parts.append(np.argpartition(-scores, K, axis=1)[:, :K])
    return np.concatenate(parts)


@dataclass(frozen=True, eq=False)
class Past:
    """What some customers did last before the cut: rows of the items, log1p of days before the newest, a mask."""

    inputs: EncoderInput

    @classmethod
    def of(cls, data: TransferData, customers: _Ints) -> Past:
        names = [data.histories.customers[customer] for customer in customers.tolist()]
        states = [state for name in names if (state := data.histories.state(name, 0)) is not None]
        return cls(encoder_input(states, data.items.index))

    def queries(self, model: TwoTower, vectors: _Floats) -> _Floats:
        parts = []
        with torch.no_grad():
            for first in range(0, len(self.inputs.mask), _CHUNK):
                part = slice(first, first + _CHUNK)
                mask = self.inputs.mask[part]
                items = vectors[self.inputs.item_idx[part]] * mask[..., None]
                arrays = (torch.from_numpy(array) for array in (items, self.inputs.gaps[part], mask))
                parts.append(model.query_encoder(*arrays).numpy())
        return np.concatenate(parts)

    def content_means(self, content: _Floats) -> _Floats:
        weights = np.exp(-np.expm1(self.inputs.gaps) / _MEAN_DAYS) * self.inputs.mask
        parts = [
            np.einsum("bl,bld->bd", weights[i : i + _CHUNK], content[self.inputs.item_idx[i : i + _CHUNK]])
            for i in range(0, len(weights), _CHUNK)
        ]
        return np.concatenate(parts).astype(np.float32)
