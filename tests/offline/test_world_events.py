"""The synthetic world does what it says: its chances are the true ones, and its best answer is the best."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest

from infra.errors import ConfigurationError
from offline.world.demand import DayDemand
from offline.world.oracle import Oracle
from offline.world.settings import WorldSize
from offline.world.simulation import Day, Impressions, Simulation, World, logging_policy
from offline.world.vocabulary import GARMENTS

SIZE = WorldSize(customers=800, articles=400, days=365, seed=5)


@pytest.fixture(scope="module")
def world() -> World:
    return World(SIZE)


@pytest.fixture(scope="module")
def days(world: World) -> list[Day]:
    return list(Simulation(world).run(SIZE.days, with_views=False))


def test_choices_fall_as_often_as_their_probabilities_say(world: World) -> None:
    demand = world.demand.on(40)
    n = 60_000
    for customer in (3, 11):
        who = np.full(n, customer)
        expected = demand.probabilities(world.customers, who[:1])[0]
        seen = np.bincount(demand.choose(world.customers, who, np.random.default_rng(1)), minlength=len(expected)) / n
        assert expected.sum() == pytest.approx(1)
        assert (np.abs(seen - expected) <= 5 * np.sqrt(expected / n) + 1e-9).all()
        assert not seen[~demand.on_sale].any()


def test_the_chance_of_a_pair_is_the_one_of_the_whole_row(world: World) -> None:
    demand = world.demand.on(100)
    who = np.arange(20)
    articles = np.arange(20) * 17
    matrix = demand.probabilities(world.customers, who)
    np.testing.assert_allclose(demand.probability(world.customers, who, articles), matrix[who, articles], atol=1e-12)


def test_taste_multiplies_the_odds_of_a_colour(world: World) -> None:
    """A customer who likes a colour twice as much buys it twice as often against any other of the same product."""
    demand = world.demand.on(10)
    c = world.catalogue
    product = next(p for p in np.unique(c.product) if (demand.on_sale & (c.product == p)).sum() >= 2)
    one, two = np.flatnonzero((c.product == product) & demand.on_sale)[:2]
    row = demand.probabilities(world.customers, np.array([0]))[0]
    cells = [_cell_demand(demand, world, article) for article in (one, two)]
    taste = world.customers.colour[0, c.colour[[one, two]]]
    odds = (taste[0] * demand.demand[one]) / (taste[1] * demand.demand[two])
    assert cells[0] > 0 and row[one] / row[two] == pytest.approx(odds, rel=1e-6)


def _cell_demand(demand: DayDemand, world: World, article: int) -> float:
    c = world.catalogue
    return float(
        demand.levels[-1][
            c.department[article], c.garment[article], c.style[article], c.band[article], c.colour[article]
        ]
    )


def test_nothing_is_sold_before_its_launch_or_after_its_end(world: World, days: list[Day]) -> None:
    late = 0
    for day in days:
        launched = world.catalogue.launch[day.purchases.article]
        assert (launched <= day.day).all()
        assert (world.catalogue.end[day.purchases.article] > day.day).all()
        late += int((launched > 0).sum())
    assert late > 500  # launches of the year do sell
    assert ((world.catalogue.launch > 0).sum()) > 100


def test_prices_drop_towards_the_end_and_never_rise_above_the_full_one(world: World, days: list[Day]) -> None:
    catalogue = world.catalogue
    article = np.concatenate([day.purchases.article for day in days])
    price = np.concatenate([day.purchases.price for day in days])
    assert (price <= catalogue.price[article] + 0.005).all()
    reduced = price < catalogue.price[article] * 0.9
    day = np.concatenate([np.full(len(d.purchases.article), d.day) for d in days])
    passed = (day - catalogue.launch[article]) / (catalogue.end - catalogue.launch)[article]
    assert reduced.any()
    assert (passed[reduced] >= 0.6).all()


def test_seasons_show_in_the_sales(world: World, days: list[Day]) -> None:
    sold = np.zeros((12, len(GARMENTS)))
    for day in days:
        month = SIZE.date(day.day).month - 1
        np.add.at(sold[month], world.catalogue.garment[day.purchases.article], 1)
    share = sold / sold.sum(axis=1, keepdims=True)
    names = [garment.name for garment in GARMENTS]
    summer = [names.index(name) for name in ("Shorts", "Sandals", "Swimsuit", "Vest top")]
    winter = [names.index(name) for name in ("Coat", "Sweater", "Hat/beanie", "Boots", "Scarf")]
    assert share[6, summer].sum() > 3 * share[0, summer].sum()
    assert share[0, winter].sum() > 3 * share[6, winter].sum()


def test_customers_come_on_their_own_rhythm_and_steadier_than_chance(world: World, days: list[Day]) -> None:
    visits: dict[int, list[int]] = defaultdict(list)
    for day in days:
        for customer in np.unique(day.purchases.customer).tolist():
            visits[customer].append(day.day)
    ratios, scatter = [], []
    for customer, when in visits.items():
        if len(when) >= 12:
            gaps = np.diff(when)
            ratios.append(gaps.mean() / world.customers.visit_days[customer])
            scatter.append(gaps.std() / gaps.mean())
    assert len(ratios) > 100
    assert np.median(ratios) == pytest.approx(1.0, abs=0.1)
    assert np.mean(scatter) < 0.75  # 1 where visits fell by chance


def test_what_is_bought_again_is_bought_one_own_rhythm_later() -> None:
    world = World(WorldSize(customers=800, articles=8_000, days=365, seed=5))  # so many that few repeats are chance
    last: dict[tuple[int, int], int] = {}
    waits = []
    for day in Simulation(world).run(365, with_views=False):
        for pair in set(zip(day.purchases.customer.tolist(), day.purchases.article.tolist(), strict=True)):
            if pair in last:
                waits.append((day.day - last[pair]) / world.customers.again_days[pair[0]])
            last[pair] = day.day
    assert len(waits) > 500
    assert 0.75 < np.median(waits) < 1.25
    assert np.mean((np.array(waits) > 0.4) & (np.array(waits) < 1.6)) > 0.7


def test_views_change_nothing_that_is_bought(world: World, days: list[Day]) -> None:
    for day, plain in zip(Simulation(world).run(60), days, strict=False):
        assert day.views is not None
        for name in ("customer", "article", "price", "channel", "second"):
            np.testing.assert_array_equal(getattr(day.purchases, name), getattr(plain.purchases, name))


def test_propensities_and_view_probabilities_are_the_true_ones() -> None:
    world = World(WorldSize(customers=20_000, articles=60, days=2, seed=9))
    day = next(Simulation(world).run(1))
    shown = day.impressions
    assert isinstance(shown, Impressions)
    policy = logging_policy(world.demand.on(0))
    assert policy.sum() == pytest.approx(1)
    np.testing.assert_array_equal(shown.propensity, policy[shown.article])
    for position in (0, 5):
        seen = np.bincount(shown.article[shown.position == position], minlength=60)
        n = seen.sum()
        assert n > 1_000
        assert (np.abs(seen - n * policy) <= 5 * np.sqrt(n * policy * (1 - policy)) + 1e-9).all()
    chance = shown.view_probability
    assert shown.viewed.sum() == pytest.approx(chance.sum(), abs=4 * np.sqrt((chance * (1 - chance)).sum()))
    assert chance[shown.position == 0].mean() > 1.5 * chance[shown.position == 5].mean()


def test_a_mean_weighted_by_propensities_tells_another_policys_reward() -> None:
    """What off-policy evaluation needs: inverse propensity scoring finds the views of showing articles evenly."""
    world = World(WorldSize(customers=20_000, articles=40, days=2, seed=4))
    shown = next(Simulation(world).run(1)).impressions
    assert shown is not None
    on_sale = world.demand.on(0).on_sale
    weights = (1 / on_sale.sum()) / shown.propensity
    truth = np.mean([shown.view_probability[shown.article == a].mean() for a in np.flatnonzero(on_sale)])
    terms = weights * shown.viewed
    assert terms.mean() == pytest.approx(truth, abs=5 * terms.std() / np.sqrt(len(terms)))


def test_the_oracle_knows_the_chances_and_nobody_answers_better(world: World) -> None:
    simulation = Simulation(world)
    cut = SIZE.days - 14
    for _ in simulation.run(cut, with_views=False):
        pass
    oracle = Oracle(simulation)
    who = np.arange(SIZE.customers)
    best, chances = oracle.best(who, 12, horizon=14)
    assert (np.diff(chances, axis=1) <= 0).all()
    assert oracle.probabilities(who[:30], horizon=14).sum(axis=1) == pytest.approx(np.ones(30))
    rng = np.random.default_rng(0)
    on_sale = np.flatnonzero(world.demand.on(cut).on_sale)
    popular = np.argsort(-world.demand.on(cut).demand)[:12]
    shuffled = rng.choice(on_sale, 12, replace=False)
    hits: dict[str, list[bool]] = defaultdict(list)
    expected = []
    first_visits = set()
    for day in simulation.run(SIZE.days, with_views=False):
        today = set(day.purchases.customer.tolist()) - first_visits
        for customer, article in zip(day.purchases.customer.tolist(), day.purchases.article.tolist(), strict=True):
            if customer in today:
                hits["best"].append(article in best[customer])
                hits["popular"].append(article in popular)
                hits["random"].append(article in shuffled)
                expected.append(chances[customer].sum())
        first_visits |= today
    rate = {name: np.mean(values) for name, values in hits.items()}
    assert rate["best"] > 1.5 * rate["popular"] > 2 * rate["random"]
    # Pieces of one basket share a customer, hence the factor on the plain standard error.
    assert rate["best"] == pytest.approx(np.mean(expected), abs=6 * 0.5 / np.sqrt(len(expected)))


@pytest.mark.parametrize("wrong", [{"customers": 0}, {"articles": 3_000_000}, {"days": -1}, {"seed": -1}])
def test_a_size_out_of_range_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigurationError, match=f"{next(iter(wrong))} .*allowed are"):
        WorldSize(**wrong)


@pytest.mark.parametrize("size", [WorldSize(1, 1, 1), WorldSize(1, 1, 20, seed=7), WorldSize(30, 2, 9)])
def test_the_smallest_worlds_run(size: WorldSize) -> None:
    days = list(Simulation(World(size)).run(size.days))
    assert len(days) == size.days
    for day in days:
        assert (day.purchases.article < size.articles).all()
