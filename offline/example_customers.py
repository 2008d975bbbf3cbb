"""A few customers to look at: what they bought, what `full` shows them, and what they then did."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from offline.contenders import Asked, Contender
from offline.truth import Truth
from serving.items import ItemTable
from serving.messages import RecommendationRequest
from streams.encoder import MICROS_A_DAY
from streams.events import PURCHASE
from streams.store import StoredCustomer

# Drawn at random from each segment, never chosen by how well they are served.
DRAWN = {"100+ events": 2, "10-99 events": 2, "2-9 events": 2, "one event": 1, "no event": 1}
LENGTH = 12


def example_customers(
    full: Contender,
    asked: Asked,
    truth: Truth,
    cut: int,
    masks: Mapping[str, npt.NDArray[np.bool_]],
    seed: int,
) -> list[dict[str, Any]]:
    """customer, segment, history (newest first, days before the cut), recommended (with source, and whether it was
    bought), bought (how many articles in the window)."""
    rng = np.random.default_rng(seed)
    items = full.pipeline.runtime.items
    examples = []
    for segment, n in DRAWN.items():
        rows = np.flatnonzero(masks.get(segment, np.empty(0, np.bool_)))
        for row in sorted(rng.choice(rows, min(n, len(rows)), replace=False).tolist()):
            customer, stored = truth.customers[row], asked.stored[row]
            request = RecommendationRequest(request_id=customer, customer_id=customer, k=LENGTH)
            (answer,) = full.pipeline.recommend([request], [stored])
            places = np.array([items.index[item.article_id] for item in answer.items], np.int64)
            examples.append(
                {
                    "customer": customer,
                    "segment": segment,
                    "history": _history(stored, items, cut),
                    "recommended": [
                        _about(items, item.article_id) | {"source": item.source, "bought": bool(hit)}
                        for item, hit in zip(answer.items, truth.bought(row, places), strict=True)
                    ],
                    "bought": int(truth.relevant[row]),
                }
            )
    return examples


def _history(stored: StoredCustomer | None, items: ItemTable, cut: int) -> list[dict[str, Any]]:
    if stored is None:
        return []
    state = stored.state
    newest = np.flatnonzero(state.types == PURCHASE)[::-1][:LENGTH].tolist()
    return [
        _about(items, state.article_ids[n]) | {"days_ago": round((cut - int(state.occurred_at[n])) / MICROS_A_DAY, 1)}
        for n in newest
    ]


def _about(items: ItemTable, article_id: str) -> dict[str, Any]:
    known = items.describe(article_id)
    return {name: known[name] for name in ("article_id", "title", "category")}
