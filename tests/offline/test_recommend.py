"""`modiste recommend`: one customer, all customers, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from infra.bundle import open_bundle, write_manifest
from infra.cli import cli
from infra.errors import ConfigurationError
from infra.registry import Registry
from offline.recommend import SCHEMA, write_answers
from serving.messages import Item, Recommendations
from tests.support.tiny import CUSTOMERS, KINDS, START, article_number, customer_id, write_tiny_shop
from tests.support.tiny_fixture import Tiny

Command = Callable[..., Result]
TOPS = {article_number("top", n) for n in range(KINDS)}
SHOES = {article_number("shoe", n) for n in range(KINDS)}


@pytest.fixture(scope="module")
def home(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with the tiny shop's files; the import happens with the first command."""
    directory = tmp_path_factory.mktemp("home")
    write_tiny_shop(directory / "shop")
    return directory


@pytest.fixture
def command(tiny: Tiny, home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MODISTE_REGISTRY__URL", tiny.registry_url)
    monkeypatch.setenv("MODISTE_DATA_DIR", str(home / "data"))

    def run(*args: str) -> Result:
        given = ["recommend", "--data", "hm", "--path", str(home / "shop"), *args]
        return CliRunner().invoke(cli, given, prog_name="modiste")

    return run


def answer(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.stderr
    (line,) = result.stdout.splitlines()
    found = json.loads(line)
    assert isinstance(found, dict)
    return found


def shown(found: dict[str, Any]) -> list[str]:
    return [item["article_id"] for item in found["items"]]


@pytest.mark.parametrize(("number", "staple", "camp"), [(0, "top", TOPS), (1, "shoe", SHOES)])
def test_a_customer_gets_the_staple_of_its_camp_first(
    command: Command, tiny: Tiny, number: int, staple: str, camp: set[str]
) -> None:
    found = answer(command("--customer", customer_id(number), "--k", "5", "--json"))
    assert shown(found)[0] == article_number(staple, 0)
    assert set(shown(found)) <= camp
    assert [item["rank"] for item in found["items"]] == [1, 2, 3, 4, 5]
    assert found["bundle_id"] == tiny.bundle_id
    assert found["as_of"].startswith("2020-07-1")  # of the last week before the cut


def test_an_unknown_customer_starts_cold_with_what_is_popular(command: Command, tiny: Tiny) -> None:
    found = answer(command("--customer", "nobody-knows", "--k", "3", "--json"))
    assert found["cold_start"] is True
    assert "as_of" not in found
    top = tiny.runtime.catalog.statistics.top[0, :3]
    assert shown(found) == [tiny.runtime.items.article_ids[row] for row in top]
    plain = command("--customer", "nobody-knows")
    assert "unknown customer" in plain.stdout


def test_all_writes_k_rows_a_customer_ranked_from_one(command: Command, tmp_path: Path) -> None:
    out = tmp_path / "all.parquet"
    said = answer(command("--all", "--out", str(out), "--k", "4", "--json"))
    assert (said["customers"], said["rows"]) == (CUSTOMERS, CUSTOMERS * 4)
    table = pq.read_table(out)
    assert table.schema.equals(
        pa.schema(
            [
                ("customer_id", pa.string()),
                ("article_id", pa.string()),
                ("rank", pa.int32()),
                ("score", pa.float32()),
                ("source", pa.string()),
            ]
        )
    )
    rows = table.to_pylist()
    by_customer: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_customer.setdefault(row["customer_id"], []).append(row)
    assert sorted(by_customer) == [customer_id(n) for n in range(CUSTOMERS)]
    for mine in by_customer.values():
        assert [row["rank"] for row in mine] == [1, 2, 3, 4]
        assert len({row["article_id"] for row in mine}) == 4
        scores = [row["score"] for row in mine]
        assert scores == sorted(scores, reverse=True)
        assert all(row["source"] for row in mine)
    assert list(tmp_path.iterdir()) == [out]


def test_one_customer_and_all_customers_agree(command: Command, tmp_path: Path) -> None:
    out = tmp_path / "all.parquet"
    answer(command("--all", "--out", str(out), "--k", "6", "--json"))
    batch = [r["article_id"] for r in pq.read_table(out).to_pylist() if r["customer_id"] == customer_id(7)]
    assert batch == shown(answer(command("--customer", customer_id(7), "--k", "6", "--json")))


def test_until_later_than_the_training_lets_newer_purchases_count(command: Command, tiny: Tiny) -> None:
    later = answer(command("--customer", customer_id(0), "--until", "2020-07-27", "--json"))
    assert later["as_of"] == "2020-07-20T00:00:00Z"  # bought in the week after the cut
    at_the_cut = answer(command("--customer", customer_id(0), "--until", "2020-07-20", "--json"))
    assert at_the_cut["as_of"] == "2020-07-13T00:00:00Z"


def test_until_before_the_end_of_training_is_refused(command: Command) -> None:
    refused = command("--customer", customer_id(0), "--until", "2020-07-19", "--json")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "its answers would know the future" in refused.stderr
    assert "trained on events up to 2020-07-20" in refused.stderr
    assert "modiste offline run --until 2020-07-19" in refused.stderr


@pytest.mark.parametrize(
    ("args", "text"),
    [
        ((), "either --customer ID or --all"),
        (("--customer", "a", "--all", "--out", "x.parquet"), "either --customer ID or --all"),
        (("--all",), "give --out"),
        (("--all", "--out", "no/such/place.parquet"), "there is no directory no/such"),
        (("--customer", "a", "--k", "0"), "--k"),
        (("--customer", "a", "--strategy", "guess"), "--strategy"),
        (("--customer", "a", "--until", "soon"), "'soon' is not a date"),
    ],
)
def test_wrong_use_is_refused_with_code_2(command: Command, tmp_path: Path, args: tuple[str, ...], text: str) -> None:
    refused = command(*args)
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert text in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not list(tmp_path.iterdir())


def test_another_data_set_than_the_bundles_is_refused(command: Command) -> None:
    refused = command("--data", "complete-journey", "--customer", "900")
    assert refused.exit_code == 2
    assert "was trained on hm" in refused.stderr
    assert "modiste offline run --data complete-journey" in refused.stderr


def test_without_a_bundle_the_command_says_what_to_do(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODISTE_REGISTRY__URL", f"file://{tmp_path}/empty")
    refused = command("--customer", "a")
    assert refused.exit_code == 2
    assert "production" in refused.stderr


def test_a_write_that_breaks_off_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    out = tmp_path / "all.parquet"
    out.write_bytes(b"of yesterday")

    def breaking() -> Iterator[Recommendations]:
        item = Item(article_id="milk", rank=1, score=0.5, source="popular")
        for n in range(1_000):
            yield Recommendations(request_id=str(n), customer_id=str(n), items=[item])
        raise RuntimeError("the power is gone")

    with pytest.raises(RuntimeError, match="power"):
        write_answers(breaking(), out)
    assert out.read_bytes() == b"of yesterday"
    assert list(tmp_path.iterdir()) == [out]


def test_more_answers_than_a_block_all_arrive(tmp_path: Path) -> None:
    def many() -> Iterator[Recommendations]:
        for n in range(600):
            items = [Item(article_id=f"a{rank}", rank=rank, score=1 / rank, source="popular") for rank in (1, 2)]
            yield Recommendations(request_id=str(n), customer_id=f"c{n:03d}", items=items)

    assert write_answers(many(), tmp_path / "x.parquet") == 1_200
    table = pq.read_table(tmp_path / "x.parquet")
    assert table.schema.equals(SCHEMA)
    assert table["customer_id"].to_pylist() == [f"c{n:03d}" for n in range(600) for _ in range(2)]


def test_out_in_a_directory_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="there is no directory"):
        write_answers(iter([]), tmp_path / "gone" / "x.parquet")


def test_a_bundle_with_a_changed_file_answers_nothing(
    tiny: Tiny, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    registry = tmp_path / "registry"
    shutil.copytree(tiny.registry_url.removeprefix("file://"), registry)
    vectors = registry / "bundles" / tiny.bundle_id / "item_vectors.npy"
    raw = bytearray(vectors.read_bytes())
    raw[-1] ^= 1
    vectors.write_bytes(raw)
    monkeypatch.setenv("MODISTE_REGISTRY__URL", f"file://{registry}")
    refused = command("--customer", customer_id(0))
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "item_vectors.npy" in refused.stderr


def test_a_bundle_that_ranks_otherwise_than_when_it_was_built_answers_nothing(
    tiny: Tiny, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole by its hashes, but its golden answers are another shop's."""
    import shutil

    staged = tmp_path / "staged"
    shutil.copytree(tiny.bundle.path, staged)
    golden = (staged / "golden.jsonl").read_text()
    for n in range(KINDS):
        golden = golden.replace(article_number("top", n), article_number("hat", n))
    (staged / "golden.jsonl").write_text(golden)
    manifest = open_bundle(tiny.bundle.path).manifest
    (staged / "manifest.json").unlink()
    write_manifest(
        staged,
        created_at=START + timedelta(days=1),
        trained_through=manifest.trained_through,
        config=manifest.config,
        contracts=manifest.contracts,
        counts=manifest.counts,
        metrics=manifest.metrics,
    )
    registry = Registry(f"file://{tmp_path / 'registry'}")
    registry.activate("production", registry.publish(staged))
    monkeypatch.setenv("MODISTE_REGISTRY__URL", f"file://{tmp_path / 'registry'}")
    refused = command("--customer", customer_id(0))
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "golden" in refused.stderr
