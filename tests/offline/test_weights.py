"""Checkpoints come back bit for bit, and a file that is not whole is no checkpoint."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from offline.examples import TASKS, Examples
from offline.models.mmoe import MMOE, MMOEConfig
from offline.weights import load_examples, load_weights, save_examples, save_weights


def network(seed: int, n_features: int = 3) -> MMOE:
    torch.manual_seed(seed)
    return MMOE(MMOEConfig(n_features=n_features, tasks=TASKS, n_experts=2, hidden=4, expert_dim=4, tower_dim=2))


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


def test_weights_come_back_bit_for_bit(tmp_path: Path) -> None:
    trained, fresh = network(1), network(2)
    assert not same(trained, fresh)
    save_weights(trained, tmp_path / "deep" / "w.npz")
    assert load_weights(fresh, tmp_path / "deep" / "w.npz")
    assert same(trained, fresh)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["w.npz"]  # nothing half-written beside it


def test_no_file_is_no_checkpoint(tmp_path: Path) -> None:
    assert not load_weights(network(1), tmp_path / "w.npz")
    assert load_examples(tmp_path / "e.npz") is None


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.9, 0.999])
def test_a_truncated_file_is_no_checkpoint_and_changes_nothing(tmp_path: Path, share: float) -> None:
    path = tmp_path / "w.npz"
    save_weights(network(1), path)
    raw = path.read_bytes()
    path.write_bytes(raw[: int(len(raw) * share)])
    model = network(2)
    assert not load_weights(model, path)
    assert same(model, network(2))


def test_a_flipped_bit_in_the_weights_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "w.npz"
    model = network(1)
    save_weights(model, path)
    raw = bytearray(path.read_bytes())
    place = raw.find(model.state_dict()["experts.0.0.weight"].numpy().tobytes())
    assert place > 0
    raw[place] ^= 1
    path.write_bytes(raw)
    assert not load_weights(network(2), path)


def test_a_checkpoint_of_another_shape_is_not_taken(tmp_path: Path) -> None:
    save_weights(network(1, n_features=5), tmp_path / "w.npz")
    model = network(2, n_features=3)
    assert not load_weights(model, tmp_path / "w.npz")
    assert same(model, network(2, n_features=3))


def test_examples_come_back_and_a_truncated_table_does_not(tmp_path: Path) -> None:
    path = tmp_path / "e.npz"
    given = Examples(
        np.arange(6, dtype=np.float32).reshape(2, 3),
        np.array([[0, 0, 0, 1], [1, 0, 2.5, 1]], np.float32),
        np.array([0, 0], np.int64),
        np.array([5, 5], np.int64),
        tasks=(*TASKS, "view"),
    )
    save_examples(given, path)
    found = load_examples(path)
    assert found is not None
    assert found.tasks == given.tasks
    for name in ("features", "labels", "group", "cut"):
        one, other = getattr(found, name), getattr(given, name)
        assert one.dtype == other.dtype
        assert np.array_equal(one, other)
    path.write_bytes(path.read_bytes()[:-40])
    assert load_examples(path) is None


def test_a_pickle_in_a_checkpoint_is_never_run(tmp_path: Path) -> None:
    path = tmp_path / "e.npz"
    np.savez(path, features=np.array([{"a": 1}], dtype=object))
    assert load_examples(path) is None
