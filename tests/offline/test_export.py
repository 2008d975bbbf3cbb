"""The exported networks give what torch gives, for any batch, and a difference is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from infra.errors import GateError
from offline import export
from offline.calibration import Calibration
from offline.export import TOLERANCE, export_query_encoder
from offline.export_ranker import export_mmoe
from offline.models.mmoe import MMOE, MMOEConfig, MMOEScorer
from offline.models.two_tower import QueryEncoderKind, TwoTower, TwoTowerConfig
from streams.encoder import SEQUENCE_LENGTH, onnx_session

CALIBRATION = Calibration(1.5, -0.5)


@pytest.fixture(scope="module")
def ranker(tmp_path_factory: pytest.TempPathFactory) -> tuple[MMOE, Path, float]:
    torch.manual_seed(1)
    model = MMOE(MMOEConfig(n_features=5, tasks=("purchase", "spend"), n_experts=2)).eval()
    path = tmp_path_factory.mktemp("ranker") / "ranker.onnx"
    sample = np.random.default_rng(1).normal(size=(16, 5)).astype(np.float32)
    return model, path, export_mmoe(model, CALIBRATION, path, sample)


@pytest.mark.parametrize("rows", [1, 2, 300])
def test_the_ranker_scores_any_batch_as_torch_does(ranker: tuple[MMOE, Path, float], rows: int) -> None:
    model, path, difference = ranker
    assert difference <= TOLERANCE
    features = np.random.default_rng(rows).normal(size=(rows, 5)).astype(np.float32)
    given, gates = onnx_session(str(path)).run(["scores", "gates"], {"features": features})
    with torch.no_grad():
        expected = MMOEScorer(model, CALIBRATION.scale, CALIBRATION.shift)(torch.from_numpy(features)).numpy()
        weights = model.gate_weights(torch.from_numpy(features))[:, 0].numpy()  # of the purchase
    assert given == pytest.approx(expected, abs=TOLERANCE)
    assert gates == pytest.approx(weights, abs=TOLERANCE)
    assert gates.sum(axis=1) == pytest.approx(np.ones(rows), abs=1e-5)
    assert ((given[:, 0] > 0) & (given[:, 0] < 1)).all()  # a probability


@pytest.mark.parametrize("kind", ["pooling", "transformer"])
def test_the_query_encoder_gives_unit_rows_and_ignores_what_is_masked(tmp_path: Path, kind: QueryEncoderKind) -> None:
    torch.manual_seed(1)
    model = TwoTower(TwoTowerConfig(n_items=3, attribute_sizes=(2,), n_words=10, dim=8, query_encoder=kind))
    path = tmp_path / "query_encoder.onnx"
    assert export_query_encoder(model, path) <= TOLERANCE
    rng = np.random.default_rng(1)
    mask = np.zeros((5, SEQUENCE_LENGTH), np.float32)
    mask[:, -4:] = 1
    items = rng.normal(size=(5, SEQUENCE_LENGTH, 8)).astype(np.float32)
    gaps = rng.random((5, SEQUENCE_LENGTH)).astype(np.float32)
    session = onnx_session(str(path))
    (vectors,) = session.run(None, {"items": items, "gaps": gaps, "mask": mask})
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(5), abs=1e-5)
    items[:, :-4] = 50.0
    (same,) = session.run(None, {"items": items, "gaps": gaps, "mask": mask})
    assert same == pytest.approx(vectors, abs=1e-5)
    (single,) = session.run(None, {"items": items[:1], "gaps": gaps[:1], "mask": mask[:1]})
    assert single == pytest.approx(vectors[:1], abs=1e-5)
    (empty,) = session.run(None, {"items": items * 0, "gaps": gaps * 0, "mask": mask * 0})
    assert np.isfinite(empty).all()


@pytest.mark.parametrize("shift", [2 * TOLERANCE, float("nan")])
@pytest.mark.parametrize("output", [0, 1], ids=["scores", "gates"])
def test_a_network_that_differs_is_refused(
    ranker: tuple[MMOE, Path, float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shift: float, output: int
) -> None:
    model, path, _ = ranker

    class Shifted:
        def run(self, names: list[str], inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
            given: list[np.ndarray] = onnx_session(str(path)).run(names, inputs)
            given[output] = given[output] + np.float32(shift)
            return given

    monkeypatch.setattr(export, "onnx_session", lambda _: Shifted())
    with pytest.raises(GateError, match=r"other\.onnx: ONNX differs from torch by .*, allowed 1e-04"):
        export_mmoe(model, CALIBRATION, tmp_path / "other.onnx", np.ones((3, 5), np.float32))
