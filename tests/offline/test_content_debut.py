"""Debut rates: new articles sell where new articles have sold, by listing and by kind; the future says nothing."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offline.build_statistics import build_items
from offline.content.debut import NEIGHBOURS, PRIOR, debut_rates, first_sale_age
from serving.items import ItemTable
from tests.offline.content_toys import articles
from tests.offline.toy_log import CUT_US, Line, bought, histories_of, viewed


def items(*kinds: str) -> ItemTable:
    """Articles "0", "1", ... of these kinds."""
    return ItemTable.from_table(build_items(articles(*({"subcategory": k} for k in kinds)), histories_of([]), CUT_US))


FOUR = items("bread", "toys", "toys", "wine")
LOG = [bought(60, "anna", "0"), bought(2, "anna", "0"), bought(5, "bert", "1")]


def test_ages_are_those_of_the_first_purchase_before_the_cut() -> None:
    lines = [*LOG, viewed(9, "anna", "2"), bought(-1, "anna", "3"), bought(0, "anna", "3")]
    assert first_sale_age(FOUR, histories_of(lines), CUT_US) == pytest.approx([60, 5, math.nan, math.nan], nan_ok=True)


def test_rates_by_hand() -> None:
    rates = debut_rates(FOUR, histories_of(LOG), CUT_US)
    base = 1 / 3  # article 1 made its debut; 1, 2 and 3 could have
    near, far = math.exp(-1 / NEIGHBOURS), math.exp(-2 / NEIGHBOURS)
    toy = (near / base + PRIOR) / (2 * near + 1 + PRIOR) * (1 / base + PRIOR) / (2 + PRIOR)
    wine = (far / base + PRIOR) / (far + near + 1 + PRIOR) * (0 + PRIOR) / (1 + PRIOR)
    assert rates == pytest.approx([0, 0, toy, wine], rel=1e-5)
    assert toy > wine


def test_a_debut_before_the_window_is_none() -> None:
    rates = debut_rates(FOUR, histories_of([bought(60, "anna", "0"), bought(29, "bert", "1")]), CUT_US)
    assert rates.tolist() == [0, 0, 1, 1]


def test_a_short_log_has_a_short_window() -> None:
    # Three days of log: of the articles first seen on the first day nobody knows whether they were new.
    rates = debut_rates(FOUR, histories_of([bought(3, "anna", "1"), bought(1, "bert", "3")]), CUT_US)
    assert rates[1] == rates[3] == 0
    assert rates[2] > rates[0] > 0


def test_articles_are_listed_in_the_order_of_their_numbers() -> None:
    many = items(*["toys"] * 200)
    rates = debut_rates(many, histories_of([bought(90, "anna", "0"), bought(1, "anna", "99")]), CUT_US)
    assert rates[[98, 100]].tolist() == pytest.approx([rates.max()] * 2, rel=1e-3)  # as text, 98 and 100 are far apart
    assert rates[10] < rates[90] < rates[98]


def test_nothing_sold_yet_leaves_all_alike() -> None:
    assert debut_rates(FOUR, histories_of([]), CUT_US).tolist() == [1, 1, 1, 1]


LINES = st.lists(st.tuples(st.floats(0.1, 50), st.sampled_from("ab"), st.sampled_from("0123")), max_size=8)


@given(LINES, LINES)
def test_only_never_sold_articles_have_a_rate_and_the_future_changes_nothing(
    past: list[tuple[float, str, str]], future: list[tuple[float, str, str]]
) -> None:
    before: list[Line] = [bought(*line) for line in past]
    after: list[Line] = [bought(-days, customer, article) for days, customer, article in future]
    rates = debut_rates(FOUR, histories_of(before), CUT_US)
    sold = np.isin(["0", "1", "2", "3"], [article for _, _, article in past])
    assert ((rates > 0) == ~sold).all()
    assert np.array_equal(rates, debut_rates(FOUR, histories_of([*before, *after]), CUT_US))


def test_an_id_alone_has_no_chance() -> None:
    """Where the catalogue is what the log names, an article without a word to it is known for being bought later."""
    blank = replace(
        FOUR,
        titles=["", "a bun", "a kite", "a cask"],
        codes={name: codes * 0 - 1 for name, codes in FOUR.codes.items()},
    )
    rates = debut_rates(blank, histories_of([]), CUT_US)
    assert rates.tolist() == [0, 1, 1, 1]
