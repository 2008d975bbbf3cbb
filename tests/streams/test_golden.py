"""Whoever encodes with a bundle sees the embeddings it was built with, or refuses it by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from onnx import helper

from infra.errors import BundleError
from streams.golden import GoldenState, open_encoder
from tests.support.remade import remade
from tests.support.tiny_fixture import Tiny, tiny

__all__ = ["tiny"]


def look_the_other_way(copy: Path) -> None:
    """The same network with its output negated: sizes, names and checksums all agree."""
    path = copy / "query_encoder.onnx"
    model = onnx.load(str(path))
    (output,) = (found.name for found in model.graph.output)
    for node in model.graph.node:
        node.output[:] = ["before" if name == output else name for name in node.output]
    model.graph.node.append(helper.make_node("Neg", ["before"], [output]))
    onnx.save(model, str(path))


def cases_with(embedding: str | None) -> Callable[[Path], None]:
    """Every known customer has this embedding; None: no case has one, nor the field."""

    def rewrite(copy: Path) -> None:
        path = copy / "golden.jsonl"
        cases = [msgspec.json.decode(line) for line in path.read_bytes().splitlines()]
        for case in cases:
            del case["embedding"]
            if embedding is not None and case["state"] is not None:
                case["embedding"] = embedding
        path.write_bytes(b"\n".join(map(msgspec.json.encode, cases)))

    return rewrite


def test_a_published_bundle_carries_its_embeddings_and_is_opened(tiny: Tiny) -> None:
    lines = tiny.bundle.file("golden.jsonl").read_bytes().splitlines()
    cases = [msgspec.json.decode(line, type=GoldenState) for line in lines]
    assert sum(case.embedding is not None for case in cases) >= 2
    assert all((case.state is None) == (case.embedding is None) for case in cases)
    assert open_encoder(tiny.bundle).space == tiny.bundle_id


def test_another_network_is_refused_by_name(tiny: Tiny, tmp_path: Path) -> None:
    bundle = remade(tiny.bundle, tmp_path, look_the_other_way)
    with pytest.raises(BundleError, match=rf"bundle {bundle.bundle_id}: the embedding of golden customer .* differs"):
        open_encoder(bundle)


def test_a_network_that_gives_no_numbers_is_refused(tiny: Tiny, tmp_path: Path) -> None:
    def undefined(copy: Path) -> None:
        vectors = np.load(copy / "item_vectors.npy")
        np.save(copy / "item_vectors.npy", np.full_like(vectors, np.nan))

    with pytest.raises(BundleError, match="differs from the recorded one by nan"):
        open_encoder(remade(tiny.bundle, tmp_path, undefined))


@pytest.mark.parametrize(
    ("embedding", "said"), [("AAA=", "[0-9]+ values; recorded are 1$"), ("AA==", "no float16"), ("!", "no float16")]
)
def test_embeddings_that_are_none_are_refused(tiny: Tiny, tmp_path: Path, embedding: str, said: str) -> None:
    with pytest.raises(BundleError, match=said):
        open_encoder(remade(tiny.bundle, tmp_path, cases_with(embedding)))


def test_a_bundle_from_before_embeddings_were_recorded_is_opened(tiny: Tiny, tmp_path: Path) -> None:
    bundle = remade(tiny.bundle, tmp_path, cases_with(None))
    assert open_encoder(bundle).dim == tiny.runtime.encoder.dim


def test_who_vouches_for_nothing_is_refused(tiny: Tiny, tmp_path: Path) -> None:
    bundle = remade(tiny.bundle, tmp_path, lambda copy: (copy / "golden.jsonl").write_bytes(b""))
    with pytest.raises(BundleError, match=rf"bundle {bundle.bundle_id}: golden.jsonl holds no case"):
        open_encoder(bundle)
