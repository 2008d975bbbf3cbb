"""Word vectors that need no model: every word is a fixed random direction, a text the weighted sum of its words.

Random indexing (Kanerva, Kristoferson, Holst 2000). It is the fallback where no sentence encoder is installed, the
baseline that one has to beat, and what a process without torch can compute itself. Two texts are as near as the words
that they share are rare and many; synonyms are strangers.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from serving.content_space import unit_rows

NAME, REVISION, DIM = "words", "1", 256
KEPT = 100_000  # directions remembered, of 1 kB each
_WORD = re.compile(r"[^\W_]+")


class WordVectors:
    """Unit vectors of texts by their words, weighted 1 + log(times in this text).

    A word weighs the same whatever the catalogue holds, so a text's vector depends on the text alone. How common a word
    is in the catalogue is left to the projection (see content_space.py), which takes out the mean.
    """

    def __init__(self) -> None:
        self._known: dict[str, npt.NDArray[np.float32]] = {}

    def __call__(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """float32[n, DIM]; zero rows for texts without a word."""
        out = np.zeros((len(texts), DIM), np.float32)
        for row, text in enumerate(texts):
            for word, times in Counter(_WORD.findall(text.casefold())).items():
                out[row] += (1 + np.log(times)) * self._direction(word)
        return unit_rows(out)

    def _direction(self, word: str) -> npt.NDArray[np.float32]:
        known = self._known.get(word)
        if known is None:
            # The bits of a hash are fair coins: +1 and -1 make directions that are nearly at right angles.
            bits = np.frombuffer(hashlib.shake_256(word.encode()).digest(DIM // 8), np.uint8)
            known = np.unpackbits(bits).astype(np.float32) * 2 - 1
            if len(self._known) < KEPT:
                self._known[word] = known
        return known
