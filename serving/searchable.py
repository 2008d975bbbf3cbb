"""What a bundle carries for searching: optional files, each opened when the first search needs it.

    word_index.npz                           which articles say which words
    text_encoder.onnx, text_encoder.json     what encodes a query, where the bundle's texts were encoded by a network
    image_encoder.onnx, image_space.npz      what looks at a photo
    image_vectors.npy                        what it saw on the photos of the articles

Only processes that search pay for them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from infra.bundle import Bundle
from infra.errors import ModisteError
from serving.content_space import ContentSpace
from serving.image_encoder import IMAGE_FILES, PictureSpace
from serving.text_encoder import Encode, open_text_encoder
from serving.word_index import WordIndex

WORD_INDEX = "word_index.npz"

T = TypeVar("T")


class SearchUnavailable(ModisteError):
    """The bundle in use lacks what this search needs."""


@dataclass(frozen=True, eq=False)
class Searchable:
    """size: articles of the bundle · space: of its content vectors."""

    bundle: Bundle
    size: int
    space: ContentSpace
    _opened: dict[str, Any] = field(default_factory=dict, init=False, repr=False)
    _opening: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    @property
    def words(self) -> WordIndex:
        """Raises:
        SearchUnavailable: the bundle has none.
        """
        self._need("text search", (WORD_INDEX,), "build it with `modiste offline run` of this version")
        return self._once("words", lambda: WordIndex.load(self.bundle.file(WORD_INDEX), self.size))

    @property
    def encode_text(self) -> Encode | None:
        """None where nothing here can encode into the space of the articles' texts."""
        return self._once("encode_text", lambda: open_text_encoder(self.bundle, self.space.encoder))

    @property
    def pictures(self) -> PictureSpace:
        """Raises:
        SearchUnavailable: the bundle has none.
        """
        self._need(
            "image search", IMAGE_FILES, "build it with `modiste offline run --images PHOTOS --image-encoder ENCODER`"
        )
        return self._once("pictures", lambda: PictureSpace.load(self.bundle, self.size))

    def _once(self, name: str, opens: Callable[[], T]) -> T:
        """What `opens` gives, opened by the first thread that needs it while others that do wait."""
        if name not in self._opened:
            with self._opening:
                if name not in self._opened:
                    self._opened[name] = opens()
        return cast(T, self._opened[name])

    def _need(self, what: str, names: tuple[str, ...], how: str) -> None:
        missing = [name for name in names if name not in self.bundle.manifest.files]
        if missing:
            raise SearchUnavailable(f"bundle {self.bundle.bundle_id} has no {', '.join(missing)} for {what}; {how}")
