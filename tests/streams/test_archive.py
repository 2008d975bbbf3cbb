"""The archive's files: what they say, what compaction makes of them, and that no crash in it loses or doubles a row."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from infra.errors import ConfigurationError, DataError
from streams import archive_compaction
from streams.archive import Kept, Segment, TopicArchive, event_rows, locked, read_rows
from streams.archive_compaction import compact
from streams.events import Event
from streams.topics import TRANSACTIONS

DAY = datetime(2026, 11, 20, tzinfo=UTC)


def event(event_id: str, hour: float, customer: str = "anna") -> Event:
    return Event(
        event_id=event_id,
        type="purchase",
        occurred_at=DAY + timedelta(hours=hour),
        customer_id=customer,
        article_id="hat",
    )


def put(archive: TopicArchive, partition: int, first: int, *events: Event, generation: int = 0) -> None:
    kept = [Kept(first + n, given) for n, given in enumerate(events)]
    archive.write_segment(
        Segment(
            topic=archive.topic,
            partition=partition,
            generation=generation,
            first=first,
            last=first + len(events) - 1,
            rows=len(events),
            skipped=0,
            digest=f"digest-{first + len(events) - 1}",
        ),
        event_rows(kept, partition, generation),
    )


@pytest.fixture
def archive(tmp_path: Path) -> TopicArchive:
    made = TopicArchive(tmp_path, TRANSACTIONS)
    made.prepare()
    return made


def days(archive: TopicArchive) -> dict[str, list[str]]:
    return {path.name[:10]: read_rows(path)["event_id"].to_pylist() for path in archive.day_files()}


def test_files_say_how_far_each_partition_is(archive: TopicArchive) -> None:
    put(archive, 0, 0, event("a", 1), event("b", 2))
    put(archive, 0, 2, event("c", 3))
    put(archive, 3, 7, event("d", 3))
    positions = archive.positions()
    assert {n: (p.generation, p.last, p.digest) for n, p in positions.items()} == {
        0: (0, 2, "digest-2"),
        3: (0, 7, "digest-7"),
    }
    compact(archive)
    assert archive.segments() == [] and archive.positions() == positions
    # A topic made anew begins at offset 0, and that is after the end of the one before it.
    put(archive, 0, 0, event("e", 4), generation=1)
    assert archive.positions()[0].generation == 1 and archive.positions()[0].last == 0


def test_a_late_event_lands_in_its_day_and_an_event_stands_once(archive: TopicArchive) -> None:
    put(archive, 0, 0, event("a", 1), event("b", 25), event("a", 1))
    put(archive, 1, 0, event("a", 1, "bert"))
    assert compact(archive).repeated == 1
    assert days(archive) == {"2026-11-20": ["a", "a"], "2026-11-21": ["b"]}
    put(archive, 0, 3, event("late", 0.5), event("b", 25))
    again = compact(archive)
    assert (again.segments, again.rows, again.repeated, again.days) == (1, 1, 1, 2)
    assert days(archive) == {"2026-11-20": ["late", "a", "a"], "2026-11-21": ["b"]}
    assert compact(archive).segments == 0
    # The replaced files stay for whoever reads them, the segments are gone.
    assert len(list(archive.days_path.iterdir())) == 4 and not list(archive.segments_path.iterdir())


def test_of_two_that_differ_under_one_id_the_first_to_arrive_stays(archive: TopicArchive) -> None:
    put(archive, 0, 0, event("a", 5))
    compact(archive)
    put(archive, 0, 1, event("a", 1))
    compact(archive)
    (path,) = archive.day_files()
    assert read_rows(path)["occurred_at"].to_pylist() == [DAY + timedelta(hours=5)]


class Killed(BaseException):
    """The process ends here."""


def test_a_crash_at_any_step_of_a_compaction_loses_and_doubles_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every call that touches the disk is made the last one in turn, before and after it had its effect."""
    monkeypatch.setattr(archive_compaction, "AT_ONCE", 2)
    steps = 0
    for late in (False, True):
        for step in range(100):
            archive = TopicArchive(tmp_path / f"{late}-{step}", TRANSACTIONS)
            archive.prepare()
            put(archive, 0, 0, event("a", 1), event("b", 25))
            compact(archive)
            put(archive, 0, 2, event("c", 2))
            put(archive, 1, 0, event("d", 26))
            put(archive, 1, 1, event("e", 3), event("b", 25))
            before = archive.positions()
            with monkeypatch.context() as context:
                killed = _kill_at(context, step, late=late)
                with contextlib.suppress(Killed):
                    compact(archive)
            steps += killed()
            assert archive.positions() == before
            compact(archive)
            assert archive.positions() == before
            assert days(archive) == {"2026-11-20": ["a", "c", "e"], "2026-11-21": ["b", "d"]}
            assert not list(archive.segments_path.iterdir())
            if not killed():
                break
        else:
            raise AssertionError("the compaction never came to its end")
    assert steps > 20


def _kill_at(context: pytest.MonkeyPatch, step: int, *, late: bool) -> Callable[[], bool]:
    """Raise at the `step`-th change of the disk; tells whether there was one."""
    calls = 0

    def wrapped(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls - 1 == step and not late:
                raise Killed
            result = real(*args, **kwargs)
            if calls - 1 == step:
                raise Killed
            return result

        return call

    for owner, name in ((Path, "rename"), (Path, "unlink"), (os, "fsync"), (os, "utime")):
        context.setattr(owner, name, wrapped(getattr(owner, name)))
    return lambda: calls > step


def test_what_is_not_the_archives_is_refused_by_name(archive: TopicArchive) -> None:
    put(archive, 0, 0, event("a", 1), event("b", 2))
    put(archive, 0, 1, event("b", 2), event("c", 2))
    with pytest.raises(DataError, match=r"overlaps with p00000-g00000-0+-0+1\.parquet"):
        archive.segments()
    (archive.segments_path / "note.parquet").write_text("x")
    with pytest.raises(DataError, match="not a segment's name"):
        archive.segments()


def test_a_segment_under_another_name_is_refused(archive: TopicArchive) -> None:
    put(archive, 0, 0, event("a", 1))
    (path,) = archive.segments()
    path.rename(path.with_name(path.name.replace("p00000", "p00001")))
    with pytest.raises(DataError, match="holds segment p00000"):
        archive.positions()


def test_one_archiver_a_directory(tmp_path: Path) -> None:
    path = tmp_path / "topic" / ".lock"
    with (
        locked(path, "an archiver", wait=False),
        pytest.raises(ConfigurationError, match="running already"),
        locked(path, "an archiver", wait=False),
    ):
        pass
    with locked(path, "an archiver", wait=False):
        pass
