"""The word vectors of serving/word_vectors.py behind the seam of encoders."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from offline.content.encoders import text_only
from serving.word_vectors import DIM, NAME, REVISION, WordVectors


class WordEncoder:
    """What a process that serves can compute too, so a new article needs no other to be found by its content."""

    name = NAME
    revision = REVISION
    dim = DIM
    sees_images = False

    def __init__(self) -> None:
        self.encode_text = WordVectors()

    def encode_image(self, images: Sequence[bytes]) -> npt.NDArray[np.float32]:
        del images
        raise text_only(self.name)
