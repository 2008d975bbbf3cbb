"""Rankers leave as ONNX of one contract: `features` float32[C, F] -> `scores` float32[C, T], whose column 0, the
calibrated probability of a purchase, ranks. Serving runs either without knowing which it is.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import TensorProto, helper

from infra.errors import GateError
from offline.calibration import Calibration
from offline.export import OPSET, TOLERANCE, export_network
from offline.models.mmoe import MMOE, MMOEScorer
from offline.train_catboost import catboost_scores
from streams.encoder import onnx_session

if TYPE_CHECKING:
    from catboost import CatBoost

Floats = npt.NDArray[np.float32]


def export_mmoe(model: MMOE, calibration: Calibration, path: Path, sample: Floats) -> float:
    """Write the network; returns the largest difference to torch on `sample` float32[n, F].

    Raises:
        GateError: it differs by more than offline.export.TOLERANCE.
    """
    rows = sample if len(sample) > 1 else np.zeros((2, model.config.n_features), np.float32)
    scorer = MMOEScorer(model, calibration.scale, calibration.shift).eval()
    return export_network(scorer, (torch.from_numpy(rows),), ("features",), path)


def export_catboost(model: CatBoost, calibration: Calibration, path: Path, sample: Floats) -> float:
    """Write the trees with their calibration; returns the largest difference to catboost on `sample` float32[n, F].

    Raises:
        GateError: it differs by more than offline.export.TOLERANCE.
    """
    model.save_model(str(path), format="onnx")
    trees = onnx.load(str(path))
    (node,) = trees.graph.node  # one TreeEnsembleRegressor
    nodes = [
        node,
        helper.make_node("Mul", [node.output[0], "scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "shift"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["scores"]),
    ]
    width = trees.graph.input[0].type.tensor_type.shape.dim[1].dim_value
    graph = helper.make_graph(
        nodes,
        "catboost",
        [helper.make_tensor_value_info(node.input[0], TensorProto.FLOAT, ["batch", width])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 1])],
        [
            helper.make_tensor("scale", TensorProto.FLOAT, [1], [calibration.scale]),
            helper.make_tensor("shift", TensorProto.FLOAT, [1], [calibration.shift]),
        ],
    )
    opsets = [helper.make_opsetid("", OPSET), *trees.opset_import]
    whole = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    onnx.checker.check_model(whole)
    onnx.save(whole, str(path))
    (given,) = onnx_session(str(path)).run(None, {"features": sample})
    expected = calibration.apply(catboost_scores(model, sample))
    difference = float(np.abs(given[:, 0] - expected).max(initial=0.0))
    if not difference <= TOLERANCE:
        raise GateError(f"{path.name}: ONNX differs from catboost by {difference:.2e}, allowed {TOLERANCE:.0e}")
    return difference
