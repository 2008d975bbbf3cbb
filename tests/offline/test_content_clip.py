"""The small CLIP: who is held out, what it is judged by, and that a killed training goes on to the same network."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from infra.errors import DataError
from tests.offline.content_toys import articles, picture

pytest.importorskip("open_clip", reason="the extra `content` is not installed")

from offline.content import clip_training
from offline.content.clip import CONFIG, WEIGHTS
from offline.content.clip_report import precision, random_precision, recall_of_own, ridge
from offline.content.clip_training import STATE, ClipTraining, train_clip
from offline.content.encoders import open_encoder
from offline.content.pairs import Garments, Pairs, held_out, load_garments, read_pixels, shortened

TINY = ClipTraining(side=32, width=8, embed_dim=16, text_width=16, text_layers=1, context_length=16, epochs=2, batch=6)
COLOURS = {"red": (220, 20, 20), "green": (20, 200, 20), "blue": (20, 20, 220), "white": (240, 240, 240)}


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Networks this small only wait for each other on more threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def toy_pairs() -> Pairs:
    """Twelve plain pictures, and texts that name their colours."""
    names = [*COLOURS] * 3
    texts = [f"{name} dress number {row}" for row, name in enumerate(names)]
    return Pairs(articles(*({"title": text} for text in texts)), texts, [picture(COLOURS[name]) for name in names])


def test_all_colours_of_a_product_are_on_one_side() -> None:
    codes = [str(number // 3) for number in range(6_000)]
    out = held_out(codes)
    assert (out.reshape(-1, 3).all(axis=1) | ~out.reshape(-1, 3).any(axis=1)).all()
    assert 0.07 < out.mean() < 0.13
    assert np.array_equal(out[::-1], held_out(codes[::-1]))


def test_pieces_of_a_text_are_left_out_but_never_all() -> None:
    text = "Frans · Shoes · Blue"
    assert shortened(text, np.array([0.1, 0.9, 0.9]), 0.3) == "Shoes · Blue"
    assert shortened(text, np.zeros(3), 0.3) == "Blue"
    assert shortened(text, np.zeros(3), 0.0) == text


def test_garments_are_read_by_split(tmp_path: Path) -> None:
    rows = {"split": ["train", "test", "test"], "label": ["hat", "shirt", "dress"], "jpeg": [b"1", b"2", b"3"]}
    pq.write_table(pa.table(rows), tmp_path / "garments.parquet")
    garments = load_garments(tmp_path, "test")
    assert [garments.names[label] for label in garments.labels] == ["shirt", "dress"]
    assert garments.files == [b"2", b"3"]
    with pytest.raises(DataError, match="no rows of the split 'validation'"):
        load_garments(tmp_path, "validation")


def test_pictures_are_squashed_and_what_is_none_is_grey() -> None:
    pixels = read_pixels([picture((200, 0, 0), "PNG"), b"none"], 4, 6)
    assert pixels.shape == (2, 3, 4, 6)
    assert pixels[0, 0].tolist() == [[200] * 6] * 4
    assert (pixels[1] == 128).all()


def test_own_text_by_rank() -> None:
    queries = np.eye(3, dtype=np.float32)
    answers = np.array([[0.9, 0, 0], [0, 0.1, 0.5], [0, 0.8, 0.4]], np.float32)
    # The first finds its own, the second the third's, the third the second's: each own is second.
    assert recall_of_own(queries, answers, ["a", "b", "c"]) == {"r@1": 0.3333, "r@5": 1.0, "r@10": 1.0}
    # Two articles of one text: either will do.
    assert recall_of_own(queries, answers, ["a", "b", "b"])["r@1"] == 1.0


def test_precision_is_out_of_what_is_possible() -> None:
    scores = np.array([[9, 3, 2, 1], [3, 9, 1, 2], [2, 1, 9, 3], [1, 2, 3, 9]], np.float32)
    assert precision(scores, ["a", "a", "b", "b"], k=2) == 1.0  # one other each, found first
    assert precision(scores, ["a", "b", "a", "b"], k=1) == 0.0
    assert precision(scores, ["a", "b", "a", "c"], k=2) == 1.0  # b and c have no others and are left out
    assert random_precision(["a", "a", "b", "b"], k=2) == pytest.approx(2 / 3)


def test_random_precision_is_what_random_scores_give() -> None:
    labels = ["a"] * 20 + ["b"] * 5 + ["c"] * 35
    random = np.random.default_rng(1)
    drawn = [precision(random.random((60, 60)).astype(np.float32), labels) for _ in range(200)]
    assert np.mean(drawn) == pytest.approx(random_precision(labels), abs=0.01)


def test_the_ridge_finds_a_linear_map() -> None:
    random = np.random.default_rng(2)
    inputs = random.normal(size=(20_000, 3)).astype(np.float32)
    weights = np.array([[1, 2], [0, -1], [3, 0]], np.float32)
    assert ridge(inputs, inputs @ weights) == pytest.approx(weights, abs=0.05)


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_a_killed_training_goes_on_to_the_same_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    garments = Garments(["hat", "shoe"], np.array([0, 1, 1]), [picture(colour) for colour in [*COLOURS.values()][:3]])
    train_clip(toy_pairs(), garments, tmp_path / "whole", TINY)

    keep = clip_training._keep

    def killed(*arguments: object) -> None:
        keep(*arguments)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    monkeypatch.setattr(clip_training, "_keep", killed)
    with pytest.raises(KeyboardInterrupt):
        train_clip(toy_pairs(), garments, tmp_path / "parts", TINY)
    assert [path.name for path in (tmp_path / "parts").iterdir()] == [STATE]
    monkeypatch.undo()
    train_clip(toy_pairs(), garments, tmp_path / "parts", TINY)
    assert (tmp_path / "parts" / WEIGHTS).read_bytes() == (tmp_path / "whole" / WEIGHTS).read_bytes()

    before = (tmp_path / "whole" / WEIGHTS).read_bytes()
    train_clip(toy_pairs().take(np.arange(8)), garments, tmp_path / "whole", TINY)  # other data: all over again
    assert (tmp_path / "whole" / WEIGHTS).read_bytes() != before


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_a_trained_network_reads_colours(tmp_path: Path) -> None:
    config = replace(TINY, epochs=40, learning_rate=3e-3, batch=12)
    train_clip(toy_pairs(), None, tmp_path / "clip", config)
    assert (tmp_path / "clip" / CONFIG).is_file()
    encoder = open_encoder(f"clip:{tmp_path / 'clip'}", 64)
    photos = encoder.encode_image([picture(colour, size=(30, 50)) for colour in COLOURS.values()])
    texts = encoder.encode_text([f"{name} dress number 1" for name in COLOURS])
    assert (photos @ texts.T).argmax(axis=1).tolist() == [0, 1, 2, 3]
