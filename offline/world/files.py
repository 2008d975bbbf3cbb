"""Writes a synthetic world as files in H&M's Kaggle layout, however large, holding one day at a time.

DIR/articles, customers, transactions_train   H&M's columns; transactions also say the second (occurred_at)
DIR/views.parquet                             what was looked at, and whether from a slate, by browsing, before buying
DIR/impressions.parquet                       what was shown where, with the logging policy's propensity
DIR/oracle/best.parquet                       the best answer at the start of the last week, with true chances
DIR/oracle/view_probabilities.parquet         the true chance of a view for each row of impressions
DIR/images/010/0100000001.jpg                 pictures, where wanted
DIR/world.json                                size, seed, counts, and how good the best answer is
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from infra.errors import ConfigurationError
from offline.progress import step
from offline.world.catalogue import Catalogue, article_table
from offline.world.customers import customer_ids, customer_table
from offline.world.oracle import HORIZON, Oracle
from offline.world.pictures import draw_garment
from offline.world.settings import FIRST_DAY, WorldSize
from offline.world.simulation import Day, Purchases, Simulation, World

WORLD_FORMAT = 1
VIEW_SOURCES = ("slate", "browsing", "before buying")
BEST_K = 100
ORACLE_CUSTOMERS = 5_000
_ROWS = 100_000
_CUSTOMERS = 50_000
_ANSWERS = 128
_TIME = pa.timestamp("us", tz="UTC")


@dataclass(frozen=True)
class WorldManifest:
    """What `world.json` says. `counts` by file; `chance_in_12`: how probable it is that a piece of the next visit is
    among the first 12 of the best answer, of the bestsellers, and of articles at random, on average over the
    customers of `oracle/best.parquet`."""

    format: int
    size: WorldSize
    counts: dict[str, int]
    chance_in_12: dict[str, float]


def read_world(directory: Path) -> WorldManifest:
    """The manifest of a written world.

    Raises:
        ConfigurationError: the directory holds none, or one of another format.
    """
    try:
        manifest = msgspec.json.decode((directory / "world.json").read_bytes(), type=WorldManifest)
    except (OSError, msgspec.DecodeError) as error:
        raise ConfigurationError(
            f"{directory} holds no synthetic world; make one with `modiste offline data synthesize --out {directory}`: "
            f"{error}"
        ) from error
    if manifest.format != WORLD_FORMAT:
        raise ConfigurationError(
            f"{directory} holds a world of format {manifest.format}; this code reads {WORLD_FORMAT}"
        )
    return manifest


def write_world(
    size: WorldSize, out: Path, *, pictures: bool = False, csv: bool = False, oracle_customers: int = ORACLE_CUSTOMERS
) -> WorldManifest:
    """Make a world in the directory `out`, which is empty, absent, or holds an older world that is replaced.

    Equal sizes, seeds and options give equal bytes with equal versions of pyarrow and Pillow. `csv` writes H&M's
    three tables as CSV; the others are Parquet always.

    Raises:
        ConfigurationError: `out` is something else, a world is being written there, Pillow is missing.
    """
    with _aside(out) as directory:
        world = World(size)
        kind = "csv" if csv else "parquet"
        _write_table(directory / f"articles.{kind}", article_table(world.catalogue))
        with _Writer(directory / f"customers.{kind}") as writer:
            for first in range(0, size.customers, _CUSTOMERS):
                last = min(first + _CUSTOMERS, size.customers)
                writer.add(customer_table(world.customers, size.seed, first, last))
        counts = {"articles": size.articles, "customers": size.customers}
        chances = _write_days(world, directory, kind, counts, min(oracle_customers, size.customers))
        if pictures:
            counts["pictures"] = _write_pictures(world.catalogue, directory / "images")
        manifest = WorldManifest(WORLD_FORMAT, size, counts, chances)
        (directory / "world.json").write_bytes(msgspec.json.format(msgspec.json.encode(asdict(manifest)), indent=2))
    return manifest


def _write_days(
    world: World, directory: Path, kind: str, counts: dict[str, int], oracle_customers: int
) -> dict[str, float]:
    (directory / "oracle").mkdir()
    names = {
        "transactions": f"transactions_train.{kind}",
        "views": "views.parquet",
        "impressions": "impressions.parquet",
        "truth": "oracle/view_probabilities.parquet",
    }
    writers = {name: _Writer(directory / file) for name, file in names.items()}
    ids, people = world.catalogue.ids, customer_ids(np.arange(world.size.customers))
    chances: dict[str, float] = {}
    try:
        simulation = Simulation(world)
        judged = max(world.size.days - HORIZON, 0)
        with step("days", world.size.days) as progress:
            for stop in (judged, world.size.days):
                for day in simulation.run(stop):
                    for name, table in _day_tables(day, ids, people).items():
                        writers[name].add(table)
                    progress.advance()
                if stop == judged:
                    chances = _write_best(Oracle(simulation), oracle_customers, directory / "oracle" / "best.parquet")
    finally:
        for writer in writers.values():
            writer.close()
    counts.update({name: writers[name].rows for name in ("transactions", "views", "impressions")})
    return chances


def _day_tables(day: Day, ids: pa.Array, people: pa.Array) -> dict[str, pa.Table]:
    tables = {"transactions": _transactions(day.day, day.purchases, ids, people)}
    if day.views is not None and day.impressions is not None:
        views, shown = day.views, day.impressions
        tables["views"] = pa.table(
            {
                "occurred_at": _moments(day.day, views.second),
                "customer_id": people.take(pa.array(views.customer)),
                "article_id": ids.take(pa.array(views.article)),
                "source": pa.array(VIEW_SOURCES).take(pa.array(views.source)),
            }
        )
        request = pc.binary_join_element_wise(str(day.day), pa.array(shown.visit).cast(pa.string()), "-")
        tables["impressions"] = pa.table(
            {
                "request_id": request,
                "occurred_at": _moments(day.day, shown.second),
                "customer_id": people.take(pa.array(shown.customer)),
                "article_id": ids.take(pa.array(shown.article)),
                "position": pa.array(shown.position.astype(np.int8)),
                "propensity": pa.array(shown.propensity),
                "viewed": pa.array(shown.viewed),
            }
        )
        tables["truth"] = pa.table(
            {
                "request_id": request,
                "position": pa.array(shown.position.astype(np.int8)),
                "view_probability": pa.array(shown.view_probability),
            }
        )
    return tables


def _transactions(day: int, bought: Purchases, ids: pa.Array, people: pa.Array) -> pa.Table:
    moments = _moments(day, bought.second)
    return pa.table(
        {
            "t_dat": moments.cast(pa.date32()),
            "customer_id": people.take(pa.array(bought.customer)),
            "article_id": ids.take(pa.array(bought.article)),
            "price": pa.array(bought.price),
            "sales_channel_id": pa.array(bought.channel),
            "occurred_at": moments,
        }
    )


def _moments(day: int, seconds: npt.NDArray[np.int64]) -> pa.Array:
    start = int(FIRST_DAY.timestamp()) + day * 86_400
    return pa.array((start + seconds) * 1_000_000).cast(_TIME)


def _write_best(oracle: Oracle, customers: int, path: Path) -> dict[str, float]:
    """The table customer_id, as_of, rank (from 1), article_id, probability; returns `chance_in_12`."""
    size, ids = oracle.world.size, oracle.world.catalogue.ids
    demand = oracle.world.demand.on(oracle.day)
    bestsellers = np.argsort(-demand.demand, kind="stable")[:12]
    best_sum = popular_sum = 0.0
    with _Writer(path) as writer, step("best answers", customers) as progress:
        for first in range(0, customers, _ANSWERS):
            who = np.arange(first, min(first + _ANSWERS, customers))
            articles, chances = oracle.best(who, BEST_K)
            best_sum += float(chances[:, :12].sum())
            popular_sum += float(oracle.on_day(who, oracle.day)[:, bestsellers].sum())
            k = articles.shape[1]
            writer.add(
                pa.table(
                    {
                        "customer_id": customer_ids(np.repeat(who, k)),
                        "as_of": pa.repeat(pa.scalar(size.date(oracle.day), _TIME), articles.size),
                        "rank": pa.array(np.tile(np.arange(1, k + 1, dtype=np.int16), len(who))),
                        "article_id": ids.take(pa.array(articles.ravel())),
                        "probability": pa.array(chances.ravel()),
                    }
                )
            )
            progress.advance(len(who))
    on_sale = max(int(demand.on_sale.sum()), 1)
    sums = {"best": best_sum / customers, "bestsellers": popular_sum / customers, "random": min(12 / on_sale, 1.0)}
    return {name: round(value, 6) for name, value in sums.items()}


def _write_pictures(catalogue: Catalogue, directory: Path) -> int:
    columns = (catalogue.garment, catalogue.colour, catalogue.pattern, catalogue.product)
    with step("pictures", len(catalogue)) as progress:
        for name, *row in zip(catalogue.ids.to_pylist(), *(c.tolist() for c in columns), strict=True):
            path = directory / name[:3] / f"{name}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(draw_garment(*row))
            progress.advance()
    return len(catalogue)


def _write_table(path: Path, table: pa.Table) -> None:
    with _Writer(path) as writer:
        writer.add(table)


class _Writer:
    """One growing CSV or Parquet file, by its suffix; holds back up to 100,000 rows."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows = 0
        self._held: list[pa.Table] = []
        self._writer: pq.ParquetWriter | pacsv.CSVWriter | None = None

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add(self, table: pa.Table) -> None:
        self._held.append(table)
        self.rows += table.num_rows
        if sum(held.num_rows for held in self._held) >= _ROWS:
            self._flush()

    def close(self) -> None:
        self._flush()
        if self._writer is not None:
            self._writer.close()

    def _flush(self) -> None:
        if not self._held:
            return
        table = pa.concat_tables(self._held)
        self._held.clear()
        if self._writer is None:
            if self.path.suffix == ".csv":
                self._writer = pacsv.CSVWriter(self.path, table.schema)
            else:
                self._writer = pq.ParquetWriter(self.path, table.schema, compression="zstd")
        self._writer.write_table(table)


@contextmanager
def _aside(out: Path) -> Iterator[Path]:
    """An empty directory beside `out` that takes its place when all went well, and is removed otherwise."""
    out = out.absolute()
    if out.exists() and not (out / "world.json").is_file() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigurationError(f"{out} exists and is not a synthetic world; choose another place or remove it")
    aside = out.with_name(f".{out.name}.writing")
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        aside.mkdir()
    except FileExistsError as error:
        raise ConfigurationError(
            f"a world is being written to {out}; wait for it, or remove {aside} where that was stopped"
        ) from error
    try:
        yield aside
        if out.exists():
            shutil.rmtree(out)
        aside.rename(out)
    finally:
        if aside.exists():
            shutil.rmtree(aside)
