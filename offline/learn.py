"""Learn towers and ranker, walking forward in time.

    cut 1        cut 2        ...        data cut
      |  horizon   |  horizon              |
    tower        refresh                 refresh          each knows only what came before its cut
    examples     examples                                 labelled by the horizon after theirs

So every ranking example meets vectors, factors and counts of its own moment, as a request does at serving time, and no
article that was not known then: neither as a candidate nor, in the tower's training, as a negative.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np

from infra.errors import DataError
from offline.build_catalog import CatalogConfig, Vectors, catalog_at
from offline.examples import Examples, build_examples
from offline.models.two_tower import TwoTower
from offline.progress import Step, step
from offline.ranker_checkpoint import load_rankers, save_rankers
from offline.rankers import Rankers, train_rankers
from offline.shop import Shop
from offline.train_ranking import RankingConfig
from offline.train_retrieval import ItemInputs, TowerConfig, item_inputs, item_vectors, new_two_tower, train_two_tower
from offline.trained_encoder import TrainedEncoder
from offline.warm_start import Networks, leave_networks
from offline.weights import load_examples, load_weights, save_examples, save_weights
from serving.runtime import Catalog
from streams.encoder import MICROS_A_DAY

T = TypeVar("T")

FEW = 5  # horizons to learn from that are enough to leave the days in between out


@dataclass(frozen=True)
class LearnConfig:
    """`refresh_examples`: how many the tower sees at each cut after the first, in one pass, at `refresh_rate`.
    `warm_start`: whether the first cut, too, only refreshes the tower of an earlier run, where one is handed in."""

    tower: TowerConfig = field(default_factory=TowerConfig)
    refresh_examples: int = 100_000
    refresh_rate: float = 5e-4
    warm_start: bool = False
    catalog: CatalogConfig = field(default_factory=CatalogConfig)
    ranking: RankingConfig = field(default_factory=RankingConfig)


@dataclass(frozen=True, eq=False)
class Learned:
    """catalog: as of the data cut · examples: what the ranker learned from."""

    tower: TwoTower
    catalog: Catalog
    rankers: Rankers
    examples: Examples


class Learner:
    """Each stage leaves a checkpoint in `directory`, so a run that was stopped goes on where it was."""

    def __init__(
        self,
        shop: Shop,
        config: LearnConfig,
        horizon: int,
        directory: Path,
        seed: int,
        networks: Networks | None = None,
    ) -> None:
        """`networks`: of an earlier run."""
        self._networks = networks
        if networks is not None:
            shop = replace(shop, content=networks.content(shop.items, shop.content))
        self._shop = shop
        self._config = config
        self._horizon = horizon
        self._directory = directory
        self._seed = seed
        self.timings: dict[str, float] = {}

    def learn(self) -> Learned:
        """Towers, catalogue and ranker.

        Raises:
            GateError: nobody bought a candidate in any of the training weeks, or an export differs.
        """
        shop, config = self._shop, self._config
        first = int(np.min(shop.histories.occurred_at, initial=shop.cut))
        cuts = example_cuts(first, shop.cut, self._horizon, config.ranking.weeks)
        tower = new_two_tower(self._inputs, config.tower, self._seed)
        refresh = config.tower
        if not is_short(first, shop.cut, self._horizon, config.ranking.weeks):
            # The first cut of a short log has next to nothing before it, so there every cut is trained in full.
            refresh = replace(refresh, examples=config.refresh_examples, epochs=1, learning_rate=config.refresh_rate)
        parts = []
        # A tower that was trained later would have seen the labels of the first week.
        warm = config.warm_start and self._networks is not None and self._networks.put_tower(tower, shop.items, cuts[0])
        with step("examples", config.ranking.customers * len(cuts)) as progress:
            for n, cut in enumerate(cuts):
                self._tower(tower, cut, refresh if n or warm else config.tower, n)
                parts.append(self._week(tower, cut, n, progress))
        examples = Examples.drain(parts)
        rankers = self._rankers(examples)
        self._tower(tower, shop.cut, refresh, len(cuts))
        catalog = self.timed("catalog", lambda: self._catalog(tower, shop.cut, "data-cut"))
        leave_networks(self._directory, shop, [*cuts, shop.cut], time.time())
        return Learned(tower, catalog, rankers, examples)

    def light(self) -> Learned:
        """A new catalogue around the networks of the earlier run, with these networks.

        Raises:
            DataError: there are none that fit.
        """
        tower, catalog = self._around()
        rankers, examples = self._earlier().rankers()
        return Learned(tower, catalog, rankers, examples)

    def catalog(self) -> Catalog:
        """A new catalogue, with its counts, factors and index, around the tower of the earlier run.

        Raises:
            DataError: there is none that fits.
        """
        return self._around()[1]

    def _around(self) -> tuple[TwoTower, Catalog]:
        shop = self._shop
        tower = new_two_tower(self._inputs, self._config.tower, self._seed)
        if not self._earlier().put_tower(tower, shop.items):
            raise DataError("the earlier run's networks do not fit; let one train")
        return tower, self.timed("catalog", lambda: self._catalog(tower, shop.cut, "data-cut"))

    @cached_property
    def _inputs(self) -> ItemInputs:
        return item_inputs(self._shop.items, self._shop.content)

    def _earlier(self) -> Networks:
        if self._networks is None:
            raise DataError("no earlier run has left networks; let one train")
        return self._networks

    def _tower(self, tower: TwoTower, cut: int, config: TowerConfig, n: int) -> None:
        """Train in place through `cut`, or take up the checkpoint."""
        shop = self._shop
        path = self._directory / f"tower-{n}.npz"
        if not load_weights(tower, path):
            known = shop.known_at(cut)
            self.timed(
                "two-tower",
                lambda: train_two_tower(
                    tower, self._inputs, shop.histories, shop.items, cut, config, seed=self._seed + n, known=known
                ),
            )
            save_weights(tower, path)

    def _week(self, tower: TwoTower, cut: int, n: int, progress: Step) -> Examples:
        path = self._directory / f"examples-{n}.npz"
        examples = load_examples(path)
        if examples is None:
            catalog = self.timed("catalog", lambda: self._catalog(tower, cut, f"cut-{n}"))
            examples = self.timed(
                "examples",
                lambda: build_examples(
                    self._shop.histories,
                    catalog,
                    cut,
                    self._horizon,
                    progress,
                    limit=self._config.ranking.customers,
                    seed=self._seed,
                ),
            )
            save_examples(examples, path)
        return examples

    def _catalog(self, tower: TwoTower, cut: int, space: str) -> Catalog:
        shop = self._shop
        items, known = shop.items_at(cut), shop.known_at(cut)
        vectors = item_vectors(tower, self._inputs)[known]
        encoder = TrainedEncoder(tower, vectors, items.index, space)
        return catalog_at(
            shop.histories,
            items,
            shop.segments,
            cut,
            Vectors(vectors, encoder, shop.content[known]),
            self._config.catalog,
            seed=self._seed,
        )

    def _rankers(self, examples: Examples) -> Rankers:
        rankers = load_rankers(self._directory)
        if rankers is None:
            config = self._config.ranking
            rankers = self.timed("ranker", lambda: train_rankers(examples, config, self._horizon, seed=self._seed))
            save_rankers(rankers, self._directory)
        return rankers

    def timed(self, name: str, work: Callable[[], T]) -> T:
        started = time.monotonic()
        result = work()
        self.timings[name] = round(self.timings.get(name, 0.0) + time.monotonic() - started, 2)
        return result


def example_cuts(first: int, cut: int, horizon: int, weeks: int) -> list[int]:
    """Past cuts to learn to rank at, ascending, each with a whole horizon before `cut` (all in microseconds).

    A long log is cut every horizon, so that no label is used twice, as long as there is one of history; a short one
    every day, since a few overlapping windows teach more than one.
    """
    day = int(MICROS_A_DAY)
    short = is_short(first, cut, horizon, weeks)
    stride, history = (min(day, horizon), 1) if short else (horizon, horizon)
    cuts = [cut - horizon - n * stride for n in range(weeks)]
    return [c for c in reversed(cuts) if c >= first + history] or [cut - horizon]


def is_short(first: int, cut: int, horizon: int, weeks: int) -> bool:
    """Whether a log from `first` has no room for so many horizons, or FEW of them, and one of history before them."""
    return cut - first < (min(weeks, FEW) + 1) * horizon
