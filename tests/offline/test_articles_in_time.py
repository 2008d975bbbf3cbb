"""An article is what was known of it at the cut: in the log, in a shop, in an example of the past, and in a bundle."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import torch

from infra.bundle import Bundle
from infra.clock import ManualClock
from infra.registry import Registry
from offline import learn
from offline.build_catalog import catalog_at
from offline.event_log import EventLog, import_data
from offline.learn import Learner
from offline.run import OfflineRun, limit_threads
from offline.shop import load_shop
from offline.sources.merged import merged_id
from offline.train_retrieval import item_inputs, new_two_tower, train_two_tower
from offline.validate_log import validate_log
from offline.window import Window
from streams.events import to_micros
from tests.offline import rocket_shop
from tests.offline.rocket_shop import CUT, START, add, event, told, week, write_rocket_shop
from tests.offline.tiny_data import write_hm
from tests.support.tiny import TINY

WINDOW = Window(CUT, 7)
HOUR = timedelta(hours=1)
NEW = 77  # an item that no file names
LITTLE = replace(
    TINY.learn,
    tower=replace(TINY.learn.tower, examples=500, epochs=1),
    ranking=replace(TINY.learn.ranking, weeks=2, steps=4, every=2),
)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> EventLog:
    directory = tmp_path_factory.mktemp("rocket")
    return import_data("retailrocket", write_rocket_shop(directory / "shop"), directory / "log")


def known(log: EventLog, until: datetime | None = None) -> dict[str, tuple[str | None, str | None]]:
    """article_id -> subcategory and text."""
    return {a["article_id"]: (a["subcategory"], a["text"]) for a in log.articles(until).to_pylist()}


def test_facts_hold_from_the_moment_they_were_told(tmp_path: Path) -> None:
    shop = write_rocket_shop(tmp_path / "shop")
    add(shop, "item_properties_part2", told(week(3), 4, "5", "renamed"), told(week(5), 4, "categoryid", "101"))
    add(shop, "item_properties_part1", told(week(4), 4, "available", "0"))  # tells nothing of what it is
    log = import_data("retailrocket", shop, tmp_path / "log")
    assert validate_log(log.path).passed
    for moment, expected in (
        (week(3), ("100", "word4 camp0")),  # strictly before
        (week(3) + HOUR, ("100", "renamed")),
        (week(5), ("100", "renamed")),
        (week(5) + HOUR, ("101", "renamed")),
        (None, ("101", "renamed")),
    ):
        assert known(log, moment)["4"] == expected
    assert "4" not in known(log, START - timedelta(days=1))
    assert log.manifest.counts["articles"] == 13  # with versions or without


def test_an_article_is_known_from_its_first_event_and_described_later(log: EventLog) -> None:
    early, described = known(log, week(4)), known(log, week(4) + HOUR)
    assert "11" not in known(log, week(2))
    assert early["11"] == (None, None)
    assert described["11"] == ("101", "word11 camp1")
    assert "13" not in known(log, week(6))
    assert known(log)["13"] == (None, None)
    since = {a["article_id"]: a["known_from"] for a in log.articles().to_pylist()}
    assert since["3"] == START - timedelta(days=1)
    assert week(2) <= since["11"] < week(4)  # the article itself, not what is now said of it


def test_the_end_knows_what_the_files_say_last(log: EventLog) -> None:
    assert log.articles(datetime(2100, 1, 1, tzinfo=UTC)).equals(log.articles())
    with pytest.raises(ValueError, match="no time zone"):
        log.articles(week(1).replace(tzinfo=None))


def test_facts_without_a_time_always_held(tmp_path: Path) -> None:
    log = import_data("hm", write_hm(tmp_path / "hm"), tmp_path / "log")
    assert log.articles(datetime(1990, 1, 1, tzinfo=UTC)).equals(log.articles())
    assert log.articles()["known_from"].null_count == 3


def test_a_log_without_an_article_table_names_each_article_from_its_first_event_on(tmp_path: Path) -> None:
    shop = tmp_path / "shop"
    shop.mkdir()
    (shop / "mapping.toml").write_text(
        '[events]\nfile = "e.csv"\ncustomer = "u"\narticle = "i"\ntime = "t"\ntime_format = "s"\ntype = "purchase"\n'
    )
    (shop / "e.csv").write_text(
        "t,u,i\n" + "".join(f"{1_400_000_000 + n},ann,{i}\n" for n, i in ((30, "x"), (10, "x"), (20, "w")))
    )
    log = import_data("mapping", shop, tmp_path / "log")
    first = datetime.fromtimestamp(1_400_000_010, UTC)
    assert [a["known_from"] for a in log.articles().to_pylist()] == [first + timedelta(seconds=10), first]
    assert set(known(log, first + timedelta(seconds=10))) == {"x"}
    assert set(known(log, first)) == set()


def test_a_merged_catalogue_keeps_the_times_of_each_source(tmp_path: Path) -> None:
    write_rocket_shop(tmp_path / "both" / "retailrocket")
    write_hm(tmp_path / "both" / "hm")
    log = import_data("hm+retailrocket", tmp_path / "both", tmp_path / "log")
    early = known(log, week(1))
    assert merged_id("hm", "0108775015") in early
    assert early[merged_id("retailrocket", "1")] == ("101", "word1 camp1")
    assert merged_id("retailrocket", "13") not in early


def test_an_example_of_the_past_meets_only_what_was_known_then(
    log: EventLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    met: dict[int, list[str]] = {}

    def spy(histories: Any, items: Any, segments: Any, cut: int, *rest: Any, **more: Any) -> Any:
        met[cut] = items.article_ids
        return catalog_at(histories, items, segments, cut, *rest, **more)

    monkeypatch.setattr(learn, "catalog_at", spy)
    shop = load_shop(log, WINDOW, TINY.content, None, tmp_path)
    learner = Learner(shop, LITTLE, to_micros(week(1)) - to_micros(START), tmp_path / "run", seed=3)
    learned = learner.learn()
    assert met == {to_micros(week(n)): sorted(known(log, week(n))) for n in (5, 6, 7)}
    assert "13" not in met[to_micros(week(6))]
    assert "13" in learned.catalog.items.index
    assert len(learned.catalog.vectors) == len(learned.catalog.content) == 13


def test_an_article_not_known_yet_is_no_negative(log: EventLog, tmp_path: Path) -> None:
    """Its own row of the id table stays as it was; among all articles as negatives it would be pushed away."""
    shop = load_shop(log, WINDOW, TINY.content, None, tmp_path)
    cut, late = to_micros(week(6)), shop.items.index["13"]
    inputs = item_inputs(shop.items, shop.content)
    config = replace(TINY.learn.tower, id_dropout=0.0)

    def moved(known: Any) -> bool:
        model = new_two_tower(inputs, config, 1)
        weights = model.state_dict()["item_encoder.ids.weight"]
        before = weights.clone()
        train_two_tower(model, inputs, shop.histories, shop.items, cut, config, seed=1, known=known)
        assert not torch.equal(before, weights)
        return not torch.equal(before[late], weights[late])

    assert shop.known_at(cut).tolist() == [row for row in range(13) if row != late]
    assert not moved(shop.known_at(cut))
    assert moved(None)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    limit_threads(1)


def published(log: EventLog, directory: Path) -> Bundle:
    job = OfflineRun(log, WINDOW, replace(TINY, learn=LITTLE, ablations=False), directory / "runs", ManualClock(CUT))
    registry = Registry(f"file://{directory / 'registry'}")
    return registry.open(job.execute(registry, "production", activate_anyway=True).bundle_id)


@pytest.mark.slow
def test_a_planted_future_changes_no_byte_of_the_bundle(log: EventLog, tmp_path: Path) -> None:
    """New articles, met or described, new facts of old ones, and new events, all at the cut or after it."""
    shop = write_rocket_shop(tmp_path / "shop")
    buys = [event(CUT + n * HOUR, n, "transaction", NEW) for n in range(rocket_shop.VISITORS)]
    looks = [event(CUT, n, "view", 13) for n in range(rocket_shop.VISITORS)]
    add(shop, "events", *buys, *looks)
    add(shop, "item_properties_part1", told(CUT, 3, "categoryid", "100"), told(CUT, 13, "5", "at last"))
    add(shop, "item_properties_part2", told(CUT + HOUR, 3, "5", "renamed"), told(CUT, 88, "categoryid", "101"))
    planted = import_data("retailrocket", shop, tmp_path / "log")
    assert {"77", "88"} <= set(known(planted))

    one, other = published(log, tmp_path / "one"), published(planted, tmp_path / "other")
    assert other.manifest.counts == one.manifest.counts
    assert set(one.manifest.files) == set(other.manifest.files)
    for name in one.manifest.files:
        if not name.startswith("report"):
            assert one.file(name).read_bytes() == other.file(name).read_bytes(), name
    reports = [json.loads(bundle.file("report.json").read_text()) for bundle in (one, other)]
    assert [r["purchases_of_unknown_articles"] for r in reports] == [0, rocket_shop.VISITORS]
    assert reports[0]["metrics"] == reports[1]["metrics"]
