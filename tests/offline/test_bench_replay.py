"""The bench of replay: logs of any length, ways that end in the same bytes, and how figures are put together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from infra.errors import ConfigurationError, Unavailable
from offline import bench_replay
from offline.bench_log import LogSize, write_bench_log
from offline.bench_replay import WAYS, measure, one
from offline.bench_replay_child import Counting, memory_mb, run
from offline.event_log import EventLog
from tests.support.tiny_fixture import Tiny

SIZE = LogSize(customers=5, articles=100, days=3, events_a_day=40)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> EventLog:
    return write_bench_log(tmp_path_factory.mktemp("bench") / "log", SIZE, 1)


def test_a_longer_log_goes_on_where_the_shorter_one_ends(log: EventLog, tmp_path: Path) -> None:
    longer = write_bench_log(tmp_path / "longer", LogSize(5, 100, 6, 40), 1)
    assert (log.manifest.counts["events"], longer.manifest.counts["events"]) == (120, 240)
    assert longer.read().slice(0, 120).equals(log.read())
    assert set(longer.read()["customer_id"].to_pylist()) <= {f"c{n}" for n in range(5)}


def test_every_way_leaves_the_same(log: EventLog, tiny: Tiny) -> None:
    found = {way: run(way, log, Counting(tiny.runtime.encoder)) for way in WAYS}
    assert len({row["states"] for row in found.values()}) == 1
    assert len({row["embeddings"] for way, row in found.items() if way != "states"}) == 1
    assert {way: (row["events"], row["customers"], row["encoded"]) for way, row in found.items()} == {
        **dict.fromkeys(WAYS, (120, 5, 5)),
        "states": (120, 5, 0),
    }
    with pytest.raises(ConfigurationError, match="no way 'sideways' to replay"):
        run("sideways", log, Counting(tiny.runtime.encoder))


@pytest.mark.slow
def test_a_process_of_its_own_measures_its_own_memory(log: EventLog, tiny: Tiny) -> None:
    found = one("columns", log.path, tiny.bundle.path)
    # This process has torch loaded, and its child has not.
    assert 0 < found["start_mb"] <= found["peak_mb"] < memory_mb("VmHWM")
    with pytest.raises(Unavailable, match="the replay by columns ended with code 1"):
        one("columns", log.path / "elsewhere", tiny.bundle.path)


def figures(way: str, eps: int, states: str = "s") -> dict[str, Any]:
    row = {"eps": eps, "eps_cpu": 2 * eps, "peak_mb": eps / 10, "events": 9, "customers": 3, "encoded": 4}
    return {**row, "states": states, **({} if way == "states" else {"embeddings": "e"})}


def test_medians_and_ratios(monkeypatch: pytest.MonkeyPatch, log: EventLog) -> None:
    speeds = {"columns": [300, 100, 200], "json": [50, 50, 40], "json_large": [80] * 3, "states": [500] * 3}
    turns: list[str] = []

    def one_of(way: str, log: Path, bundle: Path) -> dict[str, Any]:
        turns.append(way)
        return figures(way, speeds.get(way, [60] * 3)[turns.count(way) - 1])

    monkeypatch.setattr(bench_replay, "one", one_of)
    found = measure(log, log.path, rounds=3)
    assert (found["fold_eps"], found["fold_eps_cpu"], found["peak_mb"]) == (200, 400, 30.0)
    assert found["ways"]["columns"]["times_json"] == 4.0
    assert found["ways"]["json_large"]["times_json_cpu"] == 1.6
    assert found["ways"]["columns"]["eps_from_to"] == [100, 300]
    assert [turns[0], turns[5], turns[10]] == list(WAYS[:3])  # another one first in each round


def test_other_bytes_are_no_result(monkeypatch: pytest.MonkeyPatch, log: EventLog) -> None:
    monkeypatch.setattr(bench_replay, "one", lambda way, log, bundle: figures(way, 10, way[:1]))
    with pytest.raises(RuntimeError, match="end in other bytes"):
        measure(log, log.path, rounds=1)
