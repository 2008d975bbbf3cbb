"""Texts, cache, fusion, projection: content vectors of a catalogue."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from infra.errors import ConfigurationError
from offline.content import cache as cache_module
from offline.content.encoders import open_encoder
from offline.content.projection import fit_projection
from offline.content.texts import article_parts, article_texts, joined
from offline.content.vectors import ContentConfig, content_vectors, encode_photos, encode_texts, fuse
from offline.content.words import WordEncoder
from serving.content_space import unit_rows
from tests.offline.content_toys import CountingEncoder, Photos, articles

WORDS = ContentConfig(text="words", dim=8)
CATALOGUE = articles(
    {"title": "Wool jumper", "colour": "Blue", "category": "Knitwear"},
    {"title": "Wool jumper", "colour": "Red", "category": "Knitwear"},
    {"title": "Denim jeans", "colour": "Blue", "category": "Trousers"},
    {},
    {"title": "Wool jumper", "colour": "Blue", "category": "Knitwear"},
)


def test_a_text_says_nothing_twice() -> None:
    grocer = joined("Premium, 56 oz", "GROCERY", "ICE CREAM", "PREMIUM", "National", None, "GROCERY · ICE CREAM")
    assert grocer == "Premium, 56 oz · GROCERY · ICE CREAM · National"
    assert joined(None, "", "  ") == ""
    assert joined("Knit\n  top", "knit top", "Top with  knit cuffs") == "Knit top · Top with knit cuffs"


def test_texts_come_in_the_order_of_the_articles() -> None:
    assert article_texts(CATALOGUE)[2:] == ["Denim jeans · Trousers · Blue", "", "Wool jumper · Knitwear · Blue"]


def test_parts_leave_out_what_an_earlier_one_says() -> None:
    row = {
        "title": "Wool jumper",
        "subcategory": "Jumper",
        "colour": "Blue",
        "text": "Blue · Wool jumper · With cuffs.",
    }
    assert article_parts(articles(row, {"colour": "Red"})) == [
        ["Wool jumper", ""],
        ["Blue", "Red"],
        ["With cuffs.", ""],
    ]


def test_vectors_are_unit_rows_and_zero_where_nothing_is_known(tmp_path: Path) -> None:
    vectors = content_vectors(CATALOGUE, None, WORDS, tmp_path)
    assert vectors.dtype == np.float32
    assert vectors.shape == (5, 8)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx([1, 1, 1, 0, 1], abs=1e-6)
    assert np.array_equal(vectors[0], vectors[4])  # equal text, equal vector
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2]  # two colours of one jumper are nearer than the jeans


def test_the_order_of_the_catalogue_does_not_matter(tmp_path: Path) -> None:
    forward = content_vectors(CATALOGUE, None, WORDS, tmp_path / "a")
    backward = content_vectors(CATALOGUE.take([4, 3, 2, 1, 0]), None, WORDS, tmp_path / "b")
    assert forward @ forward.T == pytest.approx((backward @ backward.T)[::-1, ::-1], abs=1e-5)


def test_nothing_is_encoded_twice(tmp_path: Path) -> None:
    encoder = CountingEncoder()
    first = encode_texts(["blouse", "sky", "", "blouse"], encoder, tmp_path)
    assert encoder.asked == ["sky", "blouse"]  # each text once, the short one first, the empty one never
    again = CountingEncoder()
    assert np.array_equal(encode_texts(["sky", "blouse", "hat"], again, tmp_path)[:2], first[[1, 0]])
    assert again.asked == ["hat"]


def test_another_revision_has_its_own_vectors(tmp_path: Path) -> None:
    encode_texts(["sky"], CountingEncoder(), tmp_path)
    other = CountingEncoder(revision="2")
    encode_texts(["sky"], other, tmp_path)
    assert other.asked == ["sky"]


def test_an_interrupted_run_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "SHARD", 2)
    texts = ["a", "bb", "ccc", "dddd", "eeeee"]
    with pytest.raises(KeyboardInterrupt):
        encode_texts(texts, CountingEncoder(fail_at=4), tmp_path)
    second = CountingEncoder()
    vectors = encode_texts(texts, second, tmp_path)
    assert second.asked == ["eeeee"]
    assert np.array_equal(vectors, encode_texts(texts, CountingEncoder(), tmp_path / "whole"))


@pytest.mark.parametrize("share", [0.0, 0.5, 0.98])
def test_a_shard_that_is_cut_short_is_encoded_again(tmp_path: Path, share: float) -> None:
    expected = encode_texts(["sky", "hat"], CountingEncoder(), tmp_path)
    (shard,) = tmp_path.rglob("*.npz")
    shard.write_bytes(shard.read_bytes()[: int(shard.stat().st_size * share)])
    encoder = CountingEncoder()
    assert np.array_equal(encode_texts(["sky", "hat"], encoder, tmp_path), expected)
    assert sorted(encoder.asked) == ["hat", "sky"]


def test_photos_that_are_missing_or_broken_leave_zero_rows(tmp_path: Path) -> None:
    encoder = CountingEncoder()
    photos = Photos({"a": b"\xff", "c": b"broken", "d": b"\xff"})
    vectors = encode_photos(["a", "b", "c", "d"], photos, encoder, tmp_path)
    assert vectors.any(axis=1).tolist() == [True, False, False, True]
    assert np.array_equal(vectors[0], vectors[3])
    assert sorted(map(str, encoder.asked)) == sorted(map(str, [b"\xff", b"broken"]))


def test_one_space_is_the_weighted_sum_and_whatever_there_is() -> None:
    text = np.array([[1, 0], [1, 0], [0, 0], [0, 0]], np.float32)
    photo = np.array([[0, 1], [0, 0], [0, 1], [0, 0]], np.float32)
    fused = fuse(text, photo, 0.8, one_space=True)
    both = np.array([0.2, 0.8]) / np.hypot(0.2, 0.8)
    assert fused == pytest.approx(np.array([both, [1, 0], [0, 1], [0, 0]]), abs=1e-6)


def test_two_spaces_make_a_weighted_mean_of_cosines() -> None:
    text = np.array([[1, 0], [0.6, 0.8]], np.float32)
    photo = np.array([[0, 1, 0], [0, 0, 1]], np.float32)
    fused = fuse(text, photo, 0.25, one_space=False)
    assert fused[0] @ fused[1] == pytest.approx(0.75 * 0.6 + 0.25 * 0)
    assert fused[0] @ fused[0] == pytest.approx(1)


def test_an_article_without_a_photo_has_the_mean_photo_and_without_both_none() -> None:
    text = np.array([[1, 0], [1, 0], [0, 1], [0, 0]], np.float32)
    photo = np.array([[1, 0], [0, 1], [0, 0], [0, 0]], np.float32)
    fused = fuse(text, photo, 0.5, one_space=False)
    assert fused[2, 2:] == pytest.approx(np.sqrt(0.5) * np.array([0.5, 0.5]))
    assert not fused[3].any()


def test_the_projection_keeps_the_directions_of_largest_variance() -> None:
    points = np.array([[3, 0, 0], [-3, 0, 0], [0, 2, 0], [0, -2, 0], [0, 0, 1], [0, 0, -1]], np.float32)
    projection = fit_projection(points, 2)
    assert projection.mean == pytest.approx(np.zeros(3))
    assert projection.axes == pytest.approx(np.array([[1, 0], [0, 1], [0, 0]]), abs=1e-6)


@given(hnp.arrays(np.float32, (12, 5), elements=st.floats(-1, 1, width=32)))
def test_the_projection_is_deterministic_and_gives_unit_or_zero_rows(given_rows: np.ndarray) -> None:
    vectors = unit_rows(given_rows)
    one, other = fit_projection(vectors, 3), fit_projection(vectors, 3)
    assert np.array_equal(one.axes, other.axes)
    lengths = np.linalg.norm(one(vectors), axis=1)
    assert np.all((np.abs(lengths - 1) < 1e-4) | (lengths == 0))
    assert not one(np.zeros((2, 5), np.float32)).any()


def test_a_shop_with_one_article_has_a_vector(tmp_path: Path) -> None:
    assert np.linalg.norm(content_vectors(CATALOGUE.slice(0, 1), None, WORDS, tmp_path)) == pytest.approx(1)
    assert content_vectors(CATALOGUE.slice(0, 0), None, WORDS, tmp_path).shape == (0, 8)


def test_word_vectors_compare_words_not_case() -> None:
    jumper, same, part, other = WordEncoder().encode_text(["Red wool jumper", "jumper RED, wool", "wool", "jeans"])
    assert jumper @ same == pytest.approx(1)
    assert jumper @ part == pytest.approx(1 / np.sqrt(3), abs=0.15)
    assert abs(jumper @ other) < 0.25


@pytest.mark.parametrize("spec", ["word2vec", "clip", "sentences", "words:here", "minilm:there"])
def test_an_unknown_encoder_is_refused_with_the_list_of_known_ones(spec: str) -> None:
    with pytest.raises(ConfigurationError, match="allowed are auto, minilm, words"):
        open_encoder(spec, 64)


def test_a_text_encoder_refuses_photos(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="words reads no images"):
        content_vectors(CATALOGUE, Photos(), ContentConfig(text="words", image="words"), tmp_path)


@pytest.mark.parametrize("values", [{"image_weight": 1.5}, {"dim": 0}, {"max_tokens": 0}])
def test_a_config_out_of_range_is_refused(values: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError, match="given"):
        ContentConfig(**values)  # type: ignore[arg-type]
