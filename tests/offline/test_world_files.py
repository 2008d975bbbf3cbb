"""A synthetic world is written as files that the H&M adapter reads too, byte for byte the same by seed."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from PIL import Image

from infra.errors import ConfigurationError, DataError
from offline.data_cli import data
from offline.event_log import import_data
from offline.sources import synthetic
from offline.validate import validate_data
from offline.world.files import read_world, write_world
from offline.world.oracle import HORIZON, Oracle
from offline.world.pictures import HEIGHT, WIDTH, draw_garment
from offline.world.settings import WorldSize
from offline.world.simulation import Simulation, World
from offline.world.vocabulary import COLOURS, GARMENTS, PATTERNS

SIZE = WorldSize(customers=120, articles=60, days=40, seed=2)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("world") / "shop"
    write_world(SIZE, out, pictures=True)
    return out


def contents(directory: Path) -> dict[str, bytes]:
    return {str(p.relative_to(directory)): p.read_bytes() for p in directory.rglob("*") if p.is_file()}


def test_equal_seeds_give_equal_bytes_and_others_do_not(written: Path, tmp_path: Path) -> None:
    write_world(SIZE, tmp_path / "again", pictures=True)
    assert contents(tmp_path / "again") == contents(written)
    write_world(WorldSize(120, 60, 40, seed=3), tmp_path / "other", pictures=True)
    other = contents(tmp_path / "other")
    for name in ("articles.parquet", "customers.parquet", "transactions_train.parquet", "oracle/best.parquet"):
        assert other[name] != contents(written)[name]


def test_both_adapters_read_it(written: Path, tmp_path: Path) -> None:
    counts = read_world(written).counts
    log = import_data("synthetic", written, tmp_path / "log")
    types = log.read()["type"].to_pylist()
    assert (types.count("purchase"), types.count("view")) == (counts["transactions"], counts["views"])
    assert validate_data("synthetic", written).passed
    plain = import_data("hm", written, tmp_path / "hm")
    assert plain.manifest.counts["events"] == counts["transactions"]
    assert plain.articles().equals(log.articles())
    purchases = [e for e in log.read().to_pylist() if e["type"] == "purchase"]
    assert sorted((e["customer_id"], e["article_id"], e["price"]) for e in purchases) == sorted(
        (e["customer_id"], e["article_id"], e["price"]) for e in plain.read().to_pylist()
    )
    assert any(e["occurred_at"].second for e in purchases)


def test_without_a_path_a_small_world_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(synthetic, "DEFAULT_SIZE", WorldSize(40, 20, 9))
    made = import_data("synthetic", None, tmp_path / "log")
    world = tmp_path / ".modiste" / "synthetic-world"
    assert made.manifest.counts["customers"] == 40
    before = (world / "world.json").stat().st_mtime_ns
    assert import_data("synthetic", None, tmp_path / "log").content_hash == made.content_hash
    assert (world / "world.json").stat().st_mtime_ns == before
    monkeypatch.setattr(synthetic, "DEFAULT_SIZE", WorldSize(50, 20, 9))
    assert import_data("synthetic", None, tmp_path / "log").manifest.counts["customers"] == 50


def test_csv_says_what_parquet_says(written: Path, tmp_path: Path) -> None:
    write_world(SIZE, tmp_path / "csv", csv=True)
    assert (tmp_path / "csv" / "transactions_train.csv").is_file()
    from_csv = import_data("synthetic", tmp_path / "csv", tmp_path / "one")
    assert from_csv.content_hash == import_data("synthetic", written, tmp_path / "two").content_hash


def test_the_written_best_answer_is_the_oracles(written: Path) -> None:
    best = pq.read_table(written / "oracle" / "best.parquet").to_pandas()
    simulation = Simulation(World(SIZE))
    for _ in simulation.run(SIZE.days - HORIZON):
        pass
    articles, chances = Oracle(simulation).best(np.array([7]), 60)
    mine = best[best.customer_id == "c0000007"]
    ids = simulation.world.catalogue.ids.to_pylist()
    assert mine.article_id.tolist() == [ids[a] for a in articles[0]]
    np.testing.assert_allclose(mine.probability, chances[0])
    assert mine["rank"].tolist() == list(range(1, 61))
    assert mine.as_of.iloc[0] == SIZE.date(SIZE.days - HORIZON)
    assert chances.sum() == pytest.approx(1)
    stated = read_world(written).chance_in_12
    assert stated["best"] == pytest.approx(
        best[best["rank"] <= 12].groupby("customer_id").probability.sum().mean(), abs=1e-6
    )
    assert stated["best"] > stated["bestsellers"] > stated["random"]


def test_every_picture_decodes_and_has_the_colour_of_its_article(written: Path) -> None:
    articles = pq.read_table(written / "articles.parquet").to_pylist()
    colours = {colour.name: np.array(colour.rgb) for colour in COLOURS}
    catalogue = World(SIZE).catalogue
    for article, garment, product in zip(articles, catalogue.garment, catalogue.product, strict=True):
        number = article["article_id"]
        pixels = decoded((written / "images" / number[:3] / f"{number}.jpg").read_bytes())
        mean = pixels[cloth(int(garment), int(product))].mean(axis=0)
        assert np.abs(mean - colours[article["colour_group_name"]]).max() < 50, article
        assert article["colour_group_name"].lower() in article["detail_desc"]
        assert article["product_type_name"].split("/")[0].lower() in article["detail_desc"]


def test_plain_pictures_show_their_colour_and_no_other() -> None:
    named = np.array([colour.rgb for colour in COLOURS])
    for garment in range(len(GARMENTS)):
        where = cloth(garment, 100_003)
        for colour in range(len(COLOURS)):
            middle = np.median(decoded(draw_garment(garment, colour, 0, 100_003))[where], axis=0)
            assert np.abs(named - middle).sum(axis=1).argmin() == colour, (GARMENTS[garment].name, COLOURS[colour].name)


@pytest.mark.parametrize("pattern", range(1, len(PATTERNS)))
def test_patterns_are_seen(pattern: int) -> None:
    plain, patterned = (decoded(draw_garment(0, 3, p, 100_005)) for p in (0, pattern))
    assert (np.abs(plain.astype(int) - patterned).max(axis=2) > 40).mean() > 0.005


def decoded(jpeg: bytes) -> np.ndarray:
    image = Image.open(io.BytesIO(jpeg))
    assert image.size == (WIDTH, HEIGHT)
    return np.asarray(image.convert("RGB"))


def cloth(garment: int, product: int) -> np.ndarray:
    """Where the garment is, bool[height, width]: the pixels that differ between a black one and a white one."""
    black, white = (decoded(draw_garment(garment, colour, 0, product)).astype(int) for colour in (0, 1))
    return (white - black).min(axis=2) > 120


def test_the_command_writes_replaces_and_reports(tmp_path: Path) -> None:
    out = tmp_path / "shop"
    arguments = ["synthesize", "--out", str(out), "--customers", "40", "--articles", "20", "--days", "9", "--json"]
    for _ in range(2):
        result = CliRunner().invoke(data, arguments)
        assert result.exit_code == 0, result.output
        told = json.loads(result.stdout)
        assert told["size"] == {"customers": 40, "articles": 20, "days": 9, "seed": 1}
        assert told["counts"]["transactions"] == pq.read_metadata(out / "transactions_train.parquet").num_rows
    assert [p.name for p in tmp_path.iterdir()] == ["shop"]


def test_what_is_not_a_world_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    with pytest.raises(ConfigurationError, match="not a synthetic world"):
        write_world(SIZE, tmp_path / "mine")
    with pytest.raises(ConfigurationError, match="data synthesize --out"):
        import_data("synthetic", tmp_path / "mine", tmp_path / "log")
    assert contents(tmp_path) == {"mine/notes.txt": b"keep"}
    (tmp_path / ".busy.writing").mkdir()
    with pytest.raises(ConfigurationError, match="is being written"):
        write_world(SIZE, tmp_path / "busy")


def test_a_broken_view_is_named(tmp_path: Path) -> None:
    write_world(WorldSize(40, 20, 9), tmp_path / "shop")
    path = tmp_path / "shop" / "views.parquet"
    table = pq.read_table(path)
    ids = ["0000000007", *table["article_id"].to_pylist()[1:]]
    pq.write_table(table.set_column(table.schema.get_field_index("article_id"), "article_id", [ids]), path)
    with pytest.raises(DataError, match=r"views.parquet, column article_id, row 1: '0000000007': no such article"):
        import_data("synthetic", tmp_path / "shop", tmp_path / "log")
