"""Gates share out, the funnel narrows, and calibration moves the purchase without turning anything around."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from offline.models.mmoe import CHUNK, CLAMP, MMOE, MMOEConfig, MMOEScorer, joint_logit, moments

FULL = ("purchase", "repurchase", "spend", "view", "cart")


def network(tasks: tuple[str, ...] = FULL, seed: int = 1, **more: int) -> MMOE:
    torch.manual_seed(seed)
    return MMOE(MMOEConfig(n_features=4, tasks=tasks, n_experts=3, hidden=8, expert_dim=6, tower_dim=4, **more)).eval()


ROWS = 5 * torch.randn(200, 4, generator=torch.Generator().manual_seed(2))


def scores(model: MMOE, scale: float = 1.0, shift: float = 0.0) -> dict[str, torch.Tensor]:
    with torch.no_grad():
        out = MMOEScorer(model, scale, shift)(ROWS)
    return dict(zip(model.config.tasks, out.T, strict=True))


def test_gates_share_out_exactly_one() -> None:
    with torch.no_grad():
        weights = network().gate_weights(ROWS)
    assert weights.shape == (200, len(FULL), 3)
    assert (weights >= 0).all()
    assert torch.allclose(weights.sum(dim=-1), torch.ones(200, len(FULL)))


@pytest.mark.parametrize("tasks", [FULL, ("purchase", "view"), ("purchase", "cart"), ("purchase", "spend")])
@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (2.0, 4.0), (0.3, -2.0)])
def test_the_funnel_narrows_whatever_the_weights_and_the_calibration(
    tasks: tuple[str, ...], scale: float, shift: float
) -> None:
    for seed in range(5):
        found = scores(network(tasks, seed), scale, shift)
        stages = [found[task] for task in ("view", "cart", "purchase", "repurchase") if task in found]
        for wide, narrow in pairwise(stages):
            assert (narrow <= wide).all()
        assert all(((p >= 0) & (p <= 1)).all() for p in stages)


def test_calibration_changes_the_purchase_but_no_order() -> None:
    model = network()
    plain, moved = scores(model)["purchase"], scores(model, 1.7, 3.0)["purchase"]
    assert (moved > plain).all()
    assert torch.equal(torch.argsort(plain, stable=True), torch.argsort(moved, stable=True))


def test_joint_probability_by_hand_and_finite_at_the_ends() -> None:
    half = torch.tensor([0.0])
    assert torch.sigmoid(joint_logit(half, half)).item() == pytest.approx(0.25)
    assert torch.sigmoid(joint_logit(torch.tensor([30.0]), torch.tensor([-1.0]))).item() == pytest.approx(
        torch.sigmoid(torch.tensor(-1.0)).item()
    )
    ends = torch.tensor([-90.0, 90.0], requires_grad=True)
    out = joint_logit(ends, torch.tensor([-90.0, 90.0]))
    out.sum().backward()
    assert torch.isfinite(out).all()
    assert torch.isfinite(ends.grad).all()


def test_the_order_of_tasks_is_that_of_the_columns() -> None:
    """The same weights under another order of tasks give the same numbers, each in its own column."""
    first, second = network(("purchase", "view")), network(("view", "purchase"))
    for module in ("gates", "towers"):
        for place in range(2):
            getattr(second, module)[1 - place].load_state_dict(getattr(first, module)[place].state_dict())
    with torch.no_grad():
        assert torch.equal(first(ROWS), second(ROWS).flip(1))


def test_moments_of_more_rows_than_are_held_at_once() -> None:
    """The first column counts 0, 1, 0, 1, ...; the second is one number, which float32 sums would not keep."""
    rows = CHUNK + 2
    features = np.stack([np.arange(rows) % 2, np.full(rows, 1_000.1)], axis=1).astype(np.float32)
    mean, spread = moments(features)
    assert mean.tolist() == pytest.approx([0.5, 1_000.1], rel=1e-6)
    assert spread.tolist() == pytest.approx([0.5, 0.0], abs=1e-9)


def test_what_comes_in_stays_bounded_and_a_constant_cannot_blow_up() -> None:
    rng = np.random.default_rng(1)
    features = rng.normal(5, 3, (500, 4)).astype(np.float32)
    features[:, 3] = 7.0
    model = network()
    model.standardise_by(features)
    rows = torch.tensor([[1e9] * 4, [-1e9] * 4, [5.0, 5.0, 5.0, 7.0]])
    with torch.no_grad():
        assert torch.isfinite(model(rows)).all()
        assert model.standardise(rows).abs().max() <= CLAMP
    middle = model.standardise(torch.from_numpy(features)).mean(dim=0).tolist()
    assert middle == pytest.approx([0.0] * 4, abs=1e-4)
