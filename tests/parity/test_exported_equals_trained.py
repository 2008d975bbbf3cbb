"""The networks of a bundle compute in ONNX what their trained weights compute in torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from offline.histories import load_histories
from offline.models.two_tower import TwoTower
from offline.ranker_checkpoint import load_rankers
from offline.rankers import NAMES, Rankers
from offline.train_retrieval import ItemInputs, item_inputs, item_vectors, new_two_tower
from offline.trained_encoder import TrainedEncoder
from offline.weights import load_weights
from serving.ranking import Ranker
from streams.bundle_contract import FEATURES
from streams.encoder import SEQUENCE_LENGTH, EncoderInput
from streams.state import empty_state, fold
from tests.support.tiny import TINY
from tests.support.tiny_fixture import Tiny

SIZES = [1, 2, 3, 64, 257]


def inputs_of(tiny: Tiny) -> ItemInputs:
    """What the towers were trained on: the bundle holds all of it."""
    return item_inputs(tiny.runtime.items, tiny.runtime.catalog.content)


@pytest.fixture(scope="module")
def tower(tiny: Tiny) -> TwoTower:
    model = new_two_tower(inputs_of(tiny), TINY.learn.tower, seed=99)
    assert load_weights(model, tiny.checkpoint("tower-3.npz"))
    return model.eval()


@pytest.fixture(scope="module")
def rankers(tiny: Tiny) -> Rankers:
    found = load_rankers(tiny.checkpoint("rankers.json").parent)
    assert found is not None
    return found


@pytest.mark.parametrize("size", SIZES)
def test_query_encoder(tiny: Tiny, tower: TwoTower, size: int) -> None:
    for seed in range(5):
        rng = np.random.default_rng([size, seed])
        lengths = rng.integers(1, SEQUENCE_LENGTH + 1, size)
        mask = (np.arange(SEQUENCE_LENGTH) >= SEQUENCE_LENGTH - lengths[:, None]).astype(np.float32)
        rows = (rng.integers(0, len(tiny.runtime.items), mask.shape) * mask).astype(np.int64)
        gaps = np.sort(rng.uniform(0, 7, mask.shape), axis=1)[:, ::-1].astype(np.float32) * mask
        given = tiny.runtime.encoder.run(EncoderInput(rows, gaps, mask))
        vectors = torch.from_numpy(item_vectors(tower, inputs_of(tiny))[rows])
        with torch.no_grad():
            expected = tower.query_encoder(vectors, torch.from_numpy(gaps), torch.from_numpy(mask)).numpy()
        assert given.shape == expected.shape == (size, TINY.learn.tower.dim)
        np.testing.assert_allclose(given, expected, atol=1e-5)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", NAMES)
def test_ranker(rankers: Rankers, name: str, size: int, tmp_path: Path) -> None:
    encoding = rankers.mmoe
    path = tmp_path / "ranker.onnx"
    rankers.export(name, path, np.zeros((2, len(FEATURES)), np.float32))
    exported = Ranker(path, rankers.tasks(name))
    for seed in range(5):
        rng = np.random.default_rng([size, seed])
        # Wide enough to reach the clamp of the standardisation now and then.
        features = (encoding.mean.numpy() + encoding.std.numpy() * rng.normal(0, 4, (size, len(FEATURES)))).astype(
            np.float32
        )
        given = exported.score(features)
        assert given.shape == (size, len(rankers.tasks(name)))
        np.testing.assert_allclose(given[:, 0], rankers.probabilities(name, features), atol=1e-4, rtol=1e-4)
        same, gates = exported.explained(features)
        np.testing.assert_array_equal(same, given)
        if name == "catboost":
            assert gates is None
        else:
            with torch.no_grad():
                weights = encoding.gate_weights(torch.from_numpy(features.copy()))
            np.testing.assert_allclose(gates, weights[:, encoding.config.tasks.index("purchase")], atol=1e-4)
        probabilities = np.delete(given, [i for i, task in enumerate(exported.tasks) if task == "spend"], axis=1)
        assert ((probabilities >= 0) & (probabilities <= 1)).all()


def test_the_bundle_serves_the_ranker_that_was_chosen(tiny: Tiny, rankers: Rankers, tmp_path: Path) -> None:
    assert tiny.runtime.manifest.config["ranker"] == rankers.serving
    assert tiny.runtime.ranker.tasks == rankers.tasks(rankers.serving)
    features = np.random.default_rng(1).normal(size=(50, len(FEATURES))).astype(np.float32)
    rankers.export(rankers.serving, tmp_path / "again.onnx", features)
    again = Ranker(tmp_path / "again.onnx", rankers.tasks(rankers.serving))
    assert np.array_equal(again.score(features), tiny.runtime.ranker.score(features))


def test_ranker_of_no_candidates(tiny: Tiny) -> None:
    ranker = tiny.runtime.ranker
    assert ranker.score(np.empty((0, len(FEATURES)), np.float32)).shape == (0, len(ranker.tasks))


def test_past_weeks_are_encoded_as_the_bundle_encodes(tiny: Tiny, tower: TwoTower) -> None:
    """Ranking examples of earlier cuts use the network itself, requests its export."""
    histories = load_histories(tiny.log, tiny.runtime.manifest.trained_through)
    found = [state for customer in histories.customers if (state := histories.state(customer)) is not None]
    stranger, _ = fold(empty_state("x"), [])
    items, vectors = tiny.runtime.items, item_vectors(tower, inputs_of(tiny))
    encoder = TrainedEncoder(tower, vectors, items.index, "a past week")
    assert (encoder.dim, encoder.space) == (tiny.runtime.encoder.dim, "a past week")
    given = encoder.encode([*found, stranger])
    assert given.dtype == np.float32
    # To within one step of the float16 that both are rounded to.
    np.testing.assert_allclose(given, tiny.runtime.encoder.encode([*found, stranger]), rtol=2**-10, atol=1e-5)
    assert not given[-1].any()
    assert encoder.encode([]).shape == (0, encoder.dim)


def test_item_vectors_are_those_of_the_newest_tower(tiny: Tiny, tower: TwoTower) -> None:
    stored = np.load(tiny.bundle.file("item_vectors.npy"), allow_pickle=False)
    np.testing.assert_allclose(stored, item_vectors(tower, inputs_of(tiny)), atol=1e-6)
    early = new_two_tower(inputs_of(tiny), TINY.learn.tower, seed=99)
    assert load_weights(early, tiny.checkpoint("tower-0.npz"))
    assert not np.allclose(stored, item_vectors(early.eval(), inputs_of(tiny)), atol=1e-3)
