"""Ranking examples: features of the moment, labels of exactly the horizon after it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest

from offline.build_catalog import CatalogConfig, Vectors, catalog_at
from offline.examples import Examples, build_examples, purchases_between
from offline.progress import Step
from offline.train_collaborative import CollaborativeConfig
from streams.bundle_contract import FEATURES
from streams.encoder import QueryEncoder
from streams.state import CustomerState
from tests.offline.toy_log import CUT_US, DAY, Line, bought, histories_of, items_of, viewed

ARTICLES = ("milk", "bread", "wine", "salt")
ITEMS = items_of(*ARTICLES)
VECTORS = np.eye(4, 8, dtype=np.float32)
CONTENT = np.eye(4, 3, dtype=np.float32)
CONFIG = CatalogConfig(CollaborativeConfig(dim=2, iterations=3))
PAST = [
    bought(20, "anna", "milk"),
    bought(3, "anna", "bread"),
    bought(5, "bert", "milk"),
    bought(2, "cleo", "wine"),
]
WEEK = 7 * DAY


class MeanEncoder(QueryEncoder):
    """The mean of the vectors of what was bought: enough to retrieve by, without a network."""

    def __init__(self) -> None:
        self.space, self.dim = "toy", 8

    def encode(self, states: Sequence[CustomerState]) -> npt.NDArray[np.float32]:
        rows = [VECTORS[[ITEMS.index[a] for a in state.article_ids if a in ITEMS.index]] for state in states]
        return np.array([row.mean(axis=0) if len(row) else np.zeros(8) for row in rows], np.float32)


def examples(lines: list[Line], limit: int = 100, seed: int = 1) -> Examples:
    histories = histories_of(lines)
    vectors = Vectors(VECTORS, MeanEncoder(), CONTENT)
    catalog = catalog_at(histories, ITEMS, {}, CUT_US, vectors, CONFIG, seed=7)
    return build_examples(histories, catalog, CUT_US, WEEK, Step("examples", limit, None), limit=limit, seed=seed)


def column(given: Examples, name: str) -> npt.NDArray[np.float32]:
    return given.features[:, FEATURES.index(name)]


def test_labels_are_what_was_bought_in_the_horizon_and_spend_what_was_paid() -> None:
    given = examples([*PAST, bought(-2, "anna", "milk", 3.0), bought(-3, "anna", "milk", 4.0)])
    assert len(given) == 4  # anna's four candidates; nobody else bought
    assert set(given.group.tolist()) == {0}
    (row,) = np.flatnonzero(given.label("purchase"))
    assert column(given, "bought_count")[row] == pytest.approx(np.log1p(1))
    assert column(given, "bought_last_days")[row] == pytest.approx(np.log1p(20))
    assert given.label("spend")[row] == pytest.approx(np.log1p(3.0 + 4.0))
    assert given.label("spend").sum() == given.label("spend")[row]


@pytest.mark.parametrize(
    ("days_before", "inside"),
    [(0, True), (-6.999999, True), (-7, False), (-8, False), (0.000001, False)],
)
def test_the_horizon_is_closed_at_the_cut_and_open_at_its_end(days_before: float, inside: bool) -> None:
    later = bought(days_before, "bert", "wine")
    assert len(examples([*PAST, later])) == (4 if inside else 0)
    assert purchases_between(histories_of([later]), ITEMS, CUT_US, CUT_US + WEEK) == (
        {"bert": {ITEMS.index["wine"]: 1.0}} if inside else {}
    )


def test_a_view_an_unknown_article_and_an_unknown_price_in_the_horizon() -> None:
    lines = [viewed(-1, "bert", "milk", 5.0), bought(-1, "bert", "not sold here"), bought(-1, "bert", "wine", None)]
    found = purchases_between(histories_of(lines), ITEMS, CUT_US, CUT_US + WEEK)
    assert found == {"bert": {ITEMS.index["wine"]: 0.0}}
    given = examples([*PAST, *lines])
    assert given.label("purchase").sum() == 1  # bought, although for nothing that is known
    assert given.label("spend").sum() == 0


def test_who_has_no_past_gives_no_example() -> None:
    given = examples([*PAST, bought(-1, "dora", "milk"), bought(-1, "bert", "milk")])
    assert set(given.group.tolist()) == {0}
    nobody = examples([*PAST, bought(-1, "dora", "milk")])
    assert nobody.features.shape == (0, len(FEATURES))


def test_features_do_not_change_with_what_comes_after_the_cut() -> None:
    probe = [bought(-1, who, "salt") for who in ("anna", "bert", "cleo")]
    planted = [
        *[bought(-d, who, "wine", 999.0) for d in (0, 1, 5, 30) for who in ("anna", "bert", "dora")],
        bought(-2, "bert", "an article of the future", 1.0),
        viewed(-1, "cleo", "milk"),
    ]
    plain, with_future = examples(PAST + probe), examples(planted + PAST + probe)
    assert np.array_equal(plain.features, with_future.features)
    assert np.array_equal(plain.group, with_future.group)
    assert (
        with_future.label("purchase").sum() > plain.label("purchase").sum()
    )  # the labels do see it: the plant is real


def test_features_of_a_past_purchase_do_change() -> None:
    probe = [bought(-1, "anna", "salt")]
    assert not np.array_equal(
        examples(PAST + probe).features, examples([*PAST, bought(1, "bert", "salt"), *probe]).features
    )


def test_limit_draws_customers_and_the_same_seed_the_same_ones() -> None:
    many = [line for n in range(30) for line in (bought(n + 1, f"c{n:02d}", "milk"), bought(-1, f"c{n:02d}", "milk"))]
    one, again, other = examples(many, 5, 1), examples(many, 5, 1), examples(many, 5, 2)
    assert len(np.unique(one.group)) == 5
    assert np.array_equal(one.features, again.features)
    assert not np.array_equal(one.features, other.features)


def test_drain_keeps_groups_apart() -> None:
    first = examples([*PAST, bought(-1, "anna", "milk"), bought(-1, "bert", "milk")])
    empty = examples(PAST)
    second = examples([*PAST, bought(-1, "cleo", "milk")])
    parts = [first, empty, second]
    joined = Examples.drain(parts)
    assert not parts  # so that what it was made of can be given back
    assert np.unique(joined.group).tolist() == [0, 1, 2]
    assert joined.group[len(first) :].tolist() == [2] * len(second)
    assert np.array_equal(joined.features, np.concatenate([first.features, second.features]))


def test_the_funnel_is_there_where_the_log_knows_it_and_every_purchase_passed_through_it() -> None:
    assert examples([*PAST, bought(-1, "anna", "milk")]).tasks == ("purchase", "repurchase", "spend")
    # Anna buys what she had (milk), views salt and wine; Bert only looks, and so follows the buyers.
    later = [bought(-1, "anna", "milk"), viewed(-1, "anna", "salt"), viewed(-2, "anna", "wine")]
    given = examples([*PAST, *later, viewed(-1, "bert", "bread")])
    assert given.tasks == ("purchase", "repurchase", "spend", "view")
    assert given.label("purchase").sum() == given.label("repurchase").sum() == 1
    viewers = given.group[given.label("view") > 0].tolist()
    assert viewers == [0, 0, 0, 1]
    assert (given.label("purchase") <= given.label("view")).all()
    assert set(examples([*PAST, *later, viewed(-1, "bert", "bread")], limit=1).group.tolist()) == {0}


def test_a_purchase_of_something_new_is_no_repurchase() -> None:
    given = examples([*PAST, bought(-1, "anna", "milk"), bought(-1, "anna", "salt")])
    assert given.label("purchase").sum() == 2
    (row,) = np.flatnonzero(given.label("repurchase"))
    assert column(given, "bought")[row] == 1.0
    assert set(given.cut.tolist()) == {CUT_US}
