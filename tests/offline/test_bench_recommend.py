"""The bench of a request: a bundle without any data, and times that cover what a request does."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from infra.bundle import Bundle
from offline.bench_cli import bench
from offline.bench_shop import BenchSize, bench_shop, write_bench_bundle
from serving.messages import STRATEGIES
from serving.runtime import load_runtime
from streams.bundle_contract import SOURCES

SIZE = BenchSize(articles=300, customers=80, examples=30)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_bench_bundle(tmp_path_factory.mktemp("bench") / "bundle", bench_shop(SIZE, 1), SIZE, 1)


def test_a_random_bundle_loads_as_any_other(bundle: Bundle) -> None:
    catalog = load_runtime(bundle).catalog
    assert len(catalog.items) == 300
    assert catalog.retrieval.depth["repurchase"] == 250
    assert catalog.factors.items.any()
    assert len(catalog.neighbours.items)
    assert (catalog.statistics.sold_91d > 0).any()


def test_the_same_seed_gives_the_same_shop() -> None:
    one, other = bench_shop(SIZE, 1), bench_shop(SIZE, 1)
    assert one.items_table.equals(other.items_table)
    assert one.histories.keys.tolist() == other.histories.keys.tolist()
    assert (one.content == other.content).all()
    assert (bench_shop(SIZE, 2).content != one.content).any()


def test_every_strategy_and_stage_is_timed(bundle: Bundle) -> None:
    given = ["recommend", "--bundle", str(bundle.path), "--customers", "30", "--rounds", "1", "--batch", "8"]
    given += ["--through", "in_process"]
    found = CliRunner().invoke(bench, [*given, "--json"], catch_exceptions=False)
    report = json.loads(found.stdout)
    assert (report["articles"], report["random"], report["customers"]) == (300, True, 30)
    assert report["bundle_id"] == bundle.bundle_id
    assert set(report["strategies"]) == set(STRATEGIES) - {"full"}
    assert list(report["stages"]) == [
        *("state", "query", *SOURCES, "merge", "rules", "features", "ranking", "listing"),
    ]
    rows = [report["in_process"], report["batched"], *report["strategies"].values(), *report["stages"].values()]
    assert all(0 < row["p50_ms"] <= row["p99_ms"] for row in rows)
    assert report["batched"]["requests"] == 8
    assert 100 < report["candidates"] <= 300
    assert 1 <= report["events"]["mean"] <= report["events"]["most"]
    table = CliRunner().invoke(bench, given, catch_exceptions=False).stdout
    assert table.startswith("300 random articles, ")
    assert "full, 8 at once" in table


def test_a_place_that_is_taken_is_refused(bundle: Bundle) -> None:
    found = CliRunner().invoke(bench, ["recommend", "--articles", "300", "--keep", str(bundle.path)])
    assert "exists already" in str(found.exception)
