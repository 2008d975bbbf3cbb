"""Plays the synthetic world day by day: visits, purchases, slates that were shown, views.

Two kinds of visit: buying ones, on each customer's own rhythm, and browsing ones in between. Every visit shows a
slate drawn by the logging policy, whose propensities are logged; a shown article is viewed with a known probability
that falls with the position and grows with the customer's taste. What is shown does not change what is bought, so
the best answer does not depend on the policy; the reward that off-policy evaluation can learn from is the view.

Memory: the catalogue, the customers (some 300 bytes each) and one day.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from offline.world.catalogue import make_catalogue
from offline.world.customers import Customers, make_customers, next_visits
from offline.world.demand import DayDemand, Demand, pick
from offline.world.history import Histories
from offline.world.settings import WorldSize, generator

_Indices = npt.NDArray[np.int64]
_Numbers = npt.NDArray[np.float64]

SLATE = 6
UNIFORM = 0.3  # the logging policy's share of plain chance; the rest follows the demand
BROWSING = 2.0  # browsing visits for each buying one
_CHUNK = 16_384
_MOST_PIECES = 12
_LAST_SECOND = 86_399


class World:
    """Catalogue, customers and demand of one size and seed."""

    def __init__(self, size: WorldSize) -> None:
        self.size = size
        self.catalogue = make_catalogue(size)
        self.customers = make_customers(size)
        self.demand = Demand(self.catalogue)


@dataclass(frozen=True)
class Purchases:
    """Pieces bought on one day, in time order; `channel` is 1 in a store and 2 online, `second` that of the day."""

    customer: _Indices
    article: _Indices
    price: _Numbers
    channel: npt.NDArray[np.int8]
    second: _Indices


@dataclass(frozen=True)
class Impressions:
    """Shown articles of one day. `propensity` is the policy's chance of this article at this position;
    `view_probability` is the truth that no model may see."""

    visit: _Indices
    customer: _Indices
    article: _Indices
    position: _Indices
    propensity: _Numbers
    view_probability: _Numbers
    viewed: npt.NDArray[np.bool_]
    second: _Indices


@dataclass(frozen=True)
class Views:
    """Articles looked at on one day, in time order; `source` is 0 from a slate, 1 by browsing, 2 before buying."""

    customer: _Indices
    article: _Indices
    source: npt.NDArray[np.int8]
    second: _Indices


@dataclass(frozen=True)
class Day:
    """All that happened on one day; without views, nothing but the purchases."""

    day: int
    purchases: Purchases
    impressions: Impressions | None
    views: Views | None


class Simulation:
    """The world in motion. `histories` and `day` are where it stands: `day` has not happened yet."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.day = 0
        self.histories = Histories(world.size.customers)
        self._next_visit = world.customers.first_visit.copy()

    def run(self, until: int, *, with_views: bool = True) -> Iterator[Day]:
        """Play up to, and without, the day `until`. Purchases are the same with views and without."""
        while self.day < min(until, self.world.size.days):
            demand = self.world.demand.on(self.day)
            who = np.flatnonzero(self._next_visit == self.day)
            purchases, started = self._buy(demand, who)
            impressions, views = self._browse(demand, who, started, purchases) if with_views else (None, None)
            self.day += 1
            yield Day(self.day - 1, purchases, impressions, views)

    def _buy(self, demand: DayDemand, who: _Indices) -> tuple[Purchases, _Indices]:
        customers, catalogue = self.world.customers, self.world.catalogue
        rng = generator(self.world.size.seed, "purchases", self.day)
        started = _seconds(len(who), rng)
        pieces = 1 + np.minimum(rng.poisson(customers.extra_pieces[who]), _MOST_PIECES - 1)
        channel = 1 + (rng.random(len(who)) < customers.online[who])
        buyer = np.repeat(who, pieces)
        parts = [np.empty(0, np.int64)]
        for first in range(0, len(buyer), _CHUNK):
            chunk = buyer[first : first + _CHUNK]
            due = self.histories.due(customers, catalogue, chunk, self.day, demand.on_sale)
            repeat = rng.random(len(chunk)) < self.histories.again(customers, due, chunk)
            chosen = demand.choose(customers, chunk, rng)
            again = self.histories.articles[chunk, pick(due, rng)]
            parts.append(np.where(repeat, again, chosen))
        article = np.concatenate(parts)
        self.histories.add(buyer, article, self.day)
        self._next_visit[who] = self.day + next_visits(customers, who, rng)
        second = np.repeat(started, pieces)
        order = np.argsort(second, kind="stable")
        bought = Purchases(
            customer=buyer[order],
            article=article[order],
            price=demand.price[article[order]],
            channel=np.repeat(channel, pieces)[order].astype(np.int8),
            second=second[order],
        )
        return bought, started

    def _browse(
        self, demand: DayDemand, buyers: _Indices, started: _Indices, purchases: Purchases
    ) -> tuple[Impressions, Views]:
        customers = self.world.customers
        rng = generator(self.world.size.seed, "views", self.day)
        awake = (rng.random(len(customers)) < BROWSING / customers.visit_days) & (customers.first_visit <= self.day)
        awake[buyers] = False
        others = np.flatnonzero(awake)
        who = np.concatenate([buyers, others])
        second = np.concatenate([started, _seconds(len(others), rng)])
        order = np.argsort(second, kind="stable")
        who, second = who[order], second[order]

        shown = self._show(demand, who, second, rng)
        looks = rng.poisson(1.5, len(who))
        browser = np.repeat(who, looks)
        parts = [demand.choose(customers, browser[i : i + _CHUNK], rng) for i in range(0, len(browser), _CHUNK)]
        bought = rng.random(len(purchases.customer)) < 0.9
        clicked = shown.viewed
        columns = (
            (shown.customer[clicked], browser, purchases.customer[bought]),
            (shown.article[clicked], np.concatenate([np.empty(0, np.int64), *parts]), purchases.article[bought]),
            (shown.second[clicked], np.repeat(second, looks), purchases.second[bought]),
        )
        customer, article, at = (np.concatenate(column) for column in columns)
        source = np.repeat(np.arange(3, dtype=np.int8), [len(column) for column in columns[0]])
        at = np.maximum(at - rng.integers(1, 1_200, len(at)), 0)
        order = np.lexsort((article, customer, at))
        return shown, Views(customer[order], article[order], source[order], at[order])

    def _show(self, demand: DayDemand, who: _Indices, second: _Indices, rng: np.random.Generator) -> Impressions:
        customer = np.repeat(who, SLATE)
        position = np.tile(np.arange(SLATE), len(who))
        on_sale = np.flatnonzero(demand.on_sale)
        by_chance = rng.random(len(customer)) < UNIFORM
        article = np.where(
            by_chance,
            on_sale[rng.integers(0, len(on_sale), len(customer))],
            demand.bestseller(len(customer), rng),
        )
        propensity = logging_policy(demand)[article]
        chance = view_chance(demand, self.world.customers, customer, article, position)
        viewed = rng.random(len(customer)) < chance
        visit = np.repeat(np.arange(len(who)), SLATE)
        return Impressions(visit, customer, article, position, propensity, chance, viewed, np.repeat(second, SLATE))


