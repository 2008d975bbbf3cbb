"""Networks leave torch as ONNX, and are compared with what they were before anyone trusts them."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

from infra.errors import GateError
from offline.models.two_tower import TwoTower
from streams.encoder import SEQUENCE_LENGTH, onnx_session

TOLERANCE = 1e-4
OPSET = 18


def export_query_encoder(model: TwoTower, path: Path) -> float:
    """Write the query encoder; returns the largest difference to torch on random input.

    Raises:
        GateError: it differs by more than TOLERANCE.
    """
    dim = model.config.dim
    generator = torch.Generator().manual_seed(7)
    mask = torch.ones(3, SEQUENCE_LENGTH)
    mask[1, : SEQUENCE_LENGTH // 2] = 0
    inputs = (
        torch.randn(3, SEQUENCE_LENGTH, dim, generator=generator) * mask.unsqueeze(-1),
        torch.rand(3, SEQUENCE_LENGTH, generator=generator) * 4 * mask,
        mask,
    )
    return export_network(model.query_encoder.eval(), inputs, ("items", "gaps", "mask"), path)


def onnx_program(
    module: torch.nn.Module,
    inputs: tuple[torch.Tensor, ...],
    names: tuple[str, ...],
    outputs: tuple[str, ...],
    free: tuple[dict[int, Any], ...],
) -> torch.onnx.ONNXProgram | None:
    """The graph of a network; `free` names, for each input, the axes of any length."""
    # The exporter warns about an absent torchvision and about axes of equal name; neither concerns these graphs.
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.onnx.export(
            module,
            inputs,
            dynamo=True,
            input_names=list(names),
            output_names=list(outputs),
            dynamic_shapes=free,
            opset_version=OPSET,
            verbose=False,
        )


def export_network(
    module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], names: tuple[str, ...], path: Path
) -> float:
    """Write a network with the one output `scores` and rows free; returns the largest difference to torch on `inputs`.

    Raises:
        GateError: it differs by more than TOLERANCE.
    """
    free = tuple({0: torch.export.Dim("batch", min=1, max=1_000_000)} for _ in names)
    program = onnx_program(module, inputs, names, ("scores",), free)
    if program is None:
        raise GateError(f"{path.name}: torch returned no ONNX program")
    onnx.save(program.model_proto, str(path))
    with torch.no_grad():
        expected = module(*inputs).numpy()
    given = onnx_session(str(path)).run(None, {n: t.numpy() for n, t in zip(names, inputs, strict=True)})[0]
    difference = float(np.abs(given - expected).max())
    if not difference <= TOLERANCE:
        raise GateError(f"{path.name}: ONNX differs from torch by {difference:.2e}, allowed {TOLERANCE:.0e}")
    return difference
