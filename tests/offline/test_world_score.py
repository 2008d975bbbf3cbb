"""Answers are scored by the true chances: the best answer finds all there is, a worse one its share."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from infra.errors import DataError
from offline.data_cli import data
from offline.world.files import read_world, write_world
from offline.world.score import score_answers
from offline.world.settings import WorldSize

SIZE = WorldSize(customers=60, articles=80, days=40, seed=2)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("world") / "shop"
    write_world(SIZE, out)
    return out


def write_answers(path: Path, table: pa.Table) -> Path:
    pq.write_table(table.select(["customer_id", "rank", "article_id"]), path)
    return path


def test_the_best_answer_finds_all(world: Path) -> None:
    score = score_answers(world, world / "oracle" / "best.parquet")
    assert (score.found, score.low, score.high) == (1.0, 1.0, 1.0)
    stated = read_world(world).chance_in_12
    assert score.best == score.answers == pytest.approx(stated["best"], abs=1e-5)
    assert score.random == pytest.approx(stated["random"], abs=1e-5)
    assert (score.customers, score.as_of) == (60, "2025-02-03")


def test_a_worse_answer_finds_the_sum_of_its_chances(world: Path, tmp_path: Path) -> None:
    best = pq.read_table(world / "oracle" / "best.parquet")
    rank = best["rank"].to_numpy()
    shifted = best.filter(pa.array(rank > 12))  # the answer from the 13th on
    shifted = shifted.set_column(shifted.schema.get_field_index("rank"), "rank", pa.array(rank[rank > 12] - 12))
    score = score_answers(world, write_answers(tmp_path / "a.parquet", shifted))
    chances = best["probability"].to_numpy().reshape(60, -1)
    assert score.answers == pytest.approx(chances[:, 12:24].sum(axis=1).mean(), abs=1e-5)
    assert score.found == pytest.approx(chances[:, 12:24].sum() / chances[:, :12].sum(), abs=1e-4)
    assert score.low < score.found < score.high < 1


def test_an_article_named_twice_counts_once_and_short_lists_are_fine(world: Path, tmp_path: Path) -> None:
    best = pq.read_table(world / "oracle" / "best.parquet").slice(0, 1).to_pylist()[0]
    rows = [{**best, "rank": place} for place in (1, 2, 5)]
    score = score_answers(world, write_answers(tmp_path / "a.parquet", pa.Table.from_pylist(rows)))
    assert score.customers == 1
    assert score.answers == pytest.approx(best["probability"], abs=1e-5)


def test_the_command_prints_the_score(world: Path) -> None:
    arguments = ["score", "--world", str(world), "--answers", str(world / "oracle" / "best.parquet"), "--k", "3"]
    result = CliRunner().invoke(data, [*arguments, "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["found"] == 1.0
    assert "100.0% of what was possible" in CliRunner().invoke(data, arguments).stdout


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("customer_id", "anna", r"column customer_id, row 1: 'anna' is not of this world"),
        ("article_id", "7", r"column article_id, row 1: '7' is not of this world"),
        ("rank", 13, r"column rank: no row with a rank from 1 to 12"),
    ],
)
def test_answers_of_another_world_are_refused(
    world: Path, tmp_path: Path, column: str, value: object, words: str
) -> None:
    row = {"customer_id": "c0000001", "rank": 1, "article_id": "0100000001", column: value}
    with pytest.raises(DataError, match=words):
        score_answers(world, write_answers(tmp_path / "a.parquet", pa.Table.from_pylist([row])))


def test_a_file_that_is_no_answer_is_refused(world: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a Parquet file"):
        score_answers(world, tmp_path / "nothing.parquet")
    pq.write_table(pa.table({"customer_id": np.array(["c0000001"])}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"column rank: column missing"):
        score_answers(world, tmp_path / "a.parquet")
