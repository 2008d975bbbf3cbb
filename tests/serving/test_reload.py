"""A channel moves, the bundle follows; a bad bundle changes nothing."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from infra.bundle import Bundle
from infra.errors import BundleError, BundleNotFound
from infra.follow import REST_S, BundleFollower
from infra.pauses import rest
from infra.registry import Registry
from serving.reload import Loaded
from tests.support.toy_bundles import toy_manifest, write_files


class Loader:
    """Loads by name only; refuses what is in `bad`."""

    def __init__(self) -> None:
        self.opened: list[str] = []
        self.bad: set[str] = set()

    def __call__(self, bundle: Bundle) -> Loaded:
        self.opened.append(bundle.bundle_id)
        if bundle.bundle_id in self.bad:
            raise BundleError("trained on other features")
        nothing: Any = None
        return Loaded(bundle.bundle_id, nothing, nothing)


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(f"file://{tmp_path / 'registry'}")


@pytest.fixture
def two(registry: Registry, tmp_path: Path) -> tuple[str, str]:
    ids = []
    for day, words in ((1, "red green"), (2, "blue")):
        directory = write_files(tmp_path / f"made-{day}", words)
        toy_manifest(directory, created_at=datetime(2026, 11, day, tzinfo=UTC))
        ids.append(registry.publish(directory))
    registry.activate("production", ids[0])
    return ids[0], ids[1]


async def test_follows_the_channel(registry: Registry, two: tuple[str, str]) -> None:
    holder = BundleFollower(registry, "production", Loader())
    assert await holder.refresh() is True
    assert holder.current.bundle_id == two[0]
    before = holder.current
    registry.activate("production", two[1])
    assert await holder.refresh() is True
    assert holder.current.bundle_id == two[1]
    assert before.bundle_id == two[0]  # whoever held the old one still has it whole


async def test_the_same_bundle_is_not_loaded_twice(registry: Registry, two: tuple[str, str]) -> None:
    load = Loader()
    holder = BundleFollower(registry, "production", load)
    assert [await holder.refresh(), await holder.refresh()] == [True, False]
    assert load.opened == [two[0]]


@pytest.mark.parametrize(
    ("pieces", "seconds", "rested"),
    [(3, 0.01, 3 * 0.09), (100, 1.0, REST_S)],
    ids=["small: nine times what it worked", "large: no longer than a change may take"],
)
async def test_a_bundle_is_loaded_without_haste_beside_another_and_at_once_where_there_is_none(
    registry: Registry,
    two: tuple[str, str],
    monkeypatch: pytest.MonkeyPatch,
    pieces: int,
    seconds: float,
    rested: float,
) -> None:
    time = SimpleNamespace(worked=0.0, rests=[], thread_time=lambda: time.worked)
    monkeypatch.setattr("infra.pauses.time", time)

    def load(bundle: Bundle) -> str:
        for _ in range(pieces):
            time.worked += seconds
            rest()
        return bundle.bundle_id

    holder = BundleFollower(registry, "production", load)
    holder._hurry.wait = time.rests.append  # type: ignore[assignment,method-assign]
    await holder.refresh()
    assert time.rests == []
    for bundle_id in (two[1], two[0]):
        time.rests.clear()
        registry.activate("production", bundle_id)
        await holder.refresh()
        assert sum(time.rests) == pytest.approx(rested)


async def test_a_process_waits_its_turn_to_load_what_follows_and_looks_again(
    registry: Registry, two: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    moments: list[float] = []

    async def sleep(seconds: float) -> None:
        moments.append(seconds)
        if len(moments) == 1:  # the channel moves back before its turn has come
            registry.rollback("production")

    monkeypatch.setattr("infra.follow.asyncio", SimpleNamespace(**vars(asyncio) | {"sleep": sleep}))
    load = Loader()
    holder = BundleFollower(registry, "production", load, stagger_s=60)
    await holder.refresh()
    assert moments == []  # the first at once
    registry.activate("production", two[1])
    assert await holder.refresh() is False
    registry.activate("production", two[1])
    assert await holder.refresh() is True
    assert load.opened == [two[0], two[1]]
    assert len(moments) == 2 and 0 <= min(moments) <= max(moments) <= 60


async def test_a_bundle_that_comes_while_it_stops_is_not_taken(registry: Registry, two: tuple[str, str]) -> None:
    opened, go = threading.Event(), threading.Event()

    def load(bundle: Bundle) -> str:
        opened.set()
        go.wait(10)
        return bundle.bundle_id

    taken: list[str] = []
    holder = BundleFollower(registry, "production", load, taken=taken.append)
    task = asyncio.create_task(holder.refresh())
    await asyncio.to_thread(opened.wait, 10)
    await holder.stop()
    go.set()
    assert await task is False
    assert taken == []


async def test_a_bad_bundle_is_refused_by_name_and_the_old_one_stays(
    registry: Registry, two: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    load = Loader()
    load.bad = {two[1]}
    holder = BundleFollower(registry, "production", load)
    await holder.refresh()
    registry.activate("production", two[1])
    assert [await holder.refresh(), await holder.refresh()] == [False, False]
    assert holder.current.bundle_id == two[0]
    assert holder.refusal is not None and holder.refusal.bundle_id == two[1]
    assert f"bundle {two[1]} refused, {two[0]} stays in use" in caplog.text
    assert load.opened.count(two[1]) == 1  # not hashed again at every look
    registry.rollback("production")
    await holder.refresh()
    assert holder.refusal is None


async def test_a_damaged_file_is_refused(registry: Registry, two: tuple[str, str]) -> None:
    holder = BundleFollower(registry, "production", Loader())
    await holder.refresh()
    registry.activate("production", two[1])
    path = Path(registry.place) / "bundles" / two[1] / "words.txt"
    path.write_bytes(b"x" * path.stat().st_size)
    assert await holder.refresh() is False
    assert holder.current.bundle_id == two[0]


async def test_starting_without_a_bundle_waits_for_one(registry: Registry, tmp_path: Path) -> None:
    holder = BundleFollower(registry, "production", Loader(), poll_s=0.02)
    await holder.start()
    try:
        with pytest.raises(BundleNotFound, match="points nowhere"):
            _ = holder.current
    finally:
        await holder.stop()
