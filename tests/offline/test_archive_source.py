"""The archive as a data set: days, articles from wherever they are told, a base that is not counted twice."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from infra.errors import ConfigurationError
from offline.event_log import EventLog, import_data
from offline.sources.base import ARTICLE_SCHEMA
from offline.sources.registry import open_source
from streams.archive import RAW_COLUMNS, Kept, Segment, TopicArchive, event_rows
from streams.events import Event
from streams.topics import ARTICLES, TRANSACTIONS
from tests.offline.rocket_shop import week, write_rocket_shop
from tests.offline.tiny_data import write_hm

DAY = datetime(2026, 11, 20, tzinfo=UTC)


def event(event_id: str, hours: float, article: str, customer: str = "anna") -> Event:
    return Event(
        event_id=event_id,
        type="purchase",
        occurred_at=DAY + timedelta(hours=hours),
        customer_id=customer,
        article_id=article,
        price=2.0,
    )


def put(directory: Path, first: int, *events: Event) -> None:
    archive = TopicArchive(directory, TRANSACTIONS)
    archive.prepare()
    segment = _segment(TRANSACTIONS, first, len(events))
    archive.write_segment(segment, event_rows([Kept(first + n, e) for n, e in enumerate(events)], 0, 0))


def tell(directory: Path, *messages: tuple[bytes, bytes | None]) -> None:
    archive = TopicArchive(directory, ARTICLES)
    archive.prepare()
    rows = [
        {"generation": 0, "partition": 0, "offset": n, "occurred_at": DAY, "key": key, "value": value}
        for n, (key, value) in enumerate(messages)
    ]
    archive.write_segment(_segment(ARTICLES, 0, len(rows)), pa.Table.from_pylist(rows, RAW_COLUMNS))


def _segment(topic: str, first: int, n: int) -> Segment:
    return Segment(
        topic=topic, partition=0, generation=0, first=first, last=first + n - 1, rows=n, skipped=0, digest=""
    )


def ids(log: EventLog) -> list[str]:
    return log.read()["event_id"].to_pylist()


def test_live_events_become_an_event_log_and_what_comes_later_is_taken_in(tmp_path: Path) -> None:
    archive, out = tmp_path / "archive", tmp_path / "log"
    put(archive, 0, event("a", 25, "hat"), event("b", 1, "shoe"), event("a", 25, "hat"))
    log = import_data("archive", archive, out)
    assert ids(log) == ["b", "a"] and [path.stem for path in log.days] == ["2026-11-20", "2026-11-21"]
    assert log.articles()["article_id"].to_pylist() == ["hat", "shoe"]
    same = import_data("archive", archive, out)
    assert same.content_hash == log.content_hash
    put(archive, 3, event("late", 0.5, "coat", "bert"))
    log = import_data("archive", archive, out)
    assert ids(log) == ["late", "b", "a"]
    assert log.articles()["article_id"].to_pylist() == ["coat", "hat", "shoe"]
    assert log.articles(DAY + timedelta(hours=25))["article_id"].to_pylist() == ["coat", "shoe"]


def test_articles_come_from_the_topic_and_the_last_message_counts(tmp_path: Path) -> None:
    put(tmp_path, 0, event("a", 1, "hat"))
    tell(
        tmp_path,
        (b"hat", b'{"price": 3.5, "attributes": {"category": "Wear", "shelf": 4}, "text": "A hat."}'),
        (b"coat", b'{"article_id": "coat", "price": 9}'),
        (b"hat", b'{"price": 2.5, "available": false}'),
        (b"hat", None),
        (b"hat", b"no JSON"),
    )
    log = import_data("archive", tmp_path, tmp_path / "log")
    wanted = {"article_id": "hat", "category": "Wear", "text": "A hat.", "price": 2.5}
    coat, hat = log.articles().to_pylist()
    assert hat == {name: wanted.get(name) for name in ARTICLE_SCHEMA.names}
    assert coat["article_id"] == "coat" and coat["price"] == 9.0
    assert log.manifest.notes["article messages that tell nothing"] == 2


def test_a_base_comes_before_and_is_not_counted_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = import_data("hm", write_hm(tmp_path / "hm"), tmp_path / "base")
    before = base.read().to_pylist()
    again = before[-1]
    archive = tmp_path / "archive"
    repeated = Event(
        event_id=again["event_id"],
        type=again["type"],
        occurred_at=again["occurred_at"],
        customer_id=again["customer_id"],
        article_id=again["article_id"],
        price=again["price"],
    )
    put(archive, 0, repeated, event("new", 1, "never-told"))
    log = import_data("archive", archive, tmp_path / "log", base=base.path)
    assert sorted(ids(log)) == sorted([row["event_id"] for row in before] + ["new"])
    assert log.manifest.notes["events of the base that the archive holds too"] == 1
    assert log.customers().num_rows == base.customers().num_rows
    assert set(log.articles()["article_id"].to_pylist()) == {
        *base.articles()["article_id"].to_pylist(),
        "never-told",
    }
    # In a replay, what the base says of the future is not known yet.
    first = before[0]["occurred_at"]
    monkeypatch.setenv("MODISTE_CLOCK__ORIGIN", (first + timedelta(microseconds=1)).isoformat())
    monkeypatch.setenv("MODISTE_CLOCK__STARTED_AT", "0")
    log = import_data("archive", archive, tmp_path / "replay", base=base.path)
    known = [row["event_id"] for row in before if row["occurred_at"] == first]
    assert sorted(ids(log)) == sorted({*known, again["event_id"], "new"})


def test_facts_of_a_base_keep_their_times_until_a_message_tells_better(tmp_path: Path) -> None:
    base = import_data("retailrocket", write_rocket_shop(tmp_path / "shop"), tmp_path / "base")
    put(tmp_path / "archive", 0, event("a", 1, "12"))
    tell(tmp_path / "archive", (b"11", b'{"attributes": {"category": "Wear"}}'))
    log = import_data("archive", tmp_path / "archive", tmp_path / "log", base=base.path)
    for moment in (week(1), week(5), week(7)):
        found, expected = (
            {row["article_id"]: row for row in part.articles(moment).to_pylist()} for part in (log, base)
        )
        told = found.pop("11")
        assert (told["category"], told["text"], told["known_from"]) == ("Wear", "word11 camp1", None)
        expected.pop("11", None)
        assert found == expected


def test_a_catalogue_alone_is_a_base_too(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "articles.csv").write_text("article_id,title,price\nhat,Red hat,3.5\ncoat,Coat,\n")
    put(tmp_path / "archive", 0, event("a", 1, "hat"))
    log = import_data("archive", tmp_path / "archive", tmp_path / "log", base=tmp_path / "base")
    assert [(row["article_id"], row["title"], row["price"]) for row in log.articles().to_pylist()] == [
        ("coat", "Coat", None),
        ("hat", "Red hat", 3.5),
    ]


def test_an_archive_that_is_not_there_and_a_base_for_another_source_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="modiste streams archiver"):
        open_source("archive", tmp_path)
    with pytest.raises(ConfigurationError, match="--base is for --data archive"):
        open_source("hm", tmp_path, tmp_path)
