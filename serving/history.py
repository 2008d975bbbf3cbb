"""A customer's purchases as arrays, bounded by `as_of`: the one place where point-in-time is enforced for requests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from streams.encoder import MICROS_A_DAY
from streams.events import PURCHASE
from streams.state import CustomerState

DECAY_DAYS = 60.0


@dataclass(frozen=True, eq=False, slots=True)
class History:
    """Purchases of known articles before `as_of`, oldest first.

    item_idx: int64[n] · ages: float64[n] days before as_of · prices: float32[n] per piece, nan where unknown ·
    as_of: microseconds.

    And the same by article: items int64[m] ascending; first/last age in days, count, decayed count (exp(-age/60 d)).
    """

    as_of: int
    item_idx: npt.NDArray[np.int64]
    ages: npt.NDArray[np.float64]
    prices: npt.NDArray[np.float32]
    items: npt.NDArray[np.int64]
    first_age: npt.NDArray[np.float64]
    last_age: npt.NDArray[np.float64]
    count: npt.NDArray[np.float64]
    decayed: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.item_idx)


def history_of(state: CustomerState | None, index: Mapping[str, int], as_of: int) -> History:
    """View a state strictly before `as_of` (microseconds since 1970).

    Args:
        index: article_id -> item_idx; purchases of articles the bundle does not know are left out.
    """
    if state is None:
        none = np.empty(0)
        return History(as_of, np.empty(0, np.int64), none, np.empty(0, np.float32), np.empty(0, np.int64), *[none] * 4)
    end = int(np.searchsorted(state.occurred_at, as_of, side="left"))
    item_idx = np.array([index.get(article, -1) for article in state.article_ids[:end]], np.int64)
    keep = (item_idx >= 0) & (state.types[:end] == PURCHASE)
    item_idx = item_idx[keep]
    ages = (as_of - state.occurred_at[:end][keep]) / MICROS_A_DAY
    prices = state.prices[:end][keep] / np.maximum(state.quantities[:end][keep], 1)
    items, inverse = np.unique(item_idx, return_inverse=True)
    first_age = np.zeros(len(items))
    last_age = np.full(len(items), np.inf)
    np.maximum.at(first_age, inverse, ages)
    np.minimum.at(last_age, inverse, ages)
    count = np.bincount(inverse, minlength=len(items)).astype(np.float64)
    decayed = np.bincount(inverse, weights=np.exp(-ages / DECAY_DAYS), minlength=len(items)).astype(np.float64)
    return History(as_of, item_idx, ages, prices.astype(np.float32), items, first_age, last_age, count, decayed)
