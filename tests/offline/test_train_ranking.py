"""The ranker learns what separates bought from not bought, repeats, and stays finite on odd features."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from offline.examples import Examples
from offline.train_ranking import RankingConfig, gate_entropy, train_mmoe

CONFIG = RankingConfig(epochs=20, batch=128, learning_rate=2e-2, experts=3)


def visible(n: int = 400, seed: int = 1) -> Examples:
    """Feature 0 decides the purchase, feature 1 the amount, feature 2 is noise, feature 3 never varies."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, 4)).astype(np.float32)
    features[:, 3] = 7.0
    bought = (features[:, 0] > 0.5).astype(np.float32)
    spend = (bought * (2 + features[:, 1] * 0.5)).astype(np.float32)
    again = bought * (features[:, 2] > 0)
    return Examples(features, np.stack([bought, again, spend], axis=1), np.arange(n) // 10, np.zeros(n, np.int64))


@pytest.fixture(scope="module")
def outputs() -> tuple[Examples, torch.Tensor]:
    fresh = visible(seed=2)
    model = train_mmoe(visible(), CONFIG, seed=1)
    with torch.no_grad():
        return fresh, model(torch.from_numpy(fresh.features))


def test_rows_it_never_saw_are_separated(outputs: tuple[Examples, torch.Tensor]) -> None:
    given, scores = outputs
    right = (scores[:, 0].numpy() > 0) == (given.label("purchase") > 0)
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


def test_a_feature_that_never_varied_in_training_cannot_blow_up_a_score() -> None:
    model = train_mmoe(visible(), CONFIG, seed=1)
    rows = torch.from_numpy(visible(n=4).features)
    rows[:, 3] = 1e9
    with torch.no_grad():
        assert torch.isfinite(model(rows)).all()
        assert model.standardise(rows).abs().max() <= 8.0


def test_without_examples_there_is_an_untrained_network_in_eval_mode() -> None:
    nothing = Examples.empty(4)
    model = train_mmoe(nothing, CONFIG, seed=1)
    assert not model.training
    assert gate_entropy(model, nothing) == []


def test_gate_entropy_is_1_for_even_gates_and_0_for_a_single_expert() -> None:
    given = visible(n=50)
    model = train_mmoe(given, RankingConfig(epochs=1, experts=3), seed=1)
    with torch.no_grad():
        for gate in model.gates:
            gate.weight.zero_()
            gate.bias.zero_()
    assert gate_entropy(model, given) == [1.0, 1.0, 1.0]
    with torch.no_grad():
        model.gates[1].bias[0] = 100.0
    assert gate_entropy(model, given) == [1.0, 0.0, 1.0]
