"""The tiny shop's bundle with photos: a network that sees of a picture its mean colour, and nothing to train."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper
from PIL import Image

from infra.bundle import Bundle
from serving.content_space import Projection, unit_rows
from serving.image_encoder import NETWORK, VECTORS, Preparation, save_picture_space
from tests.support.remade import remade

Colour = tuple[int, int, int]
SIDE = 8


def photo(colour: Colour, kind: str = "PNG", size: tuple[int, int] = (24, 16)) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, colour).save(out, kind)
    return out.getvalue()


def seen(bundle: Bundle, directory: Path, colours: Sequence[Colour]) -> Bundle:
    """A copy whose articles, in their order, have photos of these colours; black is no photo. Cosines are those of the
    colours, and what a search shows is alike by 0.9."""

    def change(copy: Path) -> None:
        onnx.save(_mean_colour(), str(copy / NETWORK))
        np.save(copy / VECTORS, unit_rows(np.array(colours, np.float32)).astype(np.float16))
        preparation = Preparation(SIDE, "squash", "bilinear", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
        as_it_is = Projection(np.zeros(3, np.float32), np.eye(3, dtype=np.float32))
        save_picture_space(copy, "mean-colour-1", preparation, as_it_is, 0.9)

    return remade(bundle, directory, change)


def _mean_colour() -> onnx.ModelProto:
    given = helper.make_tensor_value_info("pictures", TensorProto.FLOAT, ["n", 3, SIDE, SIDE])
    returned = helper.make_tensor_value_info("vectors", TensorProto.FLOAT, ["n", 3])
    axes = helper.make_tensor("axes", TensorProto.INT64, [2], [2, 3])
    node = helper.make_node("ReduceMean", ["pictures", "axes"], ["vectors"], keepdims=0)
    graph = helper.make_graph([node], "mean colour", [given], [returned], [axes])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
