"""Rankers leave as ONNX of one contract: `features` float32[C, F] -> `scores` float32[C, T], whose column 0, the
calibrated probability of a purchase, ranks. Serving runs either without knowing which it is. Those with a network in
them give its purchase gate beside the scores, `gates` float32[C, E], for whoever asks why.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import onnx
import onnx.compose
import torch
from onnx import TensorProto, helper

from infra.errors import GateError
from offline.calibration import Calibration
from offline.export import OPSET, TOLERANCE, export_network
from offline.models.mmoe import MMOE, ExplainedScorer, MMOEScorer
from offline.train_catboost import catboost_scores
from offline.tree_graph import tree_nodes, trees_of
from streams.encoder import onnx_session

if TYPE_CHECKING:
    from catboost import CatBoost

Floats = npt.NDArray[np.float32]
IR_VERSION = 10
EDGE = 1e-6  # float32 still tells 1 - EDGE from 1


def export_mmoe(model: MMOE, calibration: Calibration, path: Path, sample: Floats) -> float:
    """Write the network; returns the largest difference to torch on `sample` float32[n, F].

    Raises:
        GateError: it differs by more than offline.export.TOLERANCE.
    """
    rows = sample if len(sample) > 1 else np.zeros((2, model.config.n_features), np.float32)
    scorer = MMOEScorer(model, calibration.scale, calibration.shift).eval()
    explained = ExplainedScorer(scorer).eval()
    return export_network(explained, (torch.from_numpy(rows),), ("features",), path, ("scores", "gates"))


def export_catboost(model: CatBoost, calibration: Calibration, path: Path, sample: Floats) -> float:
    """Write the trees with their calibration; returns the largest difference to catboost on `sample` float32[n, F].

    Raises:
        GateError: it differs by more than offline.export.TOLERANCE.
    """
    nodes, constants = tree_nodes(trees_of(model), "features", "raw")
    nodes += [
        helper.make_node("Mul", ["raw", "scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "shift"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["scores"]),
    ]
    constants += [
        helper.make_tensor("scale", TensorProto.FLOAT, [1], [calibration.scale]),
        helper.make_tensor("shift", TensorProto.FLOAT, [1], [calibration.shift]),
    ]
    graph = helper.make_graph(
        nodes,
        "catboost",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", sample.shape[1]])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 1])],
        constants,
    )
    _save(graph, {"": OPSET}, path)
    return _difference(path, sample, calibration.apply(catboost_scores(model, sample)))


def blend_logits(one: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> Floats:
    """Mean of the logits of two probabilities, each kept EDGE away from 0 and 1; float32[n]."""
    p = np.clip(np.stack([one, other]), EDGE, 1.0 - EDGE)
    return np.asarray(np.mean(np.log(p) - np.log1p(-p), axis=0), np.float32)


def export_blend(
    mmoe: Path,
    trees: Path,
    calibration: Calibration,
    path: Path,
    sample: Floats,
    expected: npt.NDArray[np.float64],
) -> float:
    """Join two exported rankers, whose files are removed: the calibrated mean of their logits; returns the largest
    difference to `expected` float64[n] on `sample` float32[n, F].

    Raises:
        GateError: it differs by more than offline.export.TOLERANCE.
    """
    nodes, initializers, logits = [], [], []
    opsets: dict[str, int] = {}
    for name, file in (("mmoe", mmoe), ("trees", trees)):
        part = onnx.compose.add_prefix(onnx.load(str(file)), f"{name}/")
        width = part.graph.input[0].type.tensor_type.shape.dim[1].dim_value
        opsets |= {entry.domain: entry.version for entry in part.opset_import}
        nodes += [
            helper.make_node("Identity", ["features"], [part.graph.input[0].name]),
            *part.graph.node,
            helper.make_node("Gather", [part.graph.output[0].name, "first"], [f"{name}/p"], axis=1),
            helper.make_node("Clip", [f"{name}/p", "low", "high"], [f"{name}/inside"]),
            helper.make_node("Sub", ["one", f"{name}/inside"], [f"{name}/rest"]),
            helper.make_node("Div", [f"{name}/inside", f"{name}/rest"], [f"{name}/odds"]),
            helper.make_node("Log", [f"{name}/odds"], [f"{name}/joined"]),
        ]
        initializers += part.graph.initializer
        logits.append(f"{name}/joined")
        file.unlink()
    nodes += [
        helper.make_node("Identity", ["mmoe/gates"], ["gates"]),
        helper.make_node("Mean", logits, ["mean"]),
        helper.make_node("Mul", ["mean", "scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "shift"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["scores"]),
    ]
    numbers = {"low": EDGE, "high": 1.0 - EDGE, "one": 1.0, "scale": calibration.scale, "shift": calibration.shift}
    initializers += [helper.make_tensor(name, TensorProto.FLOAT, [], [value]) for name, value in numbers.items()]
    initializers.append(helper.make_tensor("first", TensorProto.INT64, [1], [0]))
    graph = helper.make_graph(
        nodes,
        "blend",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", width])],
        [
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 1]),
            helper.make_tensor_value_info("gates", TensorProto.FLOAT, ["batch", "experts"]),
        ],
        initializers,
    )
    _save(graph, opsets, path)
    return _difference(path, sample, expected)


def _save(graph: onnx.GraphProto, opsets: dict[str, int], path: Path) -> None:
    imports = [helper.make_opsetid(domain, version) for domain, version in opsets.items()]
    model = helper.make_model(graph, opset_imports=imports, ir_version=IR_VERSION)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def _difference(path: Path, sample: Floats, expected: npt.NDArray[np.float64]) -> float:
    (given,) = onnx_session(str(path)).run(["scores"], {"features": sample})
    difference = float(np.abs(given[:, 0] - expected).max(initial=0.0))
    if not difference <= TOLERANCE:
        raise GateError(f"{path.name}: ONNX differs from what was trained by {difference:.2e}, allowed {TOLERANCE:.0e}")
    return difference