def view_chance(
    demand: DayDemand, customers: Customers, customer: _Indices, article: _Indices, position: _Indices
) -> _Numbers:
    """The true chance that a customer looks at an article on sale that is shown at a position: float64[n]."""
    share = demand.demand[article] / demand.demand.sum()
    parts = [
        demand.probability(customers, customer[i : i + _CHUNK], article[i : i + _CHUNK])
        for i in range(0, len(customer), _CHUNK)
    ]
    lift = np.concatenate([np.empty(0), *parts]) / share
    return np.asarray(0.4 * place_factor(position) * lift / (lift + 3.0), np.float64)


def place_factor(position: _Indices) -> _Numbers:
    """How much of the chance of a view at the first position is left at another: float64[n]."""
    return 1 / (1 + 0.35 * position)


def logging_policy(demand: DayDemand) -> _Numbers:
    """float64[a]: the chance of each article at every position of a slate, positions being drawn alone; sums to 1."""
    on_sale = demand.on_sale
    return np.asarray(UNIFORM * on_sale / on_sale.sum() + (1 - UNIFORM) * demand.demand / demand.demand.sum())


def _seconds(n: int, rng: np.random.Generator) -> _Indices:
    """Seconds of the day: a lunch break and an evening."""
    hours = np.where(rng.random(n) < 0.4, rng.normal(12.8, 2.0, n), rng.normal(19.8, 1.6, n))
    return np.asarray(np.clip(hours * 3600, 6 * 3600, _LAST_SECOND), np.int64)
