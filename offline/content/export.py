"""Encoders leave torch as ONNX, so that a query meets articles where nothing of training is installed.

Weights are kept at half precision and widened when the network is opened: half the bytes for a difference far below
that of the vectors, which bundles keep at half precision too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from infra.errors import ConfigurationError, GateError
from offline.content.clip import ClipEncoder
from offline.content.efficientnet import EfficientNetEncoder
from offline.content.encoders import Encoder
from offline.content.sentences import SentenceEncoder
from offline.export import onnx_program
from serving.content_space import space_name, unit_rows
from serving.image_encoder import Preparation
from serving.text_encoder import MAX_TOKENS, Pieces
from streams.encoder import onnx_session

# Of the cosine between what torch and what ONNX says, for anything that both look at.
MAX_APART = 1e-4
_LARGE = 1_024  # entries from which an array is halved: biases and norms are not worth it


class _Sentence(torch.nn.Module):
    """BERT, the mean of its last layer over the pieces of one text, at length 1: what sentence-transformers does."""

    def __init__(self, bert: Any) -> None:
        super().__init__()
        self.bert = bert

    def forward(self, pieces: torch.Tensor) -> torch.Tensor:
        known = self.bert(input_ids=pieces, attention_mask=torch.ones_like(pieces), return_dict=True)
        return torch.nn.functional.normalize(known.last_hidden_state.mean(dim=1), dim=-1)


def export_text_encoder(encoder: Encoder, network: Path, pieces: Path) -> bool:
    """Write the two files of serving/text_encoder.py; False where this kind of encoder cannot leave torch: only
    sentence encoders over BERT's pieces of words can.

    Raises:
        GateError: the exported network differs.
    """
    if not isinstance(encoder, SentenceEncoder):
        return False
    vocabulary = encoder.pieces()
    if vocabulary is None:
        return False
    module = _Sentence(encoder.network()).eval()
    draw = torch.Generator().manual_seed(7)
    samples = [torch.randint(len(vocabulary), (1, length), generator=draw) for length in (9, 2, MAX_TOKENS)]
    _export(module, samples, "pieces", "vector", {1: torch.export.Dim("length", min=2, max=MAX_TOKENS)}, network)
    pieces.write_bytes(msgspec.json.encode(Pieces(space_name(encoder.name, encoder.revision), vocabulary)))
    return True


def export_image_encoder(encoder: Encoder, network: Path) -> Preparation:
    """Write what serving/image_encoder.py looks with; returns how it wants its pictures.

    Raises:
        ConfigurationError: this kind of encoder cannot leave torch, or prepares pictures in a way unknown to serving.
        GateError: the exported network differs.
    """
    if isinstance(encoder, ClipEncoder):
        module, preparation = encoder.visual, encoder.preparation
    elif isinstance(encoder, EfficientNetEncoder):
        module, preparation = encoder.network, encoder.preparation
    else:
        raise ConfigurationError(
            f"the encoder {encoder.name} cannot be carried by a bundle; name efficientnet or a clip:... encoder"
        )
    draw = torch.Generator().manual_seed(7)
    side = preparation.side
    samples = [torch.randn(count, 3, side, side, generator=draw) for count in (2, 1)]
    _export(module, samples, "pictures", "vectors", {0: torch.export.Dim("count", min=1, max=1_024)}, network)
    return preparation


def _export(
    module: torch.nn.Module, samples: list[torch.Tensor], given: str, returned: str, free: dict[int, Any], path: Path
) -> None:
    program = onnx_program(module, (samples[0],), (given,), (returned,), (free,))
    if program is None:
        raise GateError(f"{path.name}: torch returned no ONNX program")
    onnx.save(_halved(program.model_proto), str(path))
    session = onnx_session(str(path))
    with torch.no_grad():
        for sample in samples:
            expected = unit_rows(module(sample).numpy())
            found = unit_rows(session.run([returned], {given: sample.numpy()})[0])
            apart = float(np.max(1 - (expected * found).sum(axis=1)))
            if not apart <= MAX_APART:
                raise GateError(f"{path.name}: ONNX differs from torch by {apart:.1e} in cosine, allowed {MAX_APART}")


def _halved(model: Any) -> Any:
    """The same network with its large weights at half precision, each behind a cast that runs when it is opened."""
    graph = model.graph
    for weight in list(graph.initializer):
        if weight.data_type != TensorProto.FLOAT or np.prod(weight.dims) < _LARGE:
            continue
        half = numpy_helper.from_array(numpy_helper.to_array(weight).astype(np.float16), f"{weight.name}.half")
        graph.initializer.remove(weight)
        graph.initializer.append(half)
        graph.node.insert(0, helper.make_node("Cast", [half.name], [weight.name], to=TensorProto.FLOAT))
    return model
