"""The ranker learns what separates bought from not bought, repeats, and stays finite on odd features."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from offline.examples import Examples
from offline.models.mmoe import MMOE
from offline.train_ranking import RankingConfig, gate_entropy, mmoe_logits, train_mmoe

CONFIG = RankingConfig(steps=75, every=25, batch=8, learning_rate=2e-2, experts=3, negatives=1.0)


def visible(n: int = 400, seed: int = 1) -> Examples:
    """Feature 0 decides the purchase, 1 the amount, 2 whether it is one again; 3 is constant."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, 4)).astype(np.float32)
    features[:, 3] = 7.0
    bought = (features[:, 0] > 0.5).astype(np.float32)
    spend = (bought * (2 + features[:, 1] * 0.5)).astype(np.float32)
    again = bought * (features[:, 2] > 0)
    return Examples(features, np.stack([bought, again, spend], axis=1), np.arange(n) // 10, np.zeros(n, np.int64))


@pytest.fixture(scope="module")
def model() -> MMOE:
    return train_mmoe(visible(), CONFIG, seed=1)


@pytest.fixture(scope="module")
def outputs(model: MMOE) -> tuple[Examples, torch.Tensor]:
    fresh = visible(seed=2)
    with torch.no_grad():
        return fresh, model(torch.from_numpy(fresh.features))


@pytest.mark.parametrize("task", ["purchase", "repurchase"])
def test_rows_it_never_saw_are_separated(outputs: tuple[Examples, torch.Tensor], task: str) -> None:
    given, scores = outputs
    right = (scores[:, given.tasks.index(task)].numpy() > 0) == (given.label(task) > 0)
    assert right.mean() > 0.93


def test_spend_is_learned_where_something_was_bought(outputs: tuple[Examples, torch.Tensor]) -> None:
    given, scores = outputs
    rows = given.label("purchase") > 0
    assert np.corrcoef(scores[:, 2].numpy()[rows], given.label("spend")[rows])[0, 1] > 0.7


def test_the_same_seed_gives_the_same_bits(outputs: tuple[Examples, torch.Tensor]) -> None:
    given, scores = outputs
    again, other = train_mmoe(visible(), CONFIG, seed=1), train_mmoe(visible(), CONFIG, seed=2)
    with torch.no_grad():
        assert torch.equal(again(torch.from_numpy(given.features)), scores)
        assert not torch.equal(other(torch.from_numpy(given.features)), scores)


def test_negatives_left_out_leave_the_level_of_the_probability() -> None:
    """One candidate in fifty is bought whatever its features: with a tenth of the others seen, the mean stays 0.02."""
    rng = np.random.default_rng(1)
    n = 10_000
    bought = (rng.random(n) < 0.02).astype(np.float32)
    features = rng.normal(size=(n, 2)).astype(np.float32)
    labels = np.stack([bought, bought, bought], axis=1)
    given = Examples(features, labels, np.arange(n) // 100, np.zeros(n, np.int64))
    config = replace(CONFIG, steps=40, negatives=0.1)
    p = 1 / (1 + np.exp(-mmoe_logits(train_mmoe(given, config, seed=1), features)))
    assert 0.015 < p.mean() < 0.027


def test_a_view_is_learned_as_a_stage_of_its_own() -> None:
    base = visible()
    view = np.maximum(base.label("purchase"), base.features[:, 1] > 0).astype(np.float32)
    labels = np.column_stack([base.labels, view])
    given = Examples(base.features, labels, base.group, base.cut, tasks=(*base.tasks, "view"))
    model = train_mmoe(given, CONFIG, seed=1)
    with torch.no_grad():
        raw = model(torch.from_numpy(given.features)).numpy()
    assert ((raw[:, 3] > 0) == (view > 0)).mean() > 0.9
    assert ((raw[:, 0] > 0) == (given.label("purchase") > 0)).mean() > 0.9
    assert (raw[:, 0] <= raw[:, 3] + 1e-5).all()


def test_the_network_so_far_is_shown_at_every_stop_and_at_the_end() -> None:
    seen = []

    def watch(done: int, model: MMOE) -> None:
        seen.append((done, model.training))

    train_mmoe(visible(100), replace(CONFIG, steps=5, every=2), seed=1, watch=watch)
    assert seen == [(2, False), (4, False), (5, False)]
    seen.clear()
    train_mmoe(visible(100), CONFIG, seed=1, steps=2, watch=watch)
    assert seen == [(2, False)]


def test_a_feature_that_never_varied_in_training_cannot_blow_up_a_score(model: MMOE) -> None:
    rows = torch.from_numpy(visible(n=4).features)
    rows[:, 3] = 1e9
    with torch.no_grad():
        assert torch.isfinite(model(rows)).all()


def test_without_examples_there_is_an_untrained_network_in_eval_mode() -> None:
    nothing = Examples.empty(4)
    untrained = train_mmoe(nothing, CONFIG, seed=1)
    assert not untrained.training
    assert gate_entropy(untrained, nothing) == []
    assert mmoe_logits(untrained, nothing.features).shape == (0,)


def test_gate_entropy_is_1_for_even_gates_and_0_for_a_single_expert() -> None:
    given = visible(n=50)
    untrained = train_mmoe(given, RankingConfig(steps=0, experts=3), seed=1)
    with torch.no_grad():
        for gate in untrained.gates:
            gate.weight.zero_()
            gate.bias.zero_()
    assert gate_entropy(untrained, given) == [1.0, 1.0, 1.0]
    with torch.no_grad():
        untrained.gates[1].bias[0] = 100.0
    assert gate_entropy(untrained, given) == [1.0, 0.0, 1.0]
