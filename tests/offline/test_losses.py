"""Sampled softmax against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from offline.losses import inclusion_log_q, sampled_softmax

AXES = torch.eye(4)
ONE = torch.tensor(1.0)
ROW, COLUMN = torch.tensor([0]), torch.tensor([0])


def test_one_answer_against_three_negatives() -> None:
    # logits 2, 0, 0, 0: loss = log(e^2 + 3) - 2
    loss = sampled_softmax(AXES[:1], AXES, ROW, COLUMN, torch.tensor(2.0))
    assert loss.item() == pytest.approx(np.log(np.exp(2) + 3) - 2)


def test_answers_of_one_basket_do_not_push_each_other() -> None:
    # The basket is {0, 1}; each stands against 2 and 3 alone: log(e^0 + 2) - 0 for 1, log(e + 2) - 1 for 0.
    loss = sampled_softmax(AXES[:1], AXES, torch.tensor([0, 0]), torch.tensor([0, 1]), ONE)
    assert loss.item() == pytest.approx((np.log(np.e + 2) - 1 + np.log(3)) / 2)
    together = AXES[:1].clone().requires_grad_(True)
    candidates = AXES.clone().requires_grad_(True)
    sampled_softmax(together, candidates, torch.tensor([0, 0]), torch.tensor([0, 1]), ONE).backward()
    assert candidates.grad is not None
    assert (candidates.grad[:2, 0] < 0).all()  # both are drawn to the query, neither is pushed away
    assert (candidates.grad[2:, 0] > 0).all()


def test_log_q_is_taken_off_alpha_times() -> None:
    log_q = torch.log(torch.tensor([0.5, 0.25, 0.25, 1.0]))
    loss = sampled_softmax(AXES[:1], AXES, ROW, COLUMN, ONE, log_q=log_q, alpha=0.5)
    weights = np.exp([1, 0, 0, 0]) / np.sqrt([0.5, 0.25, 0.25, 1.0])
    assert loss.item() == pytest.approx(-np.log(weights[0] / weights.sum()))
    plain = sampled_softmax(AXES[:1], AXES, ROW, COLUMN, ONE)
    assert torch.equal(plain, sampled_softmax(AXES[:1], AXES, ROW, COLUMN, ONE, log_q=log_q, alpha=0.0))


def test_only_the_allowed_are_negatives_but_an_answer_stays_one() -> None:
    allowed = torch.tensor([False, False, True, False])
    loss = sampled_softmax(AXES[:1], AXES, ROW, COLUMN, ONE, negative=allowed)
    assert loss.item() == pytest.approx(np.log(np.e + 1) - 1)


def test_inclusion_is_the_chance_to_be_drawn_at_least_once() -> None:
    # share 1/2 in 2 answers, or 1 of 3 uniform draws out of 10: 1 - (1/2)^2 * (9/10)^3
    found = inclusion_log_q(torch.tensor([0.5, 0.0]), targets=2, uniform=3, n_items=10)
    assert found.exp().tolist() == pytest.approx([1 - 0.25 * 0.729, 1 - 0.729])


def test_with_inclusion_log_q_the_sample_stands_for_the_whole_catalogue() -> None:
    """Weighted by 1 / chance, the expected sum over drawn candidates is the sum over all: what logQ is for."""
    rng = np.random.default_rng(0)
    share = np.array([0.6, 0.3, 0.1, 0.0, 0.0])
    value = np.exp([2.0, 1.0, 0.5, 3.0, 0.1])
    chance = inclusion_log_q(torch.from_numpy(share), 4, 3, 5).exp().numpy()
    sums = []
    for _ in range(4_000):
        drawn = np.unique(np.r_[rng.choice(5, 4, p=share), rng.integers(0, 5, 3)])
        sums.append((value / chance)[drawn].sum())
    assert np.mean(sums) == pytest.approx(value.sum(), rel=0.03)
