"""Rounds of rebuilding on the tiny shop: light and trained ones, judged against what serves, errors and signals."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.clock import SystemClock
from infra.errors import ConfigurationError, DataError
from infra.registry import Registry
from infra.settings import RegistrySettings, Settings
from offline.event_log import EventLog, import_data
from offline.examples import purchases_between
from offline.live_gate import compare_with_live, live_gate
from offline.progress import step
from offline.rebuild import Rebuilder, Rhythm, parse_duration
from offline.shop import load_shop
from offline.train_retrieval import item_inputs, new_two_tower
from offline.warm_start import newest_networks
from offline.window import Window
from serving.golden import open_runtime
from serving.runtime import Runtime
from streams.events import to_micros
from tests.support.tiny import START, TINY, article_number, customer_id, plant, write_tiny_shop
from tests.support.tiny_fixture import Tiny

END = START + timedelta(days=56)
FAST = replace(TINY, ablations=False)


class Bench:
    """A rebuilder over a shop's files, and what it told."""

    def __init__(self, directory: Path, read_log: Callable[[], EventLog] | None = None) -> None:
        self.shop = write_tiny_shop(directory / "shop")
        self.settings = Settings(
            data_dir=directory / "data", registry=RegistrySettings(url=f"file://{directory / 'registry'}")
        )
        self.registry = Registry(self.settings.registry.url)
        self.told: list[dict[str, Any]] = []
        self.read_log = read_log or (lambda: import_data("hm", self.shop, directory / "log"))

    def rebuild(self, rounds: int = 1, retrain: float = 1e6) -> list[dict[str, Any]]:
        before = len(self.told)
        rhythm = Rhythm(every=0.01, retrain=retrain, rounds=rounds, held_out=3)
        Rebuilder(self.settings, FAST, SystemClock(), self.read_log, rhythm, self.told.append).run()
        return self.told[before:]

    def runtime(self, bundle_id: str) -> Runtime:
        return open_runtime(self.registry.open(bundle_id))

    def buy(self, day: int, article: str) -> None:
        """A week's worth of sales on a day after the end of the shop's files."""
        plant(self.shop, [(END + timedelta(days=day), customer_id(n), article, 9.5) for n in range(0, 24, 2)])


def add_article(shop: Path, article_id: str) -> None:
    path = shop / "articles.parquet"
    table = pq.read_table(path)
    row = {**table.slice(0, 1).to_pylist()[0], "article_id": article_id, "prod_name": "Scarf 1"}
    pq.write_table(pa.concat_tables([table, pa.Table.from_pylist([row], table.schema)]), path)


