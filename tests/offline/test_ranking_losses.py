"""The loss by hand, where weights stand for rows, and batches of whole customers."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
import torch
from torch.nn.functional import softplus

from offline.examples import TASKS, Examples
from offline.ranking_batches import batches, customer_weights, keep_some, spans
from offline.ranking_losses import ranking_loss


def test_a_row_of_weight_three_is_three_rows() -> None:
    outputs = torch.tensor([[0.5, 0.1, 1.0], [-1.0, 0.3, 0.0]])
    labels = torch.tensor([[1.0, 1.0, 2.0], [0.0, 0.0, 0.0]])
    weighted = ranking_loss(outputs, labels, torch.tensor([1.0, 3.0]), TASKS)
    rows = torch.tensor([0, 1, 1, 1])
    assert weighted.item() == pytest.approx(ranking_loss(outputs[rows], labels[rows], torch.ones(4), TASKS).item())
    spend = 0.1 * 0.5  # |1 - 2| - 0.5 on the one row that was bought
    purchase = (softplus(torch.tensor(-0.5)) + 3 * softplus(torch.tensor(-1.0))) / 4
    again = 0.1 * (softplus(torch.tensor(-0.1)) + 3 * softplus(torch.tensor(0.3))) / 4
    assert weighted.item() == pytest.approx((purchase + again).item() + spend)


def table(counts: list[int]) -> Examples:
    """Groups of these sizes; the first row of each is bought."""
    group = np.repeat(np.arange(len(counts)), counts)
    bought = np.r_[True, np.diff(group) > 0].astype(np.float32)
    n = len(group)
    labels = np.stack([bought, bought, 2 * bought], axis=1)
    return Examples(np.zeros((n, 2), np.float32), labels, group, np.zeros(n, np.int64))


def test_a_pass_sees_every_customer_once_and_whole_when_nothing_is_left_out() -> None:
    given = table([3, 1, 5, 2, 4])
    passes = []
    endless = batches(given, 2, 1.0, np.random.default_rng(1))
    for _ in range(3):
        seen: list[int] = []
        for batch in islice(endless, 3):  # two customers, two, one
            assert (batch.weights == 1).all()
            for group in dict.fromkeys(given.group[batch.rows].tolist()):
                assert (given.group[batch.rows] == group).sum() == (given.group == group).sum()
                seen.append(group)
            assert len(np.unique(batch.rows)) == len(batch.rows)
        assert sorted(seen) == [0, 1, 2, 3, 4]
        passes.append(seen)
    assert len({tuple(seen) for seen in passes}) > 1
    assert list(batches(Examples.empty(2), 2, 1.0, np.random.default_rng(1))) == []


def test_left_out_rows_are_stood_for_and_none_that_was_bought_is_left_out() -> None:
    given = table([400] * 50)
    rows, weights = keep_some(given, 0.1, np.random.default_rng(1))
    bought = given.label("purchase")[rows] > 0
    assert bought.sum() == 50
    assert (weights[bought] == 1).all()
    assert weights.sum() == pytest.approx(len(given), rel=0.05)
    assert (np.diff(rows) > 0).all()


def test_a_customer_weighs_one_over_the_root_of_what_they_bought() -> None:
    """Of three candidates each, one customer took one, the next all but one, the last none."""
    group = np.repeat([3, 4, 9], 3)
    bought = np.array([0, 1, 0, 1, 0, 1, 0, 0, 0], np.float32)
    given = Examples(np.zeros((9, 1), np.float32), np.stack([bought] * 3, axis=1), group, np.zeros(9, np.int64))
    assert customer_weights(given).tolist() == pytest.approx([1, 1, 1, *[0.5**0.5] * 3, 1, 1, 1])
    assert len(customer_weights(Examples.empty(1))) == 0
    (batch,) = islice(batches(given, 3, 1.0, np.random.default_rng(1)), 1)
    assert batch.weights == pytest.approx(customer_weights(given)[batch.rows])


def test_spans() -> None:
    starts, counts = spans(np.array([4, 4, 7, 9, 9, 9]))
    assert starts.tolist() == [0, 2, 3]
    assert counts.tolist() == [2, 1, 3]
    assert [len(part) for part in spans(np.empty(0, np.int64))] == [0, 0]
