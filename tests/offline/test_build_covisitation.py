"""What goes together, counted by hand from baskets and weeks, and deaf to whatever comes at or after the cut."""

from __future__ import annotations

from math import exp, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offline.build_covisitation import DAYS, NEIGHBOURS, PRIOR, build_neighbours
from serving.retrieval.covisitation import Neighbours
from tests.offline.toy_log import CUT_US, DAY, Line, bought, histories_of, items_of, viewed

ARTICLES = ("milk", "bread", "wine", "salt")
ITEMS = items_of(*ARTICLES)
LOG = [
    bought(1, "anna", "milk"),
    bought(1, "anna", "bread"),
    bought(1, "anna", "bread"),  # twice in a basket is once
    bought(2, "bert", "milk"),
    bought(5, "bert", "bread"),  # the same week: what came after counts as what came with
    bought(8, "bert", "wine"),  # the week before it, alone
    bought(10, "cleo", "milk"),
    bought(10, "cleo", "bread"),
    bought(10, "cleo", "wine"),
    bought(10, "cleo", "unknown"),
]
# The occasions by how long ago they ended.
ANNA, BERT, BERT_BEFORE, CLEO = (exp(-age / 60) for age in (1, 2, 8, 10))
FUTURE = [
    bought(0, "anna", "wine"),
    bought(-1, "bert", "salt"),
    bought(-1, "bert", "wine"),
    bought(-1, "aaron", "salt"),
    bought(-1, "aaron", "milk"),
]


def count(lines: list[Line], cut: int = CUT_US) -> Neighbours:
    return build_neighbours(histories_of(lines), ITEMS, cut)


def by_name(found: Neighbours) -> dict[str, dict[str, float]]:
    parts = [slice(found.start[row], found.start[row + 1]) for row in range(len(ARTICLES))]
    return {
        ARTICLES[row]: {ARTICLES[i]: w for i, w in zip(found.items[p].tolist(), found.weights[p].tolist(), strict=True)}
        for row, p in enumerate(parts)
    }


def test_weights_are_shares_of_the_faded_occasions() -> None:
    found = by_name(count(LOG))
    both = ANNA + BERT + CLEO / sqrt(2)  # a basket of three says less about each pair
    assert found["milk"] == pytest.approx(
        {"bread": both / (ANNA + BERT + CLEO + PRIOR), "wine": CLEO / sqrt(2) / (ANNA + BERT + CLEO + PRIOR)}
    )
    # Bread stands in the same occasions as milk.
    assert found["bread"] == pytest.approx({"milk": found["milk"]["bread"], "wine": found["milk"]["wine"]})
    with_wine = CLEO / sqrt(2) / (BERT_BEFORE + CLEO + PRIOR)
    assert found["wine"] == pytest.approx({"milk": with_wine, "bread": with_wine})
    assert list(found["wine"]) == ["milk", "bread"]  # of equals the first article
    assert found["salt"] == {}


def test_a_look_joins_an_occasion_as_a_purchase_does() -> None:
    assert by_name(count([viewed(1, "anna", "salt"), bought(1, "anna", "milk")])) == by_name(
        count([bought(1, "anna", "salt"), bought(1, "anna", "milk")])
    )


@pytest.mark.parametrize(("days_before", "counts"), [(0, False), (1e-6, True), (DAYS, True), (DAYS + 0.001, False)])
def test_occasions_of_91_days_before_the_cut_count(days_before: float, counts: bool) -> None:
    found = count([bought(days_before, "anna", "milk"), bought(days_before, "anna", "bread")])
    assert (len(found.items) == 2) == counts
    assert len(found.start) == len(ARTICLES) + 1


def test_weeks_of_different_customers_are_different_occasions() -> None:
    found = count([bought(91, "anna", "milk"), bought(0.5, "bert", "bread"), bought(6.9, "cleo", "wine")])
    assert len(found.items) == 0


def test_who_takes_everything_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    crawler = [viewed(3, "crawler", article) for article in ARTICLES]
    monkeypatch.setattr("offline.build_covisitation.LARGEST", 3)
    assert by_name(count(LOG + crawler)) == by_name(count(LOG))


def test_the_future_changes_nothing() -> None:
    plain, planted = count(LOG), count(FUTURE + LOG)
    for name in ("start", "items", "weights"):
        assert np.array_equal(getattr(plain, name), getattr(planted, name)), name
    later = count(FUTURE + LOG, CUT_US + 2 * DAY)
    assert by_name(later)["salt"]  # the plant is real
    assert len(count([]).items) == len(count(FUTURE).items) == 0


def test_a_row_keeps_its_strongest_and_of_equals_the_first() -> None:
    names = [f"a{n:03d}" for n in range(NEIGHBOURS + 10)]
    lines = [bought(1, "anna", name) for name in names] + [bought(1, "bert", names[0]), bought(1, "bert", names[-1])]
    found = build_neighbours(histories_of(lines), items_of(*names), CUT_US)
    assert np.diff(found.start).tolist() == [NEIGHBOURS] * len(names)
    assert found.items[:NEIGHBOURS].tolist() == [len(names) - 1, *range(1, NEIGHBOURS)]
    assert found.items[found.start[5] : found.start[6]].tolist() == [*range(5), *range(6, NEIGHBOURS + 1)]


lines = st.lists(
    st.builds(
        lambda age, customer, article, look: (viewed if look else bought)(age, customer, article),
        st.integers(-20, 120),
        st.sampled_from(["anna", "bert", "cleo"]),
        st.sampled_from([*ARTICLES, "unknown"]),
        st.booleans(),
    ),
    max_size=25,
)


@settings(max_examples=60)
@given(lines)
def test_rows_are_sorted_and_bounded(given_lines: list[Line]) -> None:
    found = count(given_lines)
    assert (found.start[0], found.start[-1]) == (0, len(found.items))
    assert len(found.items) == len(found.weights)
    assert (found.start.dtype, found.items.dtype, found.weights.dtype) == (np.int64, np.int32, np.float32)
    for row in range(len(ARTICLES)):
        part = slice(found.start[row], found.start[row + 1])
        items, weights = found.items[part].tolist(), found.weights[part]
        assert len(set(items)) == len(items) <= NEIGHBOURS
        assert row not in items
        assert set(items) <= set(range(len(ARTICLES)))
        assert (np.diff(weights) <= 0).all()
        assert ((weights > 0) & (weights < 1)).all()
