"""What each customer of the synthetic world bought last, and what is due to be bought again."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from offline.world.catalogue import Catalogue
from offline.world.customers import Customers
from offline.world.vocabulary import GARMENTS

_Indices = npt.NDArray[np.int64]

REMEMBERED = 8
_WIDTH = 0.3  # of the customer's own time: how sharply a repeat is due around it
_NEVER = np.iinfo(np.int32).min // 2


class Histories:
    """The last REMEMBERED pieces of each customer, 64 bytes each, and the day of the last visit."""

    def __init__(self, n: int) -> None:
        self.articles = np.full((n, REMEMBERED), -1, np.int32)
        self.bought = np.full((n, REMEMBERED), _NEVER, np.int32)
        self.last_visit = np.full(n, _NEVER, np.int32)
        self._next = np.zeros(n, np.int8)

    def add(self, who: _Indices, articles: _Indices, day: int) -> None:
        """Remember bought pieces, customers in any order with all pieces of a day in one call."""
        order = np.argsort(who, kind="stable")
        who, articles = who[order], articles[order]
        first = np.flatnonzero(np.diff(who, prepend=-1))
        number = np.arange(len(who)) - np.repeat(first, np.diff(first, append=len(who)))
        for turn in range(int(np.max(number)) + 1 if len(number) else 0):
            now = number == turn
            rows, place = who[now], self._next[who[now]]
            self.articles[rows, place] = articles[now]
            self.bought[rows, place] = day
            self._next[rows] = (place + 1) % REMEMBERED
        self.last_visit[who] = day

    def due(
        self, customers: Customers, catalogue: Catalogue, who: _Indices, day: int, on_sale: npt.NDArray[np.bool_]
    ) -> npt.NDArray[np.float64]:
        """Weights float64[m, REMEMBERED] of buying each remembered piece again: highest one own rhythm later."""
        articles = self.articles[who]
        known = (articles >= 0) & (self.bought[who] < day)
        age = np.where(known, day - self.bought[who], 0)
        own = customers.again_days[who][:, None]
        again = np.array([garment.replenish for garment in GARMENTS])[catalogue.garment[articles]]
        weights = again * np.exp(-0.5 * ((age - own) / (_WIDTH * own)) ** 2)
        return np.where(known & on_sale[articles], weights, 0.0)

    def again(self, customers: Customers, weights: npt.NDArray[np.float64], who: _Indices) -> npt.NDArray[np.float64]:
        """The chance float64[m] that the next piece is a repeat: the customer's share, less where little is due."""
        total = weights.sum(axis=1)
        return np.asarray(customers.again_share[who] * total / (total + 0.2), np.float64)
