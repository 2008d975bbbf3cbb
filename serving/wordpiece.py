"""Pieces of words by their number, as BERT's uncased models read them (Devlin et al. 2019; Wu et al. 2016).

Small enough to be written out: the packages that do the same bring a client for a model hub into every process that
serves. That both say the same is tested.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence

from infra.errors import BundleError

UNKNOWN, FIRST, LAST, PADDING = "[UNK]", "[CLS]", "[SEP]", "[PAD]"
MAX_CHARS = 100  # a word that is longer is unknown as a whole

# Blocks of ideographs, each of which is a word of its own.
_IDEOGRAPHS = (
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF),
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)


class WordPiece:
    """vocabulary: the piece of each number; what continues a word begins with ##.

    Raises:
        BundleError: a piece that stands for something is missing.
    """

    def __init__(self, vocabulary: Sequence[str]) -> None:
        self._number = {piece: number for number, piece in enumerate(vocabulary)}
        missing = [piece for piece in (UNKNOWN, FIRST, LAST, PADDING) if piece not in self._number]
        if missing:
            raise BundleError(f"the vocabulary of {len(vocabulary)} pieces lacks {', '.join(missing)}")

    def __call__(self, text: str, max_tokens: int) -> list[int]:
        """Numbers of the pieces between FIRST and LAST, at most `max_tokens` with these two."""
        inner: list[int] = []
        for word in _words(text):
            inner += self._pieces(word)
            if len(inner) >= max_tokens - 2:
                break
        return [self._number[FIRST], *inner[: max_tokens - 2], self._number[LAST]]

    def _pieces(self, word: str) -> list[int]:
        """The longest known beginning, then the longest known continuation, and so on; unknown where that ends."""
        if len(word) > MAX_CHARS:
            return [self._number[UNKNOWN]]
        found: list[int] = []
        start = 0
        while start < len(word):
            mark = "##" if start else ""
            ends = (end for end in range(len(word), start, -1) if mark + word[start:end] in self._number)
            end = next(ends, None)
            if end is None:
                return [self._number[UNKNOWN]]
            found.append(self._number[mark + word[start:end]])
            start = end
        return found


def _words(text: str) -> Iterator[str]:
    """Folded to lower case without accents; punctuation signs and ideographs each alone."""
    word = ""
    for char in unicodedata.normalize("NFD", "".join(_spaced(text)).lower()):
        kind = unicodedata.category(char)
        if kind == "Mn":
            continue
        if char.isspace() or _is_punctuation(char, kind):
            if word:
                yield word
            word = ""
            if not char.isspace():
                yield char
        else:
            word += char
    if word:
        yield word


def _spaced(text: str) -> Iterator[str]:
    """Control signs away, white space as blanks, blanks around ideographs."""
    for char in text:
        if char in "\t\n\r" or unicodedata.category(char) == "Zs":
            yield " "
        elif char not in "\0\ufffd" and unicodedata.category(char) not in ("Cc", "Cf", "Co", "Cs"):
            yield f" {char} " if any(low <= ord(char) <= high for low, high in _IDEOGRAPHS) else char


def _is_punctuation(char: str, kind: str) -> bool:
    """Also the signs of ASCII that Unicode does not call punctuation, such as $, + and ^."""
    return kind.startswith("P") or (char.isascii() and not char.isalnum() and char.isprintable())
