"""The benchmark on toys: the next item follows from the last, so a network that works must find it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from infra.errors import ConfigurationError, DataError
from offline import bench_retrieval
from offline.bench_cli import bench
from offline.bench_next_item import NextItemData, amazon_beauty, judge, rank_metrics, word_inputs
from offline.bench_product import ProductData
from offline.bench_product import judge as product_judge
from offline.bench_retrieval import ABLATIONS, NEXT_ITEM, ablation_names, next_item
from offline.train_retrieval import TowerConfig, item_inputs, new_two_tower
from tests.offline.toy_log import CUT_US, bought, histories_of, items_of

ITEMS, USERS = 60, 120
SMALL = replace(NEXT_ITEM, dim=16, epochs=8, batch=200, negatives=20, learning_rate=2e-2, history=12, stride=12)


def cycles(seed: int = 0) -> NextItemData:
    """Each user walks through the items in steps of 7 from anywhere: the next is last + 7, and only the last tells."""
    rng = np.random.default_rng(seed)
    walks = [(rng.integers(ITEMS) + 7 * np.arange(rng.integers(5, 12))) % ITEMS for _ in range(USERS)]
    offsets = np.cumsum([0, *(len(walk) for walk in walks)])
    return NextItemData(np.concatenate(walks), offsets, word_inputs([[] for _ in range(ITEMS)]))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["transformer", "pooling"])
def test_what_follows_from_the_last_item_is_learned(kind: str) -> None:
    found = next_item(cycles(), replace(SMALL, query_encoder=kind), seed=1)
    assert found["recall@10"] > 0.9  # 10 of 60 by chance: 0.17
    again = next_item(cycles(), replace(SMALL, query_encoder=kind), seed=1)
    assert {**again, "seconds": 0} == {**found, "seconds": 0}


def test_training_stops_before_the_last_two_items() -> None:
    data = cycles()
    kept = data.training()
    for user in range(USERS):
        mine = data.item[data.offsets[user] : data.offsets[user + 1]]
        first = data.offsets[user] - 2 * user
        assert kept.item[first : first + len(mine) - 2].tolist() == mine[:-2].tolist()
    assert len(kept.item) == len(data.item) - 2 * USERS


def test_the_answer_changes_no_query() -> None:
    """Another test item in the file: the metric of the validation item stays, for it stands before."""
    data = cycles()
    model = new_two_tower(data.inputs, SMALL, 1).eval()
    item = data.item.copy()
    item[data.offsets[1:] - 1] = 0
    other = replace(data, item=item)
    assert judge(model, other, 2, 12) == judge(model, data, 2, 12)


def test_rank_metrics_by_hand() -> None:
    found = rank_metrics(np.array([1, 3, 10, 11]))
    assert found["recall@10"] == 0.75
    assert found["ndcg@10"] == pytest.approx((1 + 0.5 + 1 / np.log2(11)) / 4, abs=1e-5)


def beauty_files(folder: Path, items_of_first: int = 5) -> Path:
    rng = np.random.default_rng(2)
    rows = [
        {"user": user, "pos": pos, "item": int(item)}
        for user in range(1, 31)
        for pos, item in enumerate(rng.integers(1, 41, items_of_first if user == 1 else 5))
    ]
    rows.append({"user": 31, "pos": 0, "item": 40})
    rows += [{"user": 31, "pos": pos, "item": pos} for pos in (2, 1)]  # out of order on purpose
    pq.write_table(pa.Table.from_pylist(rows), folder / "beauty_interactions.parquet")
    titles = [{"item": n, "title": f"Soap No {n}"} for n in range(1, 40)]
    pq.write_table(pa.Table.from_pylist(titles), folder / "beauty_item_titles.parquet")
    kinds = [{"item": n, "attributes": [n % 3]} for n in range(1, 41)]
    pq.write_table(pa.Table.from_pylist(kinds), folder / "beauty_item_attributes.parquet")
    return folder


def test_beauty_is_read_in_order_with_words_and_attributes(tmp_path: Path) -> None:
    data = amazon_beauty(beauty_files(tmp_path))
    assert data.users == 31
    assert data.item[-3:].tolist() == [39, 0, 1]
    assert (data.inputs.words[:39] > 0).sum(dim=1).tolist() == [4] * 39  # soap, no, its number, its kind
    assert (data.inputs.words[39] > 0).sum() == 1  # no title


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"beauty_interactions\.parquet is not there; --path must be"):
        amazon_beauty(tmp_path)
    with pytest.raises(DataError, match="fewer than three items"):
        amazon_beauty(beauty_files(tmp_path, items_of_first=2))
    with pytest.raises(ConfigurationError, match="cannot vary dropout; choose among logq, negatives, id, encoder"):
        ablation_names("logq,dropout")


def test_every_ablation_is_a_configuration() -> None:
    for variants in ABLATIONS.values():
        assert len({replace(TowerConfig(), **changed) for changed in variants.values()}) == len(variants)


@pytest.mark.slow
def test_the_command_prints_one_object_and_a_row_a_variant(tmp_path: Path) -> None:
    base = ["retrieval", "--path", str(beauty_files(tmp_path)), "--epochs", "1", "--threads", "1", "--json"]
    found = json.loads(CliRunner().invoke(bench, base, catch_exceptions=False).stdout)
    assert {"recall@10", "ndcg@10", "valid", "epochs", "seconds", "seed"} <= set(found)
    assert 0 <= found["ndcg@10"] <= found["recall@10"] <= 1
    table = CliRunner().invoke(bench, [*base[:-1], "--ablate", "negatives"], catch_exceptions=False).stdout
    assert [line.split()[0] for line in table.splitlines()] == ["varied", *["negatives"] * 3]
    for wrong in (["retrieval", "--json"], [*base, "--dim", "7"], [*base, "--until", "2020-01-01"]):
        assert isinstance(CliRunner().invoke(bench, wrong).exception, ConfigurationError)


def test_a_configuration_that_stands_in_two_groups_is_trained_once(monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[TowerConfig] = []

    def count(data: NextItemData, config: TowerConfig, seed: int) -> dict[str, float]:
        trained.append(config)
        return {"recall@10": float(len(trained))}

    monkeypatch.setattr(bench_retrieval, "_judged", count)
    rows = list(bench_retrieval.ablate(cycles(), SMALL, 1, ["logq", "negatives"]))
    assert [row["value"] for row in rows] == [*ABLATIONS["logq"], *ABLATIONS["negatives"]]
    assert rows[2]["recall@10"] == rows[3]["recall@10"]  # alpha 1 and mixed negatives are the configuration itself
    assert len(trained) == 5


def test_product_judge_counts_buyers_without_a_state_as_misses() -> None:
    lines = [bought(5, "anna", "tea"), bought(5, "bert", "saw"), bought(-1, "anna", "tea"), bought(-1, "dora", "tea")]
    items = items_of("tea", "cup", "nail", "saw")
    inputs = item_inputs(items)
    truth = {"anna": {0: 1.0}, "dora": {0: 1.0}}
    data = ProductData(histories_of(lines), items, inputs, CUT_US, truth)
    model = new_two_tower(inputs, TowerConfig(dim=8), 1).eval()
    found = product_judge(model, data)
    assert found["recall@100"] == 0.5  # four articles: all are among a hundred, for whoever has a vector
    assert 0 < found["map@12"] <= 0.5
