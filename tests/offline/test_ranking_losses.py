"""Losses by hand: weights stand for rows, and customers do not compete with one another."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import softplus

from offline.examples import TASKS, Examples
from offline.ranking_batches import batches, keep_some, spans
from offline.ranking_losses import listwise_loss, ranking_loss


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


def test_listwise_by_hand() -> None:
    """Customer 0 bought rows 0 and 1 and not row 2, which stands for two; customer 1 bought nothing."""
    logits = torch.tensor([1.0, 2.0, 0.5, 9.0])
    bought = torch.tensor([1.0, 1.0, 0.0, 0.0])
    found = listwise_loss(logits, bought, torch.tensor([1.0, 1.0, 2.0, 2.0]), torch.tensor([0, 0, 0, 1]))
    rivals = 2 * np.exp(0.5)
    expected = np.mean([-np.log(np.exp(z) / (np.exp(z) + rivals)) for z in (1.0, 2.0)])
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_listwise_without_rivals_or_without_purchases_is_nothing_and_has_a_gradient() -> None:
    for bought in (torch.ones(2), torch.zeros(2)):
        logits = torch.tensor([0.3, -0.3], requires_grad=True)
        loss = listwise_loss(logits, bought, torch.ones(2), torch.tensor([0, 0]))
        loss.backward()
        assert loss.item() == pytest.approx(0.0, abs=1e-6)
        assert logits.grad is not None
        assert logits.grad.abs().max() < 1e-6


def table(counts: list[int]) -> Examples:
    """Groups of these sizes; the first row of each is bought."""
    group = np.repeat(np.arange(len(counts)), counts)
    bought = np.r_[True, np.diff(group) > 0].astype(np.float32)
    n = len(group)
    labels = np.stack([bought, bought, 2 * bought], axis=1)
    return Examples(np.zeros((n, 2), np.float32), labels, group, np.zeros(n, np.int64))


def test_a_pass_sees_every_customer_once_and_whole_when_nothing_is_left_out() -> None:
    given = table([3, 1, 5, 2, 4])
    seen = []
    for batch in batches(given, 2, 1.0, np.random.default_rng(1)):
        assert (batch.weights == 1).all()
        for customer in np.unique(batch.customer):
            rows = batch.rows[batch.customer == customer]
            (group,) = np.unique(given.group[rows])
            assert rows.tolist() == np.flatnonzero(given.group == group).tolist()
            seen.append(int(group))
    assert sorted(seen) == [0, 1, 2, 3, 4]
    assert seen != [0, 1, 2, 3, 4]


def test_left_out_rows_are_stood_for_and_none_that_was_bought_is_left_out() -> None:
    given = table([400] * 50)
    rows, weights = keep_some(given, 0.1, np.random.default_rng(1))
    bought = given.label("purchase")[rows] > 0
    assert bought.sum() == 50
    assert (weights[bought] == 1).all()
    assert weights.sum() == pytest.approx(len(given), rel=0.05)
    assert (np.diff(rows) > 0).all()


def test_spans() -> None:
    starts, counts = spans(np.array([4, 4, 7, 9, 9, 9]))
    assert starts.tolist() == [0, 2, 3]
    assert counts.tolist() == [2, 1, 3]
    assert [len(part) for part in spans(np.empty(0, np.int64))] == [0, 0]
