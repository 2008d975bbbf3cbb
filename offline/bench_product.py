"""How well the two-tower alone finds what customers of the product's own data buy in the days after a cut.

Point-in-time as everywhere: the network is trained on events before the cut, states end there, the full catalogue is
searched exactly, and customers without a state count as misses.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import torch

from offline.build_statistics import build_items
from offline.event_log import EventLog
from offline.examples import purchases_between
from offline.histories import load_histories
from offline.metrics import average_precision, recall
from offline.models.two_tower import TwoTower
from offline.train_retrieval import ItemInputs, item_inputs, item_vectors
from serving.index import exact_search
from serving.items import ItemTable
from streams.encoder import EncoderInput, encoder_input
from streams.events import to_micros
from streams.histories import Histories

K = 100
CHUNK = 256


@dataclass(frozen=True, eq=False)
class ProductData:
    """All that is known at the cut (microseconds), and what each customer bought after it: customer_id -> item_idx."""

    histories: Histories
    items: ItemTable
    inputs: ItemInputs
    cut: int
    truth: dict[str, dict[int, float]]


def product_data(log: EventLog, cut: datetime, days: int) -> ProductData:
    histories = load_histories(log, cut)
    moment = to_micros(cut)
    items = ItemTable.from_table(build_items(log.articles(cut), histories, moment))
    later = load_histories(log, cut + timedelta(days=days))
    truth = purchases_between(later, items, moment, to_micros(cut + timedelta(days=days)))
    return ProductData(histories, items, item_inputs(items), moment, truth)


def judge(model: TwoTower, data: ProductData) -> dict[str, float]:
    """recall@100 and map@12 of the 100 articles nearest to each buyer's vector, means over all buyers."""
    vectors = item_vectors(model, data.inputs)
    customers = sorted(data.truth)
    states = [data.histories.state(customer, data.cut) for customer in customers]
    known = [n for n, state in enumerate(states) if state is not None]
    inputs = encoder_input([state for state in states if state is not None], data.items.index)
    hits = np.zeros((len(customers), min(K, len(vectors))), np.bool_)
    for first in range(0, len(known), CHUNK):
        queries = encode(model, vectors, inputs, slice(first, first + CHUNK))
        nearest = exact_search(vectors, queries, hits.shape[1])
        for n, articles in zip(known[first : first + CHUNK], nearest, strict=True):
            hits[n] = np.isin(articles, list(data.truth[customers[n]]))
    bought = [len(data.truth[customer]) for customer in customers]
    found, precise = recall(hits, bought, K).mean(), average_precision(hits, bought).mean()
    return {f"recall@{K}": round(float(found), 5), "map@12": round(float(precise), 5)}


def encode(model: TwoTower, vectors: np.ndarray, inputs: EncoderInput, part: slice) -> np.ndarray:
    """Unit rows float32[n, dim] of the states of `part`, zero for a state without any known article."""
    mask = torch.from_numpy(inputs.mask[part])
    items = torch.from_numpy(vectors[inputs.item_idx[part]]) * mask.unsqueeze(-1)
    with torch.no_grad():
        found = model.query_encoder(items, torch.from_numpy(inputs.gaps[part]), mask)
    return np.asarray((found * (mask.sum(dim=1, keepdim=True) > 0)).numpy(), np.float32)
