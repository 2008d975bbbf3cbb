"""open_clip behind the encoder seam: any pretrained tag, or a local checkpoint, with text and images in one space.

What may be named (after `clip:`):

    MODEL@TAG                 open_clip's own list, for example ViT-B-32@laion2b_s34b_b79k; downloaded once by open_clip
    MODEL@FILE.safetensors    weights of a model that open_clip has a configuration of
    DIRECTORY                 open_clip_config.json and open_clip_model.safetensors, as `modiste bench content` writes

Weights are read from safetensors only. A .pt or .bin file is a pickle, which runs code when it is opened.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from infra.errors import ConfigurationError
from offline.content.encoders import file_revision, missing_package
from offline.content.images import decode_image
from serving.content_space import unit_rows
from serving.image_encoder import Preparation

CONFIG = "open_clip_config.json"
WEIGHTS = "open_clip_model.safetensors"
BATCH = 64


class ClipEncoder:
    """A loaded open_clip model with its tokenizer and its picture preparation (as in validation, no augmentation)."""

    sees_images = True

    def __init__(self, model: Any, prepare: Any, tokenize: Any, name: str, revision: str) -> None:
        self._model, self._prepare, self._tokenize = model.eval(), prepare, tokenize
        self.name, self.revision = name, revision
        self.dim = int(model.text_projection.shape[1] if hasattr(model, "text_projection") else _width(model, tokenize))
        size = model.visual.image_size
        self._side = max(size) if isinstance(size, (tuple, list)) else int(size)

    @property
    def visual(self) -> Any:
        """The half that looks at pictures."""
        return self._model.visual

    @property
    def preparation(self) -> Preparation:
        """How pictures become its input, in the words of serving.

        Raises:
            BundleError: in a way that serving does not know.
        """
        told = self._model.visual.preprocess_cfg
        return Preparation(
            self._side, told["resize_mode"], told["interpolation"], tuple(told["mean"]), tuple(told["std"])
        )

    def encode_text(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        import torch

        out = np.zeros((len(texts), self.dim), np.float32)
        with torch.inference_mode():
            for start in range(0, len(texts), BATCH):
                tokens = self._tokenize(list(texts[start : start + BATCH]))
                out[start : start + BATCH] = self._model.encode_text(tokens).float().numpy()
        return unit_rows(out)

    def encode_image(self, images: Sequence[bytes]) -> npt.NDArray[np.float32]:
        import torch

        out = np.zeros((len(images), self.dim), np.float32)
        with torch.inference_mode():
            for start in range(0, len(images), BATCH):
                pictures = [decode_image(content, 2 * self._side) for content in images[start : start + BATCH]]
                rows = [start + row for row, picture in enumerate(pictures) if picture is not None]
                if rows:
                    batch = torch.stack([self._prepare(picture) for picture in pictures if picture is not None])
                    out[rows] = self._model.encode_image(batch).float().numpy()
        return unit_rows(out)


def open_clip_encoder(where: str) -> ClipEncoder:
    """Load the model that `where` names (see the module).

    Raises:
        ConfigurationError: open_clip is not installed, the model, tag or file does not exist or cannot be downloaded,
            or its weights are not safetensors.
    """
    model_name, at, source = where.partition("@")
    if not at:
        return _from_directory(Path(where))
    open_clip = clip_library()
    if model_name not in open_clip.list_models():
        raise ConfigurationError(f"open_clip has no model {model_name!r}; `open_clip.list_models()` names them")
    tag = open_clip.get_pretrained_cfg(model_name, source)
    if tag:
        weights = _download(open_clip, model_name, source, tag)
    else:
        weights = _safe_file(Path(source), open_clip.list_pretrained_tags_by_model(model_name))
    model, _, prepare = _create(
        open_clip,
        model_name,
        pretrained=str(weights),
        force_quick_gelu=bool(tag.get("quick_gelu", False)),
        image_mean=tag.get("mean"),
        image_std=tag.get("std"),
        image_interpolation=tag.get("interpolation"),
        image_resize_mode=tag.get("resize_mode"),
    )
    tokenize = open_clip.get_tokenizer(model_name)
    return ClipEncoder(model, prepare, tokenize, f"clip-{model_name}", file_revision(weights))


def _from_directory(directory: Path) -> ClipEncoder:
    open_clip = clip_library()
    missing = [name for name in (CONFIG, WEIGHTS) if not (directory / name).is_file()]
    if missing:
        raise ConfigurationError(
            f"{directory} lacks {' and '.join(missing)}; name a MODEL@TAG or a directory with both"
        )
    model, _, prepare = _create(open_clip, f"local-dir:{directory}")
    tokenize = open_clip.get_tokenizer(f"local-dir:{directory}")
    revision = file_revision(directory / CONFIG, directory / WEIGHTS)
    return ClipEncoder(model, prepare, tokenize, f"clip-{directory.name}", revision)


def _create(open_clip: Any, name: str, **options: Any) -> Any:
    try:
        return open_clip.create_model_and_transforms(name, require_pretrained=True, weights_only=True, **options)
    except (RuntimeError, ValueError, OSError) as error:
        raise ConfigurationError(f"open_clip cannot load {name}: {error}") from error


def _download(open_clip: Any, model: str, tag: str, config: dict[str, Any]) -> Path:
    try:
        path = Path(open_clip.download_pretrained(config))
    except Exception as error:  # the hub's client and urllib raise errors of their own kinds
        raise ConfigurationError(
            f"the weights {model}@{tag} are not on this machine and cannot be downloaded: {error}; "
            f"copy a .safetensors file here and name it: clip:{model}@FILE.safetensors"
        ) from error
    return _safe_file(path, [])


def _safe_file(path: Path, tags: list[str]) -> Path:
    if path.suffix != ".safetensors":
        known = f"tags of this model are {', '.join(tags)}; " if tags else ""
        raise ConfigurationError(f"{path} is no .safetensors file, and pickles are not opened; {known}convert it first")
    if not path.is_file():
        raise ConfigurationError(f"no file {path}")
    return path


def clip_library() -> Any:
    """The package open_clip.

    Raises:
        ConfigurationError: it is not installed.
    """
    try:
        import open_clip
    except ModuleNotFoundError as error:
        raise missing_package("open_clip_torch") from error
    return open_clip


def _width(model: Any, tokenize: Any) -> int:
    import torch

    with torch.inference_mode():
        return int(model.encode_text(tokenize(["a"])).shape[1])
