"""Articles, pictures and counting encoders for the content tests."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from PIL import Image

from offline.sources.base import ARTICLE_SCHEMA


def articles(*rows: dict[str, str]) -> pa.Table:
    """A table of ARTICLE_SCHEMA; what a row does not name is unknown."""
    return pa.Table.from_pylist([{"article_id": str(number), **row} for number, row in enumerate(rows)], ARTICLE_SCHEMA)


def picture(colour: tuple[int, int, int], kind: str = "JPEG", size: tuple[int, int] = (24, 36)) -> bytes:
    """A file with one plain colour."""
    out = io.BytesIO()
    Image.new("RGB", size, colour).save(out, kind)
    return out.getvalue()


class Photos(dict[str, bytes]):
    """A dict is an image store."""


class CountingEncoder:
    """Two dimensions: the share of vowels in a text, the share of red in a picture. Remembers what it was asked."""

    name = "counting"
    dim = 2
    sees_images = True

    def __init__(self, revision: str = "1", fail_at: int | None = None) -> None:
        self.revision = revision
        self.asked: list[str | bytes] = []
        self._fail_at = fail_at

    def encode_text(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        if self._fail_at is not None and len(self.asked) >= self._fail_at:
            raise KeyboardInterrupt
        self.asked += texts
        share = np.array([sum(letter in "aeiou" for letter in text) / max(len(text), 1) for text in texts])
        return np.stack([np.cos(share), np.sin(share)], axis=1).astype(np.float32)

    def encode_image(self, images: Sequence[bytes]) -> npt.NDArray[np.float32]:
        self.asked += images
        angle = np.array([image[0] / 255 if image != b"broken" else np.nan for image in images])
        return np.nan_to_num(np.stack([np.cos(angle), np.sin(angle)], axis=1)).astype(np.float32)
