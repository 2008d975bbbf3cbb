"""The synthetic world's impressions: propensities are known, and so is what any policy is truly worth.

The reward is the view. A visitor's chance of it is a function of customer, article, day and place that the world knows
(`offline.world.simulation.view_chance`), so the true value of a target is the mean of the true chances of what it would
have shown to the same visitors in the same places: no sampling error but in the estimate.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from offline.counterfactual.log import Flags, Floats, Ints, Log
from offline.counterfactual.shown import Names, Shown, as_log
from offline.counterfactual.targets import Shares
from offline.world.customers import Customers
from offline.world.demand import DayDemand
from offline.world.files import read_world
from offline.world.settings import FIRST_DAY
from offline.world.simulation import World, place_factor, view_chance
from streams.events import to_micros

_DAY = 86_400_000_000
_PAIRS = 256  # customers at a time: with 10,000 articles 20 MB a matrix


class ShownWorld:
    """A written world's impressions since a moment, and the world itself made again.

    Attributes:
        shown: the impressions · reward: whether each was viewed, float64[n].
    """

    def __init__(self, directory: Path, since: int) -> None:
        self.world = World(read_world(directory).size)
        file = directory / "impressions.parquet"
        moment = pa.scalar(since, pa.int64()).cast(pa.timestamp("us", tz="UTC"))
        table = pq.read_table(file, filters=pc.field("occurred_at") >= moment)
        self.name = file.name
        self.shown = Shown(
            request=_names(table["request_id"]),
            customer=_names(table["customer_id"]),
            article=_names(table["article_id"]),
            position=np.asarray(table["position"].to_numpy(), np.int64),
            propensity=np.asarray(table["propensity"].to_numpy(), np.float64),
            shown_at=np.asarray(table["occurred_at"].cast(pa.int64()).to_numpy(), np.int64),
        )
        self.reward = np.asarray(table["viewed"].cast(pa.float64()).to_numpy(), np.float64)
        self._ids = np.array(self.world.catalogue.ids.to_pylist(), np.object_)
        self._day = (self.shown.shown_at - to_micros(FIRST_DAY)) // _DAY
        self._days, self._group = np.unique(self._day, return_inverse=True)
        self._customer = np.array([int(name[1:]) for name in self.shown.customer.tolist()], np.int64)

    def log(self) -> Log:
        """The log over the whole catalogue."""
        return as_log(self.shown, self.reward, self.name, self._ids)

    def shares(self, target: str) -> Shares:
        """`even`: each article on sale that day with the same chance · `demand`: in proportion to the day's demand ·
        `taste`: as the visitor chooses among all, which only the world can know."""
        rows: list[Floats] = []
        group, held = np.empty(len(self.shown), np.int64), 0
        for number, day in enumerate(self._days.tolist()):
            visits = self._group == number
            who, row = np.unique(self._customer[visits], return_inverse=True)
            share = _share(self.world.demand.on(int(day)), self.world.customers, who, target)
            group[visits] = held + (row if len(share) == len(who) else 0)
            rows.append(share)
            held += len(share)
        return Shares(np.concatenate(rows), group)

    def true_value(self, target: str) -> float:
        """The mean reward that the shares of a target would have had."""
        total = 0.0
        for number, day in enumerate(self._days.tolist()):
            demand = self.world.demand.on(int(day))
            rows = self._group == number
            who, row = np.unique(self._customer[rows], return_inverse=True)
            # The chance is one of customer and article times one of the place: the first once for each customer.
            parts = [self._mean_chance(demand, who[i : i + _PAIRS], target) for i in range(0, len(who), _PAIRS)]
            total += float((np.concatenate(parts)[row] * place_factor(self.shown.position[rows])).sum())
        return total / len(self.shown)

    def true_value_of(self, listed: Names) -> float:
        """The mean reward that showing listed[i] (object[n], "" for nothing) in row i's place would have had."""
        place = {name: number for number, name in enumerate(self._ids.tolist())}
        article = np.array([place.get(name, -1) for name in listed.tolist()], np.int64)
        chance = np.zeros(len(article))
        for number, day in enumerate(self._days.tolist()):
            demand = self.world.demand.on(int(day))
            rows: Flags = (self._group == number) & (article >= 0)
            rows[rows] = demand.on_sale[article[rows]]
            chance[rows] = view_chance(
                demand, self.world.customers, self._customer[rows], article[rows], self.shown.position[rows]
            )
        return float(chance.mean())

    def _mean_chance(self, demand: DayDemand, who: Ints, target: str) -> Floats:
        """The chance at the first place of what the target shows each customer, on average: float64[m]."""
        on_sale = np.flatnonzero(demand.on_sale)
        customer, article = np.repeat(who, len(on_sale)), np.tile(on_sale, len(who))
        chance = view_chance(demand, self.world.customers, customer, article, np.zeros(len(customer), np.int64))
        share = _share(demand, self.world.customers, who, target)[:, on_sale]
        return np.asarray((chance.reshape(len(who), len(on_sale)) * share).sum(axis=1), np.float64)


def _share(demand: DayDemand, customers: Customers, who: Ints, target: str) -> Floats:
    """float64[m, articles], one row for all of `who` where the target makes no difference between them."""
    if target == "taste":
        return demand.probabilities(customers, who)
    weight = demand.on_sale.astype(np.float64) if target == "even" else demand.demand
    return np.asarray(weight / weight.sum(), np.float64)[None]


def _names(column: pa.ChunkedArray) -> Names:
    return np.asarray(column.to_numpy(zero_copy_only=False), np.object_)
