"""Which customers are reported apart: by how much is known of them and by how long they have been away."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from streams.encoder import MICROS_A_DAY
from streams.histories import Histories

Mask = npt.NDArray[np.bool_]


def activity(
    histories: Histories, customers: Sequence[str], cut: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Events of each customer strictly before `cut` (microseconds), int64[n], and days since the newest, float64[n],
    inf without one. All events count, more than a state holds too."""
    counts = np.zeros(len(customers), np.int64)
    days = np.full(len(customers), np.inf)
    for n, customer in enumerate(customers):
        row = histories.row.get(customer)
        if row is None:
            continue
        start, end = int(histories.offsets[row]), int(histories.offsets[row + 1])
        counts[n] = np.searchsorted(histories.occurred_at[start:end], cut, side="left")
        if counts[n]:
            days[n] = (cut - histories.occurred_at[start + counts[n] - 1]) / MICROS_A_DAY
    return counts, days


def segments(counts: npt.NDArray[np.int64], days: npt.NDArray[np.float64]) -> dict[str, Mask]:
    """Masks bool[n] by name, in the order they are shown. `at most one event` holds the two before it; a customer of
    any other name belongs to one by number of events and to one by days since the last. Empty ones are left out."""
    known = counts > 0
    masks = {
        "no event": counts == 0,
        "one event": counts == 1,
        "at most one event": counts <= 1,
        "2-9 events": (counts >= 2) & (counts <= 9),
        "10-99 events": (counts >= 10) & (counts <= 99),
        "100+ events": counts >= 100,
        "seen in the last 7 days": known & (days <= 7),
        "last seen 8-28 days ago": known & (days > 7) & (days <= 28),
        "lapsed, last seen over 28 days ago": known & (days > 28),
    }
    return {name: mask for name, mask in masks.items() if mask.any()}
