"""How likely an article that nobody has bought yet is to be bought soon, by its kind: what training and serving share.

Offline the neighbours in the order of listing have their say as well (offline/content/debut.py). An article that came
after the bundle has none that the bundle knows, so its kind decides alone.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from serving.items import ItemTable
from serving.rhythm import NEVER
from serving.statistics import ItemStatistics

# Chosen on Complete Journey's cuts of 3 and 10 December and on H&M's of 19 September, before any test window.
WINDOW_DAYS = 28.0
PRIOR = 20.0  # articles' worth of the catalogue's own rate mixed into each group's
KIND = ("department", "subcategory", "brand")

Doubles = npt.NDArray[np.float64]


def debut_window(age: Doubles) -> float:
    """Days within which a first sale counts as a debut: WINDOW_DAYS, or two thirds of a log that is shorter. `age`:
    days since each article's first sale, nan where there was none."""
    return min(WINDOW_DAYS, float(np.nanmax(age)) * 2 / 3) if not np.isnan(age).all() else 0.0


def debut_of_kind(items: ItemTable, statistics: ItemStatistics, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """Relative chance of a first purchase of the articles `rows`, float32[len(rows)], above 0.

    Args:
        statistics: of the bundle, whose articles are the first rows of `items`.
    """
    n = len(statistics.debut)
    age = np.where(statistics.first_sold >= NEVER, np.nan, statistics.first_sold).astype(np.float64)
    debut = age <= debut_window(age)
    at_risk = debut | (statistics.debut > 0)
    if not debut.any():
        return np.ones(len(rows), np.float32)
    base = float(np.sum(debut)) / float(np.sum(at_risk))
    rates: dict[tuple[int, ...], float] = {}
    out = np.empty(len(rows), np.float32)
    for place, row in enumerate(rows.tolist()):
        kind = tuple(int(items.codes[name][row]) for name in KIND)
        if kind not in rates:
            alike = np.all([items.codes[name][:n] == code for name, code in zip(KIND, kind, strict=True)], axis=0)
            rates[kind] = (float(np.sum(debut[alike])) / base + PRIOR) / (float(np.sum(at_risk[alike])) + PRIOR)
        out[place] = rates[kind]
    return out
