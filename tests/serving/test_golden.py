"""Whoever opens a bundle sees the answers it was built with, or refuses it by name."""

from __future__ import annotations

from pathlib import Path

import msgspec
import onnx
import pytest
from click.testing import CliRunner, Result
from onnx import helper

from infra.bundle_checks import check_usable
from infra.cli import cli
from infra.errors import BundleError, ConfigurationError
from infra.registry import Registry
from serving.golden import GoldenCase, agreement, check_golden, make_golden, open_runtime
from serving.runtime import load_runtime
from tests.support.remade import remade
from tests.support.tiny_fixture import Tiny
from tests.support.toy_catalog import event, moment, pipeline, state


def prefer_the_worst(copy: Path) -> None:
    """The same network with its outputs negated."""
    path = copy / "ranker.onnx"
    model = onnx.load(str(path))
    output = model.graph.output[0]  # scores
    for node in model.graph.node:
        node.output[:] = ["before" if name == output.name else name for name in node.output]
    model.graph.node.append(helper.make_node("Neg", ["before"], [output.name]))
    onnx.save(model, str(path))


def test_a_published_bundle_gives_its_own_answers(tiny: Tiny) -> None:
    raw = tiny.bundle.file("golden.jsonl").read_bytes()
    cases = [msgspec.json.decode(line, type=GoldenCase) for line in raw.splitlines()]
    assert check_golden(tiny.runtime, raw) == len(cases) >= 3
    assert any(case.state is None for case in cases)
    assert len({tuple(case.article_ids) for case in cases}) > 1


def test_changed_ranker_is_refused_by_name(tiny: Tiny, tmp_path: Path) -> None:
    """All files are what the manifest says, but the answers are others, though of the same few articles."""
    bundle = remade(tiny.bundle, tmp_path, prefer_the_worst)
    load_runtime(bundle)
    with pytest.raises(BundleError, match=rf"bundle {bundle.bundle_id}: golden customer customer-\d\d .*differently"):
        open_runtime(bundle)


def test_no_command_points_at_a_bundle_that_ranks_differently_here(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"file://{tmp_path / 'registry'}"
    monkeypatch.setenv("MODISTE_REGISTRY__URL", url)
    registry = Registry(url)
    good = registry.publish(tiny.bundle.path)
    bad = registry.publish(remade(tiny.bundle, tmp_path, prefer_the_worst).path)

    def run(*words: str) -> Result:
        return CliRunner().invoke(cli, ["bundles", *words])

    for bundle_id in (bad, good):
        assert run("activate", bundle_id, *(["--unchecked"] if bundle_id == bad else [])).exit_code == 0
    for words in (["activate", bad], ["rollback"]):
        done = run(*words)
        assert done.exit_code == 2
        assert done.stderr.startswith(f"error: bundle {bad}: golden customer ")
        assert "it would rank differently here. Channel production is not moved" in done.stderr
        assert registry.pointer("production").bundle_id == good
    assert run("rollback", "--unchecked").exit_code == 0
    assert registry.pointer("production").bundle_id == bad
    assert run("rollback").exit_code == 0  # the good one is not refused


@pytest.mark.parametrize(
    ("name", "said"),
    [("index.faiss", "not a FAISS index"), ("statistics.npz", "cannot be loaded"), ("ranker.onnx", "cannot be loaded")],
)
def test_a_bundle_that_breaks_its_loader_is_named(tiny: Tiny, tmp_path: Path, name: str, said: str) -> None:
    bundle = remade(tiny.bundle, tmp_path, lambda copy: (copy / name).write_bytes(b"rubbish"))
    with pytest.raises(BundleError, match=rf"bundle {bundle.bundle_id}.*{said}"):
        check_usable(bundle)


def test_where_nobody_can_tell_it_is_said(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.bundle_checks.GROUP", "modiste.nothing")
    with pytest.raises(ConfigurationError, match="install Modiste again"):
        check_usable(tiny.bundle)


@pytest.mark.parametrize("raw", [b"", b"not json\n", b'{"customer_id": "anna"}\n'], ids=["empty", "text", "fields"])
def test_cases_that_prove_nothing_are_refused(tiny: Tiny, tmp_path: Path, raw: bytes) -> None:
    bundle = remade(tiny.bundle, tmp_path, lambda copy: (copy / "golden.jsonl").write_bytes(raw))
    with pytest.raises(BundleError, match=rf"bundle {bundle.bundle_id}: golden.jsonl"):
        open_runtime(bundle)


def test_cases_are_written_and_replayed() -> None:
    runtime = pipeline().runtime
    raw = make_golden(runtime, [state(event(90, "hat")), None], moment(100))
    known, unknown = (msgspec.json.decode(line, type=GoldenCase) for line in raw.splitlines())
    assert known.article_ids[0] == "hat"
    assert unknown.article_ids[0] == "bread"
    assert check_golden(runtime, raw) == 2


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("abcd", 1.0),
        ("abdc", (1 + 1 + 2 / 3 + 1) / 4),
        ("bacd", (0 + 1 + 1 + 1) / 4),
        ("dcba", (0 + 0 + 2 / 3 + 1) / 4),
        ("abcx", (1 + 1 + 1 + 3 / 4) / 4),
        ("wxyz", 0.0),
        ("ab", (1 + 1 + 2 / 3 + 2 / 4) / 4),
        ("", 0.0),
    ],
)
def test_agreement_weighs_the_top(given: str, expected: float) -> None:
    assert agreement(list(given), list("abcd")) == pytest.approx(expected)
    assert agreement(list("abcd"), list(given)) == pytest.approx(expected)


def test_two_empty_answers_agree() -> None:
    assert agreement([], []) == 1.0
