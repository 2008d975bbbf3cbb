"""Lists of different articles: what maximal marginal relevance chooses, worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.diversity import Likeness, Spread, relevance
from serving.messages import Boost, Rules
from serving.reranking import Cap, arrange, order
from streams.store import StoredCustomer
from tests.support.toy_catalog import IDS, N, ask, event, items, pipeline, state

# Two twins, one at a right angle to them, one between, and two without content.
CONTENT = np.array([[1, 0], [1, 0], [0, 1], [0.6, 0.8], [0, 0], [0, 0]], np.float32)
CATEGORIES = np.array([0, 0, 1, 1, 1, -1])
ROWS = np.arange(6)
SCORES = np.array([1.0, 0.9, 0.5, 0.4, 0.2, 0.0], np.float32)


def test_likeness_is_the_cosine_or_the_category() -> None:
    among = Likeness(CONTENT, CATEGORIES).among(ROWS)
    assert among.to(0) == pytest.approx([1, 1, 0, 0.6, 0, 0])
    assert among.to(4) == pytest.approx([0, 0, 1, 1, 1, 0])  # without content: those of category 1
    assert among.to(5).tolist() == [0] * 6  # of an unknown category: like nothing
    opposite = Likeness(np.array([[1, 0], [-1, 0]], np.float32), CATEGORIES[:2]).among(ROWS[:2])
    assert opposite.to(0).tolist() == [1, 0]


def chosen(diversity: float, k: int = 6, **fields: object) -> list[int]:
    spread = Spread(SCORES, Likeness(CONTENT, CATEGORIES).among(ROWS), diversity)
    return arrange(order(SCORES, ROWS, 6), ROWS, k, spread=spread, **fields).places.tolist()  # type: ignore[arg-type]


def test_the_next_is_wanted_and_unlike_those_that_stand() -> None:
    # At a half: 0 stands first; then 1 is worth 0.45 - 0.5, 2 0.25, 3 0.2 - 0.3, 4 0.1, 5 0.
    # After 2 (like 3 by 0.8, like 4 by category): 1 -0.05, 3 0.2 - 0.4, 4 0.1 - 0.5, 5 0.
    assert chosen(0.5, 3) == [0, 2, 5]
    assert chosen(0.0) == [0, 1, 2, 3, 4, 5]
    # Alone by difference: of all that are unlike the first, the best; then 5, which is like nothing.
    assert chosen(1.0, 3) == [0, 2, 5]
    # At a tenth the twin is worth 0.81 - 0.1, more than 0.45.
    assert chosen(0.1, 3) == [0, 1, 2]


def test_it_chooses_what_caps_leave_and_around_what_is_pinned() -> None:
    one_each = Cap("one", np.array([0, 0, 0, 1, 1, -1]), 1)
    assert chosen(0.5, 3, caps=[one_each]) == [0, 4, 5]  # 2 is shut out by 0, and 4 (0.1) is worth more than 3 (-0.1)
    # 1 is pinned: its twin, the best of all, is worth 0.5 - 0.5 then and 2 is worth 0.25.
    ranked = np.array([1, 0, 2, 3, 4, 5])
    spread = Spread(SCORES[ranked], Likeness(CONTENT, CATEGORIES).among(ranked), 0.5)
    assert arrange(ranked, ROWS, 2, pinned=1, spread=spread).places.tolist() == [1, 2]


def test_relevance_is_measured_by_what_is_neither_pinned_nor_boosted() -> None:
    """Scores from 0 to 1, of which one was boosted to 50 and one put down below all others."""
    assert relevance(np.array([50, 1, 0.5, 0, -3]), SCORES).tolist() == [1, 1, 0.5, 0, 0]


def test_a_boost_does_not_change_what_diversity_means_for_the_others() -> None:
    """The others stand among themselves as they did, though the first of them scores ten times as much."""
    known = StoredCustomer(state(event(60, "bread"), event(80, "milk")), 1)
    up = Rules(boosts=[Boost(field="article_id", values=["bread"], factor=100)])

    def shown(rules: Rules, diversity: float) -> list[str]:
        (answer,) = pipeline().recommend([ask(k=N, diversity=diversity, rules=rules)], [known])
        return [item.article_id for item in answer.items]

    assert shown(Rules(), 0.0)[0] == "bread"
    for diversity in (0.2, 0.5):
        assert shown(up, diversity) == shown(Rules(), diversity)


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=30))
def test_relevance_keeps_the_order_within_0_and_1(scores: list[float]) -> None:
    given_ = np.array(scores)
    found = relevance(given_, given_)
    assert ((found >= 0) & (found <= 1)).all()
    assert (np.diff(found[np.argsort(given_)]) >= 0).all()


@given(st.sampled_from([0.2, 0.5, 1.0]), st.integers(1, N))
def test_a_request_gets_the_same_articles_in_another_order(diversity: float, k: int) -> None:
    known = StoredCustomer(state(event(60, "bread"), event(80, "milk")), 1)
    plain, mixed = (
        pipeline().recommend([ask(k=n, diversity=d)], [known])[0].items for n, d in ((N, 0.0), (k, diversity))
    )
    scores = {item.article_id: item.score for item in plain}
    assert len(mixed) == k
    assert mixed[0].article_id == plain[0].article_id
    assert {item.article_id: item.score for item in mixed}.items() <= scores.items()
    assert {item.article_id for item in plain} == set(IDS)


def test_the_second_place_goes_to_another_kind() -> None:
    """Bread, bought thrice, and rolls, bought twice, read alike (0.8); the socks were bought once and read of nothing
    else: relevance 1, 2/3, 1/3, so that rolls are worth 0.33 - 0.4 at a half and socks 0.17."""
    past = [event(50 + n, article) for n, article in enumerate(["bread"] * 3 + ["rolls"] * 2 + ["socks"])]
    known = StoredCustomer(state(*past), 1)
    for diversity, expected in ((0.0, ["bread", "rolls", "socks"]), (0.5, ["bread", "socks"])):
        (answer,) = pipeline().recommend([ask(k=len(expected), diversity=diversity)], [known])
        assert [item.article_id for item in answer.items] == expected
    assert items().codes["category"][0] == items().codes["category"][1]
