"""Point-in-time ranking examples: at each cut the state, the statistics and the candidates of that moment, labelled by
what was bought in the horizon after it. Retrieval and features are the code that serves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from offline.build_statistics import build_statistics, item_column
from offline.progress import Step
from serving.features import FEATURES, FeatureBuilder
from serving.history import history_of
from serving.index import VectorIndex
from serving.items import ItemTable
from serving.pipeline import retrieve
from serving.retrieval.candidates import Query
from serving.runtime import Catalog
from streams.encoder import QueryEncoder
from streams.events import PURCHASE
from streams.histories import Histories

CHUNK = 256


@dataclass(frozen=True, eq=False)
class Examples:
    """features: float32[n, F] · bought: float32[n] 0/1 · spend: float32[n] log1p of the amount in the horizon ·
    group: int64[n] running number of (cut, customer)."""

    features: npt.NDArray[np.float32]
    bought: npt.NDArray[np.float32]
    spend: npt.NDArray[np.float32]
    group: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.bought)

    @classmethod
    def join(cls, parts: Sequence[Examples]) -> Examples:
        shift = np.cumsum([0, *(int(np.max(p.group)) + 1 if len(p) else 0 for p in parts)])
        return cls(
            np.concatenate([p.features for p in parts]),
            np.concatenate([p.bought for p in parts]),
            np.concatenate([p.spend for p in parts]),
            np.concatenate([p.group + shift[i] for i, p in enumerate(parts)]),
        )


def catalog_at(
    histories: Histories,
    items: ItemTable,
    segments: Mapping[str, str],
    cut: int,
    vectors: npt.NDArray[np.float32],
    encoder: QueryEncoder,
    index: VectorIndex | None = None,
) -> Catalog:
    """What a bundle built at `cut` would hold, without its ranker."""
    statistics = build_statistics(histories, items, dict(segments), cut)
    return Catalog(
        items=items,
        statistics=statistics,
        encoder=encoder,
        index=index or VectorIndex.build(vectors),
        features=FeatureBuilder(items, statistics, vectors),
        segments=dict(segments),
    )


def purchases_between(histories: Histories, items: ItemTable, start: int, end: int) -> dict[str, dict[int, float]]:
    """customer_id -> item_idx -> amount paid, for purchases in [start, end) microseconds."""
    column = item_column(histories, items)
    use = (
        (histories.occurred_at >= start) & (histories.occurred_at < end) & (histories.types == PURCHASE) & (column >= 0)
    )
    bought: dict[str, dict[int, float]] = {}
    amounts = np.nan_to_num(histories.prices[use], nan=0.0)
    for row, item, amount in zip(
        histories.customer_rows[use].tolist(), column[use].tolist(), amounts.tolist(), strict=True
    ):
        mine = bought.setdefault(histories.customers[row], {})
        mine[item] = mine.get(item, 0.0) + amount
    return bought


def build_examples(
    histories: Histories,
    catalog: Catalog,
    cut: int,
    horizon: int,
    progress: Step,
    *,
    limit: int,
    seed: int,
) -> Examples:
    """Examples of one cut, for the customers who have a past and bought something in the horizon.

    Args:
        horizon: microseconds after `cut` in which purchases count.
        limit: at most so many customers, drawn at random.
    """
    bought = purchases_between(histories, catalog.items, cut, cut + horizon)
    customers = sorted(bought)
    if len(customers) > limit:
        chosen = np.random.default_rng(seed).choice(len(customers), limit, replace=False)
        customers = [customers[i] for i in np.sort(chosen)]
    parts: list[npt.NDArray[np.float32]] = []
    labels: list[npt.NDArray[np.float32]] = []
    amounts: list[npt.NDArray[np.float32]] = []
    groups: list[npt.NDArray[np.int64]] = []
    for first in range(0, len(customers), CHUNK):
        chunk = customers[first : first + CHUNK]
        pairs = [(c, state) for c in chunk if (state := histories.state(c, cut)) is not None]
        vectors = catalog.encoder.encode([state for _, state in pairs])
        queries = [
            Query(
                history_of(state, catalog.items.index, cut),
                vector,
                catalog.statistics.segment_of(catalog.segments.get(customer)),
            )
            for (customer, state), vector in zip(pairs, vectors, strict=True)
        ]
        for (customer, _), query, found in zip(pairs, queries, retrieve(catalog.sources, queries), strict=True):
            mine = bought[customer]
            parts.append(catalog.features.build(query, found))
            paid = np.array([mine.get(item, -1.0) for item in found.item_idx.tolist()], np.float32)
            labels.append((paid >= 0).astype(np.float32))
            amounts.append(np.log1p(np.maximum(paid, 0)))
            groups.append(np.full(len(found), len(groups), np.int64))
        progress.advance(len(chunk))
    if not parts:
        nothing = np.empty(0, np.float32)
        return Examples(np.empty((0, len(FEATURES)), np.float32), nothing, nothing, np.empty(0, np.int64))
    return Examples(np.concatenate(parts), np.concatenate(labels), np.concatenate(amounts), np.concatenate(groups))
