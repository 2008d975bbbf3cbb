"""Questions, windows and batches on sequences a reader can lay out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offline.sequences import Sequences, assemble, batches, by_customer, draw, questions

DAY = 86_400_000_000


def laid_out(*customers: list[list[int]]) -> Sequences:
    """Customers as lists of baskets; basket k is bought on day k."""
    rows = [
        (n, day, item) for n, baskets in enumerate(customers) for day, items in enumerate(baskets) for item in items
    ]
    columns = np.array(rows, np.int64).reshape(-1, 3)
    return by_customer(columns[:, 2], columns[:, 1] * DAY, columns[:, 0], np.ones(len(rows), np.bool_))


SHOP = laid_out([[1, 2], [3], [4, 5]], [[6]], [[7], [8]])


def test_a_question_has_a_past_and_a_basket() -> None:
    asked = questions(SHOP, since=0)
    assert asked.first.tolist() == [2, 3, 7]  # anna's second and third basket, the third customer's second
    assert asked.until.tolist() == [3, 5, 8]
    assert questions(SHOP, since=2 * DAY).first.tolist() == [3]
    assert len(questions(laid_out(), since=0)) == 0


def test_a_basket_without_a_purchase_is_past_and_no_question() -> None:
    viewed = by_customer(np.array([1, 2, 3]), np.arange(3) * DAY, np.zeros(3, np.int64), np.array([True, False, True]))
    asked = questions(viewed, since=0)
    assert asked.first.tolist() == [2]
    assert assemble(viewed, asked, 4, 2).item.tolist() == [[1, 2]]


def test_one_window_answers_all_questions_of_a_customer() -> None:
    batch = assemble(SHOP, questions(SHOP, since=0), length=8, stride=8)
    assert batch.item.tolist() == [[1, 2, 3], [0, 0, 7]]
    assert batch.mask.tolist() == [[1, 1, 1], [0, 0, 1]]
    assert batch.gaps[0] == pytest.approx([np.log(2), np.log(2), 0])
    assert batch.positions.tolist() == [[1, 2], [2, 0]]
    assert list(zip(batch.window.tolist(), batch.place.tolist(), strict=True)) == [(0, 0), (0, 1), (1, 0)]
    assert batch.question.tolist() == [0, 1, 1, 2]
    assert batch.answer.tolist() == [3, 4, 5, 8]


def test_baskets_too_near_for_float32_are_not_asked() -> None:
    """A basket one millisecond after another, seen 300 days later: the encoder would show the answer."""
    time = np.array([0, 1, 300 * 86_400_000, 301 * 86_400_000], np.int64) * 1_000
    near = by_customer(np.array([1, 2, 3, 4]), time, np.zeros(4, np.int64), np.ones(4, np.bool_))
    batch = assemble(near, questions(near, since=0), 4, 4)
    assert batch.gaps[0, 0] == batch.gaps[0, 1]
    assert batch.answer.tolist() == [3, 4]


baskets = st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=4), min_size=1, max_size=9)


@given(st.lists(baskets, min_size=1, max_size=6), st.integers(1, 6), st.integers(1, 12), st.integers(0, 99))
@settings(max_examples=80, deadline=None)
def test_every_question_is_asked_once_with_its_own_past(
    customers: list[list[list[int]]], stride: int, answers: int, seed: int
) -> None:
    data, length = laid_out(*customers), 6
    asked = questions(data, since=0)
    if not len(asked):
        return
    parts = batches(data, asked, length, stride, answers, np.random.default_rng(seed))
    assert sorted(first for part in parts for first in part.first.tolist()) == asked.first.tolist()
    for part in parts:
        batch = assemble(data, part, length, stride)
        assert batch.item.shape[1] <= length
        for n, (first, until) in enumerate(zip(part.first, part.until, strict=True)):
            assert batch.answer[batch.question == n].tolist() == data.item[first:until].tolist()
            row = batch.window[n]
            position = batch.positions[row, batch.place[n]]
            seen = batch.item[row, : position + 1][batch.mask[row, : position + 1] > 0]
            past = data.item[data.start[first] : first]
            assert seen.tolist() == past[len(past) - len(seen) :].tolist()
            assert len(seen) >= min(len(past), length - stride, length)
            if position + 1 < batch.item.shape[1]:  # the basket itself, if it is in the window, is later
                assert batch.gaps[row, position + 1] < batch.gaps[row, position]


def test_recent_baskets_are_drawn_more_often() -> None:
    data = laid_out(*([[[1], *([2] for _ in range(20))]] * 50))
    asked = questions(data, since=0)
    few = draw(data, asked, 200, 21 * DAY, 5.0, np.random.default_rng(1))
    assert len(few) == 200
    assert data.time[few.first].mean() > data.time[asked.first].mean() + 3 * DAY
    every = draw(data, asked, 10**9, 21 * DAY, float("inf"), np.random.default_rng(1))
    assert every.first.tolist() == asked.first.tolist()
