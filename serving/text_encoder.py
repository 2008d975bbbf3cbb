"""Turns a shopper's words into a vector of the space that a bundle's texts were encoded in, without torch.

Where texts were encoded by their words there is nothing to open. Where a network did it, the bundle carries it
(text_encoder.onnx) with the pieces that it reads (text_encoder.json).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np

from infra.bundle import Bundle
from infra.errors import BundleError
from serving.content_space import Floats, space_name
from serving.word_vectors import NAME, REVISION, WordVectors
from serving.wordpiece import WordPiece
from streams.encoder import onnx_session

NETWORK, PIECES = "text_encoder.onnx", "text_encoder.json"
WORDS = space_name(NAME, REVISION)
# A query is a few words; what is longer is cut here, where the network has long seen what it is about.
MAX_TOKENS = 64

Encode = Callable[[Sequence[str]], Floats]


class Pieces(msgspec.Struct, frozen=True):
    """space: of the encoder (content_space.space_name) · pieces: of words, by their number."""

    space: str
    pieces: list[str]


class NetworkEncoder:
    """A graph `pieces` int64[1, t] -> `vector` float32[1, d], a unit row."""

    def __init__(self, path: Path, pieces: Sequence[str]) -> None:
        self._session = onnx_session(str(path))
        self._cut = WordPiece(pieces)

    def __call__(self, texts: Sequence[str]) -> Floats:
        """float32[n, d]."""
        return np.concatenate([self._one(text) for text in texts])

    def _one(self, text: str) -> Floats:
        (vector,) = self._session.run(["vector"], {"pieces": np.array([self._cut(text, MAX_TOKENS)], np.int64)})
        return np.asarray(vector, np.float32)


def open_text_encoder(bundle: Bundle, space: str) -> Encode | None:
    """What encodes texts into `space`; None where the bundle does not carry it.

    Raises:
        BundleError: what it carries is of another space, or cannot be read.
    """
    if space == WORDS:
        return WordVectors()
    if NETWORK not in bundle.manifest.files:
        return None
    try:
        told = msgspec.json.decode(bundle.file(PIECES).read_bytes(), type=Pieces)
    except msgspec.MsgspecError as error:
        raise BundleError(f"bundle {bundle.bundle_id}: {PIECES} names no pieces: {error}") from error
    if told.space != space:
        raise BundleError(
            f"bundle {bundle.bundle_id}: {NETWORK} encodes into {told.space}, its articles were encoded into {space}"
        )
    return NetworkEncoder(bundle.file(NETWORK), told.pieces)
