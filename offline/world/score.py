"""Scores answers against the true chances of a synthetic world: how much of what could be known was found."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from infra.errors import DataError
from offline.progress import step
from offline.world.customers import customer_ids
from offline.world.files import read_world
from offline.world.oracle import HORIZON, Oracle
from offline.world.simulation import Simulation, World

_Indices = npt.NDArray[np.int64]
_Numbers = npt.NDArray[np.float64]

_CHUNK = 128
_RESAMPLES = 1_000
_COLUMNS = ("customer_id", "rank", "article_id")


@dataclass(frozen=True)
class WorldScore:
    """How probable it is that a piece of the next visit is among the first k: of the answers, of the best answer,
    of the bestsellers, of articles on sale at random; means over the customers who were answered.

    found: answers / best, the share of what was possible; low, high: its 95% bootstrap interval over customers ·
    as_of: the date before which everything may be known, and after which nothing may be.
    """

    as_of: str
    k: int
    customers: int
    answers: float
    best: float
    bestsellers: float
    random: float
    found: float
    low: float
    high: float


def score_answers(directory: Path, answers: Path, k: int = 12) -> WorldScore:
    """Score a Parquet file with customer_id, rank (from 1) and article_id, such as `modiste recommend --all` writes.

    The world is played again up to its last week, so it takes as long as writing it without views did.

    Raises:
        ConfigurationError: the directory holds no world.
        DataError: the file cannot be read, lacks a column, or names a customer or article that the world lacks.
    """
    world = World(read_world(directory).size)
    who, lists = _read(answers, world, k)
    simulation = Simulation(world)
    judged = max(world.size.days - HORIZON, 0)
    for _ in simulation.run(judged, with_views=False):
        pass
    oracle = Oracle(simulation)
    demand = world.demand.on(judged)
    bestsellers = np.argsort(-demand.demand, kind="stable")[:k]
    given, best, popular = (np.empty(len(who)) for _ in range(3))
    with step("customers", len(who)) as progress:
        for first in range(0, len(who), _CHUNK):
            part = slice(first, first + _CHUNK)
            chances = oracle.probabilities(who[part])
            known = lists[part] >= 0
            given[part] = (np.take_along_axis(chances, np.maximum(lists[part], 0), axis=1) * known).sum(axis=1)
            best[part] = np.sort(chances, axis=1)[:, -k:].sum(axis=1)
            popular[part] = chances[:, bestsellers].sum(axis=1)
            progress.advance(len(chances))
    draws = np.random.default_rng(world.size.seed).integers(0, len(who), (_RESAMPLES, len(who)))
    low, high = np.quantile(given[draws].sum(axis=1) / best[draws].sum(axis=1), [0.025, 0.975])
    means = (given.mean(), best.mean(), popular.mean(), min(k / max(int(demand.on_sale.sum()), 1), 1.0))
    shares = (given.sum() / best.sum(), low, high)
    numbers = [round(float(value), 5) for value in (*means, *shares)]
    return WorldScore(world.size.date(judged).date().isoformat(), k, len(who), *numbers)


def _read(path: Path, world: World, k: int) -> tuple[_Indices, _Indices]:
    """Customers int64[m] and their first k articles int64[m, k], -1 where a list is shorter or names one twice."""
    try:
        file = pq.ParquetFile(path)
        missing = [name for name in _COLUMNS if name not in file.schema_arrow.names]
        if missing:
            raise DataError("column missing", file=path.name, column=missing[0])
        table = file.read(list(_COLUMNS))
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"not a Parquet file: {error}", file=str(path)) from error
    customer = _places(table["customer_id"], customer_ids(np.arange(world.size.customers)), path, "customer_id")
    article = _places(table["article_id"], world.catalogue.ids, path, "article_id")
    rank = table["rank"].to_numpy()
    use = (rank >= 1) & (rank <= k)
    if not use.any():
        raise DataError(f"no row with a rank from 1 to {k}", file=path.name, column="rank")
    who, row = np.unique(customer[use], return_inverse=True)
    lists = np.full((len(who), k), -1, np.int64)
    lists[row, rank[use] - 1] = article[use]
    for place in range(1, k):  # an article counts once
        lists[(lists[:, :place] == lists[:, [place]]).any(axis=1), place] = -1
    return who, lists


def _places(names: pa.ChunkedArray, known: pa.Array, path: Path, column: str) -> _Indices:
    places = pc.index_in(names, value_set=known).combine_chunks()
    if places.null_count:
        row = int(np.flatnonzero(places.is_null().to_numpy(zero_copy_only=False))[0])
        raise DataError(f"{names[row].as_py()!r} is not of this world", file=path.name, column=column, row=row + 1)
    return np.asarray(places.to_numpy(zero_copy_only=False), np.int64)
