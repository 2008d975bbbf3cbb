"""BM25 by hand over three articles, and what a query may look like."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.errors import BundleError
from serving.word_index import K1, B, WordIndex, stem, weighted_words, words_of

# Head, colour, text of an article.
SHIRT = ("Linen shirt · Tops", "White", "Airy linen for warm days.")
DRESS = ("Summer dress", "Black", "A dress of cotton.")
SOCKS = ("Socks", "White", "")
INDEX = WordIndex.build(weighted_words(parts) for parts in (SHIRT, DRESS, SOCKS))


def test_plurals_are_one_word_with_their_singular() -> None:
    assert words_of("T-SHIRTS, dresses & Bodies: boxes") == ["t", "shirt", "dress", "body", "box"]
    assert [stem(word) for word in ("dress", "bus", "gas", "watches")] == ["dress", "bus", "gas", "watch"]


def test_a_word_of_the_head_counts_three_times_one_of_the_description() -> None:
    assert weighted_words(SHIRT)["linen"] == 4
    assert weighted_words(SHIRT)["airy"] == 1


def test_scores_are_bm25_over_what_the_query_alone_would_have() -> None:
    lengths = [sum(weighted_words(parts).values()) for parts in (SHIRT, DRESS, SOCKS)]
    assert lengths == [3 * 3 + 3 + 5, 3 * 2 + 3 + 4, 3 + 3]
    mean = sum(lengths) / 3
    tf = 3  # "white" is the colour of two of the three

    def impact(length: float) -> float:
        return tf * (K1 + 1) / (tf + K1 * (1 - B + B * length / mean)) / (K1 + 1)

    expected = [impact(lengths[0]), 0, impact(lengths[2])]
    assert INDEX.scores("white") == pytest.approx(expected, abs=1e-6)


def test_a_rare_word_decides_over_a_common_one() -> None:
    scores = INDEX.scores("white socks")
    assert scores.argmax() == 2
    assert scores[1] == 0 < scores[0] < scores[2]


def test_what_begins_longer_words_stands_for_them_and_what_nobody_says_for_nothing() -> None:
    assert np.array_equal(INDEX.scores("sock"), INDEX.scores("socks"))
    assert INDEX.scores("cott").nonzero()[0].tolist() == [1]
    assert INDEX.scores("zz zebra").tolist() == [0, 0, 0]
    assert INDEX.scores("white zebra") == pytest.approx(INDEX.scores("white"))
    assert INDEX.scores("co").tolist() == [0, 0, 0]  # too short a beginning


@given(st.text(max_size=60))
def test_any_query_gives_shares(query: str) -> None:
    scores = INDEX.scores(query)
    assert scores.shape == (3,)
    assert ((scores >= 0) & (scores <= 1 + 1e-6)).all()


@given(st.lists(st.lists(st.sampled_from(["red", "hat", "coat", "wool", "thin"]), max_size=6), min_size=1, max_size=8))
def test_an_article_has_a_score_if_it_says_a_word_of_the_query(said: list[list[str]]) -> None:
    index = WordIndex.build(Counter(words) for words in said)
    assert (index.scores("red wool") > 0).tolist() == [bool({"red", "wool"} & set(words)) for words in said]


def test_later_articles_are_scored_as_if_they_had_been_there() -> None:
    more = WordIndex.build([weighted_words(SOCKS)], like=INDEX)
    assert more.scores("white socks")[0] == pytest.approx(INDEX.scores("white socks")[2], abs=1e-6)


def test_saved_and_loaded_it_says_the_same(tmp_path: Path) -> None:
    INDEX.save(tmp_path / "words.npz")
    loaded = WordIndex.load(tmp_path / "words.npz", 3)
    assert loaded.vocabulary == INDEX.vocabulary
    assert loaded.scores("white linen dress") == pytest.approx(INDEX.scores("white linen dress"), abs=1e-3)
    with pytest.raises(BundleError, match="do not belong together or to 2 articles"):
        WordIndex.load(tmp_path / "words.npz", 2)


def test_an_empty_catalogue_has_an_index_too(tmp_path: Path) -> None:
    WordIndex.build([]).save(tmp_path / "words.npz")
    assert WordIndex.load(tmp_path / "words.npz", 0).scores("hat").shape == (0,)
