"""What is known of all events of a customer together, those beyond the window included.

Sums of integers, least and greatest: the order in which events are counted changes nothing. That each is counted once
is up to whoever counts (`streams.state.fold`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from streams.columns import Prices, Quantities, Times, Types
from streams.events import EVENT_TYPES, MAX_PRICE

MICROS = 1_000_000  # of the shop's currency
# Sums stop here instead of growing beyond 64 bits; a sum of what is not negative stops at the same in any order.
LIMIT = 2**63 - 1

ByType = tuple[int, ...]
_NONE: ByType = (0,) * len(EVENT_TYPES)


@dataclass(frozen=True, slots=True)
class Totals:
    """By type, in the order of EVENT_TYPES: `counts` of events, `pieces` (quantities), `spent` micro-units of the
    currency in events whose price is known. `first`, `last`: microseconds, None without events."""

    counts: ByType = _NONE
    pieces: ByType = _NONE
    spent: ByType = _NONE
    first: int | None = None
    last: int | None = None

    def __len__(self) -> int:
        return sum(self.counts)

    def __add__(self, other: Totals) -> Totals:
        if other.first is None or other.last is None:
            return self
        if self.first is None or self.last is None:
            return other
        return Totals(
            _sum(self.counts, other.counts),
            _sum(self.pieces, other.pieces),
            _sum(self.spent, other.spent),
            min(self.first, other.first),
            max(self.last, other.last),
        )

    def by_type(self) -> dict[str, dict[str, float]]:
        """What people read: events, pieces and the sum of known prices of each type that occurred."""
        rows = zip(EVENT_TYPES, self.counts, self.pieces, self.spent, strict=True)
        return {
            name: {"events": count, "pieces": pieces, "spent": spent / MICROS}
            for name, count, pieces, spent in rows
            if count
        }


NO_TOTALS = Totals()


def totals_of(occurred_at: Times, types: Types, prices: Prices, quantities: Quantities) -> Totals:
    """Count the columns of a state (equal lengths, `occurred_at` ascending)."""
    if not len(occurred_at):
        return NO_TOTALS
    rows = [types == code for code in range(len(EVENT_TYPES))]
    paid = price_micros(prices)
    return Totals(
        tuple(int(np.count_nonzero(row)) for row in rows),
        tuple(int(quantities[row].sum(dtype=np.int64)) for row in rows),
        tuple(_exact_sum(paid[row]) for row in rows),
        int(occurred_at[0]),
        int(occurred_at[-1]),
    )


def price_micros(prices: Prices) -> npt.NDArray[np.int64]:
    """float32[n] prices as int64[n] micro-units, 0 where unknown.

    States keep prices as float32. Where that is the float32 of whole cents, those cents are meant: 19.99 is
    19,990,000, not the 19,989,999.77 that float32 makes of it. Exact to the cent up to 131,072.00.
    """
    known = np.clip(np.nan_to_num(prices, nan=0.0, posinf=MAX_PRICE), 0.0, MAX_PRICE).astype(np.float32)
    cents = np.rint(known.astype(np.float64) * 100.0)
    whole = (cents / 100.0).astype(np.float32) == known
    return np.where(whole, cents * (MICROS // 100), np.rint(known.astype(np.float64) * MICROS)).astype(np.int64)


def _exact_sum(micros: npt.NDArray[np.int64]) -> int:
    """Without overflow: the halves of 32 bits are summed apart."""
    high, low = int((micros >> 32).sum()), int((micros & 0xFFFFFFFF).sum())
    return min(LIMIT, (high << 32) + low)


def _sum(one: ByType, other: ByType) -> ByType:
    return tuple(min(LIMIT, a + b) for a, b in zip(one, other, strict=True))
