"""Who would choose what on a day: the true probabilities of the synthetic world.

An article is chosen step by step: department, garment, style, price band, colour, then one of the articles that
share all five. At each step a value's weight is the customer's taste for it times the demand for all that is on
sale below it; among articles alike the demand decides. So every probability is a product of six known shares,
exact, and a draw costs some fifty multiplications however large the catalogue is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from offline.world.catalogue import Catalogue
from offline.world.customers import Customers
from offline.world.seasons import colour_seasons, garment_seasons
from offline.world.vocabulary import BANDS, COLOURS, DEPARTMENTS, GARMENTS, STYLES

_Indices = npt.NDArray[np.int64]
_Numbers = npt.NDArray[np.float64]

SHAPE = (len(DEPARTMENTS), len(GARMENTS), len(STYLES), len(BANDS), len(COLOURS))
_NOVELTY, _NOVELTY_DAYS = 1.5, 30.0
_ELASTICITY = 1.5
# Shares of an article's time on sale after which its price drops, and to what part of the full one.
MARKDOWNS = ((0.6, 0.75), (0.8, 0.5))
_STAYS_DAYS = 300  # what is on sale for longer is never marked down


@dataclass(frozen=True)
class DayDemand:
    """One day of the shop.

    Attributes:
        demand: float64[a], 0 for what is not on sale.
        price: float64[a], today's.
        levels: five float64 arrays; levels[k] has the first k+1 axes of SHAPE and sums the demand below.
    """

    day: int
    demand: _Numbers
    price: _Numbers
    levels: tuple[_Numbers, ...]
    _cell: _Indices  # int64[a]
    _order: _Indices  # articles sorted by cell
    _before: _Numbers  # float64[a+1], running demand in that order
    _starts: _Indices  # int64[cells+1], into `_order`

    @property
    def on_sale(self) -> npt.NDArray[np.bool_]:
        return self.demand > 0

    def choose(self, customers: Customers, who: _Indices, rng: np.random.Generator) -> _Indices:
        """One article for each of `who` by the true probabilities: int64[m]."""
        chosen = np.zeros(len(who), np.int64)
        for supply, taste in zip(self.levels, customers.tastes, strict=True):
            weights = supply.reshape(-1, supply.shape[-1])[chosen] * taste[who]
            chosen = chosen * supply.shape[-1] + pick(weights, rng)
        return self._within(chosen, rng)

    def bestseller(self, n: int, rng: np.random.Generator) -> _Indices:
        """n articles in proportion to the demand: int64[n]."""
        return self._at(rng.random(n) * self._before[-1], np.zeros(n, np.int64), np.full(n, len(self._order)))

    def probability(self, customers: Customers, who: _Indices, articles: _Indices) -> _Numbers:
        """The chance that customer who[i] chooses articles[i]: float64[m]."""
        chance = self.demand[articles] / self._cell_demand(articles)
        above = np.zeros(len(who), np.int64)
        path = np.unravel_index(self._cell[articles], SHAPE)
        rows = np.arange(len(who))
        for supply, taste, value in zip(self.levels, customers.tastes, path, strict=True):
            weights = supply.reshape(-1, supply.shape[-1])[above] * taste[who]
            total = weights.sum(axis=1)
            chance = chance * np.divide(weights[rows, value], total, out=np.zeros_like(total), where=total > 0)
            above = above * supply.shape[-1] + value
        return np.asarray(chance, np.float64)

    def probabilities(self, customers: Customers, who: _Indices) -> _Numbers:
        """The same for all articles: float64[m, a]; each row sums to 1."""
        n = len(who)
        chance = np.ones((n, 1))
        for supply, taste in zip(self.levels, customers.tastes, strict=True):
            weights = supply.reshape(1, -1, supply.shape[-1]) * taste[who][:, None, :]
            total = weights.sum(axis=2, keepdims=True)
            shares = np.divide(weights, total, out=np.zeros_like(weights), where=total > 0)
            chance = (chance[:, :, None] * shares).reshape(n, -1)
        return np.asarray(chance[:, self._cell] * (self.demand / self._cell_demand(np.arange(len(self.demand)))))

    def _cell_demand(self, articles: _Indices) -> _Numbers:
        below = self.levels[-1].reshape(-1)[self._cell[articles]]
        return np.where(below > 0, below, 1.0)

    def _within(self, cells: _Indices, rng: np.random.Generator) -> _Indices:
        starts, ends = self._starts[cells], self._starts[cells + 1]
        low, high = self._before[starts], self._before[ends]
        return self._at(low + rng.random(len(cells)) * (high - low), starts, ends)

    def _at(self, targets: _Numbers, starts: _Indices, ends: _Indices) -> _Indices:
        # Rounding must not lead out of the range, nor to an article of no demand at its end.
        targets = np.minimum(targets, np.nextafter(self._before[ends], 0))
        places = np.clip(np.searchsorted(self._before, targets, side="right") - 1, starts, ends - 1)
        return self._order[places]


def pick(weights: _Numbers, rng: np.random.Generator) -> _Indices:
    """One column for each row, with probability in proportion to the weights: int64[m]."""
    edges = np.cumsum(weights, axis=1)
    targets = rng.random((len(weights), 1)) * edges[:, -1:]
    return np.asarray(np.minimum((edges <= targets).sum(axis=1), weights.shape[1] - 1), np.int64)


class Demand:
    """Makes the `DayDemand` of any day of a catalogue."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        c = catalogue
        self._cell = np.ravel_multi_index((c.department, c.garment, c.style, c.band, c.colour), SHAPE)
        self._order = np.argsort(self._cell, kind="stable")
        self._starts = np.searchsorted(self._cell[self._order], np.arange(int(np.prod(SHAPE)) + 1))

    def on(self, day: int) -> DayDemand:
        """Demand, prices and shares of one day."""
        c = self.catalogue
        part = self._price_part(day)
        demand = (
            c.appeal
            * (0.5 + _NOVELTY * np.exp(-np.maximum(day - c.launch, 0) / _NOVELTY_DAYS))
            * garment_seasons([day])[0][c.garment]
            * colour_seasons([day])[0][c.colour]
            * part**-_ELASTICITY
            * ((c.launch <= day) & (day < c.end))
        )
        before = np.concatenate([[0.0], np.cumsum(demand[self._order])])
        supply = np.diff(before[self._starts]).reshape(SHAPE)
        levels = [supply]
        while levels[0].ndim > 1:
            levels.insert(0, levels[0].sum(axis=-1))
        price = np.round(c.price * part, 2)
        return DayDemand(day, demand, price, tuple(levels), self._cell, self._order, before, self._starts)

    def _price_part(self, day: int) -> _Numbers:
        c = self.catalogue
        life = c.end - c.launch
        passed = (day - c.launch) / life
        part = np.ones(len(c))
        for share, reduced in MARKDOWNS:
            part[(passed >= share) & (life <= _STAYS_DAYS)] = reduced
        return part