@pytest.mark.slow
def test_a_light_round_counts_anew_around_the_same_networks(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    first, again = bench.rebuild(rounds=2)
    assert first["kind"] == "trained" and first["outcome"] in ("activated", "published")
    assert again["outcome"] == "unchanged"
    bench.registry.activate("production", first["bundle_id"])
    scarf = article_number("hat", 7)
    add_article(bench.shop, scarf)
    for day in range(4):
        bench.buy(day, scarf if day < 1 else article_number("top", 0))
    (light,) = bench.rebuild()
    assert light["kind"] == "light" and light["outcome"] in ("activated", "published")
    assert [gate["name"] for gate in light["gates"]][-1].startswith("not worse than the live bundle")
    before, after = bench.runtime(first["bundle_id"]), bench.runtime(light["bundle_id"])
    assert after.manifest.trained_through > before.manifest.trained_through
    # The same networks: old articles lie where they lay (all attributes of theirs were known).
    old = [after.items.index[article] for article in before.items.article_ids]
    np.testing.assert_allclose(after.catalog.vectors[old], before.catalog.vectors, atol=1e-6)
    # New counts: the new article is there, and was sold.
    assert scarf not in before.items.index
    assert after.catalog.statistics.sold_7d[after.items.index[scarf]] == 12
    # Nothing of the light round stays but its bundle.
    runs = [path for path in (bench.settings.data_dir / "runs").iterdir() if path.is_dir()]
    assert [path.name for path in runs if (path / "networks.json").exists()] == [path.name for path in runs]

    # With networks older than that, the next round trains, from where they were.
    bench.buy(4, article_number("top", 1))
    (trained,) = bench.rebuild(retrain=0.0)
    assert trained["kind"] == "trained"
    # What is worse than the live bundle is not even published.
    assert (trained["outcome"] == "refused") is not (trained["bundle_id"] in bench.registry.bundle_ids())
    assert (trained["outcome"] == "refused") is not trained["gates"][-1]["passed"]


@pytest.mark.slow
def test_a_tower_is_never_taken_from_after_the_cut(tiny: Tiny) -> None:
    """Warm start for a past cut takes the tower of that time: a later one has seen the labels."""
    from offline.learn import Learner

    log = tiny.log
    window = Window(log.span[1] - timedelta(days=5), 5)
    shop = load_shop(log, window, TINY.content, None, tiny.directory / "content")
    learner = Learner(shop, TINY.learn, 5 * 86_400_000_000, tiny.directory / "warm", 3)
    learner.learn()
    networks = newest_networks(tiny.directory)
    assert networks is not None and networks.note.cuts[-1] == to_micros(window.cut)
    model = new_two_tower(item_inputs(shop.items, shop.content), TINY.learn.tower, 9)
    assert networks.put_tower(model, shop.items, networks.note.cuts[0] - 1) is False
    for n, cut in enumerate(networks.note.cuts):
        assert networks.put_tower(model, shop.items, cut)
        stored = np.load(networks.directory / f"tower-{n}.npz", allow_pickle=False)
        for name, tensor in model.state_dict().items():
            np.testing.assert_array_equal(tensor.numpy(), stored[name])
    rankers, examples = networks.rankers()
    assert len(examples) and rankers.serving in ("mmoe", "catboost", "blend")


class Reversed:
    """A ranker that puts the worst first."""

    def __init__(self, ranker: Any) -> None:
        self._ranker = ranker
        self.tasks = ranker.tasks

    def score(self, features: Any) -> Any:
        return -self._ranker.score(features)


def test_a_worse_bundle_does_not_pass_against_the_live_one(tiny: Tiny) -> None:
    runtime, log = tiny.runtime, tiny.log
    cut = runtime.manifest.trained_through
    shop = load_shop(log, Window(cut, 3), TINY.content, None, tiny.directory / "content")
    from offline.histories import load_histories

    later = load_histories(log, cut + timedelta(days=3))
    bought = purchases_between(later, runtime.items, to_micros(cut), to_micros(cut + timedelta(days=3)))
    worse = replace(runtime, ranker=Reversed(runtime.ranker))
    verdicts = {}
    for name, candidate, live in (("same", runtime, runtime), ("worse", worse, runtime), ("better", runtime, worse)):
        with step("judge", 0) as progress:
            board = compare_with_live(candidate, live, shop.histories, bought, to_micros(cut), progress, seed=1)
        verdicts[name] = live_gate(board, live.bundle_id).passed
    assert verdicts == {"same": True, "worse": False, "better": True}


def test_a_round_that_fails_is_told_and_the_next_one_begins(tmp_path: Path) -> None:
    calls = 0

    def broken() -> EventLog:
        nonlocal calls
        calls += 1
        raise DataError("the disk is full", file=f"try-{calls}")

    told = Bench(tmp_path, broken).rebuild(rounds=3)
    assert [row["outcome"] for row in told] == ["failed"] * 3
    assert "try-3: the disk is full" in told[2]["error"]


def test_a_signal_ends_it_in_the_middle_of_a_round(tmp_path: Path) -> None:
    def interrupted() -> EventLog:
        signal.raise_signal(signal.SIGTERM)
        raise AssertionError("the round went on")

    handler = signal.getsignal(signal.SIGTERM)
    assert Bench(tmp_path, interrupted).rebuild(rounds=3) == []
    assert signal.getsignal(signal.SIGTERM) is handler


def test_durations() -> None:
    assert [parse_duration(text) for text in ("90s", "15m", "1h", "0.5d")] == [90, 900, 3_600, 43_200]
    for wrong in ("", "1", "0h", "-1h", "1w"):
        with pytest.raises(ConfigurationError, match="no duration"):
            parse_duration(wrong)
