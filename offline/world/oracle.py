"""The best answer that the synthetic world allows, for scoring models against it.

It knows the tastes, the rhythms, what was bought before and what will be on sale; it does not know the dice. Its
probabilities are exact for the customer's next buying visit: the mean over the days of the horizon of what would be
bought on each, weighted by the chance that the visit falls on it, given the days since the last one.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from offline.world.customers import visit_chances
from offline.world.demand import DayDemand
from offline.world.simulation import Simulation

_Indices = npt.NDArray[np.int64]
_Numbers = npt.NDArray[np.float64]

HORIZON = 7
_CHUNK = 128


class Oracle:
    """Answers from where `simulation` stands now: of its `day` and after nothing has happened yet."""

    def __init__(self, simulation: Simulation) -> None:
        self.world = simulation.world
        self.histories = simulation.histories
        self.day = simulation.day
        self._demands: dict[int, DayDemand] = {}

    def probabilities(self, who: _Indices, horizon: int = HORIZON) -> _Numbers:
        """The chance of each article to be a given piece of the next visit, if that is within `horizon` days:
        float64[m, a], rows sum to 1."""
        gaps = self.day + np.arange(horizon) - self.histories.last_visit[who][:, None]
        chances = visit_chances(self.world.customers.visit_days[who][:, None], gaps)
        total = chances.sum(axis=1, keepdims=True)
        # New customers, and those who are long overdue, may come on any day.
        weights = np.where(total > 1e-9, chances / np.maximum(total, 1e-9), 1 / horizon)
        return np.asarray(
            sum(weights[:, [ahead]] * self.on_day(who, self.day + ahead) for ahead in range(horizon)), np.float64
        )

    def on_day(self, who: _Indices, day: int) -> _Numbers:
        """The chance of each article to be a given piece of a visit on `day`: float64[m, a], rows sum to 1."""
        demand = self._demands.setdefault(day, self.world.demand.on(day))
        customers, catalogue = self.world.customers, self.world.catalogue
        due = self.histories.due(customers, catalogue, who, day, demand.on_sale)
        repeat = self.histories.again(customers, due, who)[:, None]
        chances = demand.probabilities(customers, who) * (1 - repeat)
        total = due.sum(axis=1, keepdims=True)
        shares = np.divide(due, total, out=np.zeros_like(due), where=total > 0)
        rows = np.repeat(np.arange(len(who)), due.shape[1])
        np.add.at(chances, (rows, self.histories.articles[who].ravel()), (repeat * shares).ravel())
        return chances

    def best(self, who: _Indices, k: int, horizon: int = HORIZON) -> tuple[_Indices, _Numbers]:
        """The k articles with the highest chance, best first, and the chances: int64[m, k], float64[m, k]."""
        k = min(k, len(self.world.catalogue))
        articles, chances = np.empty((len(who), k), np.int64), np.empty((len(who), k))
        for first in range(0, len(who), _CHUNK):
            part = self.probabilities(who[first : first + _CHUNK], horizon)
            # Equal chances in the order of the articles, so that an answer is one and the same everywhere.
            order = np.argsort(-part, axis=1, kind="stable")[:, :k]
            articles[first : first + len(part)] = order
            chances[first : first + len(part)] = np.take_along_axis(part, order, axis=1)
        return articles, chances
