"""What of a catalogue can be had now, and for how much: laid over a bundle at the moment of an answer.

The live price decides what a price filter lets through and is what an answer says. Rank features keep the price that
the bundle learned with: the ranker has learned what a usual price tells, and never saw one that changed since.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from serving.items import ItemTable


@dataclass(frozen=True, eq=False)
class Shelf:
    """Over the rows of an ItemTable: available: bool[n] · prices: float32[n], nan where unknown."""

    available: npt.NDArray[np.bool_]
    prices: npt.NDArray[np.float32]

    @classmethod
    def of(cls, items: ItemTable) -> Shelf:
        """Everything, at the bundle's price: what holds for an article of which no message tells."""
        return cls(np.ones(len(items), np.bool_), items.prices)

    def price(self, row: int) -> float | None:
        price = float(self.prices[row])
        return None if np.isnan(price) else round(price, 4)
