"""Oblivious trees as tensor operations: what they answer by hand, and what CatBoost itself answers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from offline.examples import Examples
from offline.export import OPSET
from offline.train_catboost import CatBoostConfig, catboost_scores, train_catboost
from offline.tree_graph import Trees, tree_nodes, trees_of

Floats = npt.NDArray[np.float32]


def answers(trees: Trees, rows: Floats) -> list[float]:
    nodes, constants = tree_nodes(trees, "features", "raw")
    given = helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", rows.shape[1]])
    made = helper.make_tensor_value_info("raw", TensorProto.FLOAT, ["batch", 1])
    graph = helper.make_graph(nodes, "trees", [given], [made], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    onnx.checker.check_model(model)
    (raw,) = ort.InferenceSession(model.SerializeToString()).run(["raw"], {"features": rows})
    assert raw.shape == (len(rows), 1)
    return list(raw[:, 0].tolist())


def test_by_hand() -> None:
    """Tree one asks for price > 10 and rank > 2, its leaves are 1, 2 without the rank and 3, 4 with it; tree two asks
    for rank > 1 alone. Twice the sum, and a half."""
    trees = Trees(
        feature=np.array([[0, 1], [1, 0]]),
        border=np.array([[10.0, 1.0], [2.0, np.inf]], np.float32),
        leaves=np.array([[1, 2, 3, 4], [10, 20, 0, 0]], np.float32),
        scale=2.0,
        bias=0.5,
    )
    rows = np.array([[5, 0], [11, 0], [5, 2], [11, 3], [10, 1], [np.nan, 9]], np.float32)
    assert answers(trees, rows) == [22.5, 24.5, 42.5, 48.5, 22.5, 46.5]
    assert answers(trees, rows[:1]) == [22.5]
    assert answers(trees, rows[:0]) == []


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_every_row_ends_in_the_leaf_that_its_answers_name(data: st.DataObject) -> None:
    depth, count, width, n = (data.draw(st.integers(1, most)) for most in (4, 5, 3, 6))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    trees = Trees(
        feature=rng.integers(0, width, (depth, count)),
        border=rng.integers(-2, 3, (depth, count)).astype(np.float32),
        leaves=rng.integers(-9, 10, (count, 2**depth)).astype(np.float32),
        scale=1.0,
        bias=float(rng.integers(-3, 4)),
    )
    rows = rng.integers(-3, 4, (n, width)).astype(np.float32)
    expected = []
    for row in rows:
        total = trees.bias
        for tree in range(count):
            asked = [row[trees.feature[level, tree]] > trees.border[level, tree] for level in range(depth)]
            total += trees.leaves[tree, sum(2**level for level, yes in enumerate(asked) if yes)]
        expected.append(total)
    assert answers(trees, rows) == expected


@pytest.mark.parametrize("questions", ["many", "one"])
def test_as_catboost_answers(questions: str) -> None:
    """Where one yes or no is all there is to ask, trees end before their depth."""
    rng = np.random.default_rng(3)
    rows = rng.normal(size=(400, 4)).astype(np.float32)
    if questions == "one":
        rows = np.where(np.arange(4) == 0, rows > 0, 1.0).astype(np.float32)
    bought = (rows[:, 0] + rng.normal(size=400) > 1).astype(np.float32)
    given = Examples(rows, np.stack([bought] * 3, axis=1), np.arange(400) // 20, np.zeros(400, np.int64))
    model = train_catboost(given, CatBoostConfig(rounds=30, depth=5, negatives=1.0), seed=1)
    trees = trees_of(model)
    assert len(trees.border) == (1 if questions == "one" else 5)
    fresh = rng.normal(size=(50, 4)).astype(np.float32)
    np.testing.assert_allclose(answers(trees, fresh), catboost_scores(model, fresh), atol=1e-5)
