"""The networks of a bundle compute in ONNX what their trained weights compute in torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from offline.examples import TASKS
from offline.models.mmoe import MMOE, MMOEConfig, MMOEScorer
from offline.models.two_tower import TwoTower
from offline.train_retrieval import item_inputs, item_vectors, new_two_tower
from offline.weights import load_weights
from serving.features import FEATURES
from streams.encoder import SEQUENCE_LENGTH, EncoderInput
from tests.support.tiny import TINY
from tests.support.tiny_fixture import Tiny

SIZES = [1, 2, 3, 64, 257]


@pytest.fixture(scope="module")
def tower(tiny: Tiny) -> TwoTower:
    model = new_two_tower(item_inputs(tiny.runtime.items), TINY.retrieval, seed=99)
    assert load_weights(model, tiny.checkpoint("tower-late.npz"))
    return model.eval()


@pytest.fixture(scope="module")
def ranker(tiny: Tiny) -> MMOE:
    model = MMOE(MMOEConfig(n_features=len(FEATURES), tasks=TASKS, n_experts=TINY.ranking.experts))
    assert load_weights(model, tiny.checkpoint("ranker.npz"))
    return model.eval()


@pytest.mark.parametrize("size", SIZES)
def test_query_encoder(tiny: Tiny, tower: TwoTower, size: int) -> None:
    for seed in range(5):
        rng = np.random.default_rng([size, seed])
        lengths = rng.integers(1, SEQUENCE_LENGTH + 1, size)
        mask = (np.arange(SEQUENCE_LENGTH) >= SEQUENCE_LENGTH - lengths[:, None]).astype(np.float32)
        rows = (rng.integers(0, len(tiny.runtime.items), mask.shape) * mask).astype(np.int64)
        gaps = np.sort(rng.uniform(0, 7, mask.shape), axis=1)[:, ::-1].astype(np.float32) * mask
        given = tiny.runtime.encoder.run(EncoderInput(rows, gaps, mask))
        vectors = torch.from_numpy(item_vectors(tower, item_inputs(tiny.runtime.items))[rows])
        with torch.no_grad():
            expected = tower.query_encoder(vectors, torch.from_numpy(gaps), torch.from_numpy(mask)).numpy()
        assert given.shape == expected.shape == (size, TINY.retrieval.dim)
        np.testing.assert_allclose(given, expected, atol=1e-5)


@pytest.mark.parametrize("size", SIZES)
def test_ranker(tiny: Tiny, ranker: MMOE, size: int) -> None:
    for seed in range(5):
        rng = np.random.default_rng([size, seed])
        # Wide enough to reach the clamp of the standardisation now and then.
        features = (ranker.mean.numpy() + ranker.std.numpy() * rng.normal(0, 4, (size, len(FEATURES)))).astype(
            np.float32
        )
        with torch.no_grad():
            expected = MMOEScorer(ranker)(torch.from_numpy(features)).numpy()
        given = tiny.runtime.ranker.score(features)
        assert given.shape == (size, len(TASKS))
        np.testing.assert_allclose(given, expected, atol=1e-4, rtol=1e-4)
        assert ((given[:, 0] >= 0) & (given[:, 0] <= 1)).all()


def test_ranker_of_no_candidates(tiny: Tiny) -> None:
    assert tiny.runtime.ranker.score(np.empty((0, len(FEATURES)), np.float32)).shape == (0, len(TASKS))


def test_item_vectors_are_those_of_the_late_tower(tiny: Tiny, tower: TwoTower) -> None:
    stored = np.load(tiny.bundle.file("item_vectors.npy"), allow_pickle=False)
    np.testing.assert_allclose(stored, item_vectors(tower, item_inputs(tiny.runtime.items)), atol=1e-6)
    early = new_two_tower(item_inputs(tiny.runtime.items), TINY.retrieval, seed=99)
    assert load_weights(early, tiny.checkpoint("tower-early.npz"))
    assert not np.allclose(stored, item_vectors(early.eval(), item_inputs(tiny.runtime.items)), atol=1e-3)
