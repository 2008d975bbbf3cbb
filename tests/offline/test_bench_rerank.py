"""The bench of the language model's order: real answers, a real endpoint, and what it counted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from infra.bundle import Bundle
from infra.errors import ConfigurationError
from offline.bench_cli import bench
from offline.bench_shop import BenchSize, bench_shop, write_bench_bundle
from tests.support.llm_server import llm_process


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    size = BenchSize(articles=300, customers=80, examples=30)
    return write_bench_bundle(tmp_path_factory.mktemp("bench") / "bundle", bench_shop(size, 1), size, 1)


def test_what_an_order_costs_is_told_with_and_without_a_call(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(bundle.path)
    with llm_process() as (url, model):
        env = {"MODISTE_LLM__URL": url, "MODISTE_LLM__MODEL": "toy"}
        asked = ["rerank", "--bundle", str(bundle.path), "--customers", "5"]
        report = json.loads(CliRunner(env=env).invoke(bench, [*asked, "--json"], catch_exceptions=False).stdout)
        assert report["outcomes"] == {"reranked": 5}
        assert report["tokens"] == {"question": 5 * 300, "answer": 5 * 40}
        assert all(0 < report[row]["p50_ms"] <= report[row]["p99_ms"] for row in ("ranked", "ordered", "kept"))
        model.kill()
        model.wait()
        table = CliRunner(env=env).invoke(bench, asked, catch_exceptions=False).stdout
    assert table.startswith("5 answers of 12, ordered by toy: {'failed': 5}")


def test_without_an_endpoint_there_is_nothing_to_measure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match=r"set llm\.url and llm\.model"):
        CliRunner().invoke(bench, ["rerank"], catch_exceptions=False)
