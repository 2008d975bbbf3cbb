"""A customer's events as arrays, bounded by `as_of`: the one place where point-in-time is enforced for requests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from streams.encoder import MICROS_A_DAY
from streams.events import CART, EVENT_TYPES, PURCHASE, VIEW
from streams.state import CustomerState

DECAY_DAYS = 60.0
NO_KEYS = np.empty(0, np.uint64)
Interest = tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]  # articles ascending, and how much they interest
# What an act says of interest, by type code. Where there are only purchases these weights change nothing.
INTEREST = np.zeros(len(EVENT_TYPES))
INTEREST[[PURCHASE, CART, VIEW]] = 1.0, 0.5, 0.2


@dataclass(frozen=True, eq=False)
class History:
    """Events of known articles before `as_of` (microseconds), oldest first.

    Purchases: item_idx int64[n] · ages float64[n] days before as_of · prices float32[n] per piece, nan where unknown.
    By article: items int64[m] ascending; first/last age in days, count, decayed count (exp(-age/60 d)).
    All acts, purchases among them: acts int64[a] item_idx · act_ages float64[a] · act_types uint8[a].
    earlier: uint64[e] ascending, keys of the articles bought before all of these, of which nothing else is known.
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
    acts: npt.NDArray[np.int64]
    act_ages: npt.NDArray[np.float64]
    act_types: npt.NDArray[np.uint8]
    earlier: npt.NDArray[np.uint64]
    _interest: dict[float, Interest] = field(default_factory=dict, init=False, repr=False)

    def __len__(self) -> int:
        return len(self.item_idx)

    @cached_property
    def place(self) -> npt.NDArray[np.int64]:
        """Where each purchase's article stands in `items`, int64[n]."""
        return np.searchsorted(self.items, self.item_idx)

    def interest(self, days: float) -> Interest:
        """Articles acted on, ascending, and how much they interest: sum over acts of weight x exp(-age / days).
        Computed once; not to be written to."""
        known = self._interest.get(days)
        if known is None:
            items, inverse = self.acted
            weights = INTEREST[self.act_types] * np.exp(-self.act_ages / days)
            known = items, np.bincount(inverse, weights=weights, minlength=len(items)).astype(np.float64, copy=False)
            self._interest[days] = known
        return known

    @cached_property
    def acted(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """The articles of all acts, int64[m] ascending, and where each act's stands among them, int64[a]."""
        return np.unique(self.acts, return_inverse=True)


def history_of(state: CustomerState | None, index: Mapping[str, int], as_of: int) -> History:
    """View a state strictly before `as_of` (microseconds since 1970).

    Args:
        index: article_id -> item_idx; events of articles the bundle does not know are left out.
    """
    if state is None:
        rows, days = np.empty(0, np.int64), np.empty(0)
        prices, types = np.empty(0, np.float32), np.empty(0, np.uint8)
        return History(as_of, rows, days, prices, rows, days, days, days, days, rows, days, types, NO_KEYS)
    end = int(np.searchsorted(state.occurred_at, as_of, side="left"))
    acts = np.array([index.get(article, -1) for article in state.article_ids[:end]], np.int64)
    known = acts >= 0
    acts, types = acts[known], state.types[:end][known]
    act_ages = (as_of - state.occurred_at[:end][known]) / MICROS_A_DAY
    bought = types == PURCHASE
    item_idx, ages = acts[bought], act_ages[bought]
    prices = (state.prices[:end] / np.maximum(state.quantities[:end], 1))[known][bought]
    items, inverse = np.unique(item_idx, return_inverse=True)
    first_age = np.zeros(len(items))
    last_age = np.full(len(items), np.inf)
    np.maximum.at(first_age, inverse, ages)
    np.minimum.at(last_age, inverse, ages)
    count = np.bincount(inverse, minlength=len(items)).astype(np.float64)
    decayed = np.bincount(inverse, weights=np.exp(-ages / DECAY_DAYS), minlength=len(items)).astype(np.float64)
    return History(
        as_of,
        item_idx,
        ages,
        prices.astype(np.float32),
        items,
        first_age,
        last_age,
        count,
        decayed,
        acts,
        act_ages,
        types,
        NO_KEYS if state.past is None or not end else state.past.bought,
    )
