"""Publishing is all or nothing, a published bundle never changes, and channels point at sound ones."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from infra.bundle import open_bundle
from infra.clock import ManualClock
from infra.errors import BundleError, BundleNotFound, ConfigurationError
from infra.registry import Registry
from tests.suites.registry_suite import RegistrySuite
from tests.support.toy_bundles import CREATED, toy_bundle


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(CREATED)


@pytest.fixture
def registry(tmp_path: Path, clock: ManualClock) -> Registry:
    return Registry(f"file://{tmp_path}/registry", clock)


def published(registry: Registry, tmp_path: Path, words: str, *, hours: int = 0) -> str:
    path = tmp_path / f"built-{words}"
    toy_bundle(path, words, created_at=CREATED + timedelta(hours=hours))
    return registry.publish(path)


def left_aside(registry: Registry) -> list[Path]:
    return list((Path(registry.place) / "incoming").glob("*"))


def test_a_published_bundle_opens_without_its_origin(registry: Registry, tmp_path: Path) -> None:
    bundle_id = published(registry, tmp_path, "red")
    shutil.rmtree(tmp_path / "built-red")
    assert registry.open(bundle_id).file("words.txt").read_text() == "red"
    assert left_aside(registry) == []


def test_publishing_again_changes_nothing(registry: Registry, tmp_path: Path) -> None:
    bundle_id = published(registry, tmp_path, "red")
    before = (Path(registry.place) / "bundles" / bundle_id).stat().st_ino
    assert registry.publish(tmp_path / "built-red") == bundle_id
    assert (Path(registry.place) / "bundles" / bundle_id).stat().st_ino == before
    assert registry.bundle_ids() == [bundle_id]


def test_a_published_bundle_is_never_overwritten(registry: Registry, tmp_path: Path) -> None:
    first, second = published(registry, tmp_path, "red"), published(registry, tmp_path, "green")
    for name in (first, second):
        shutil.move(Path(registry.place) / "bundles" / name, tmp_path / name)
    shutil.move(tmp_path / second, Path(registry.place) / "bundles" / first)
    with pytest.raises(BundleError, match="is taken by another bundle; a published bundle is never overwritten"):
        registry.publish(tmp_path / "built-red")
    with pytest.raises(BundleError, match=f"holds bundle {second}; expected {first}"):
        registry.open(first)


def test_a_damaged_published_bundle_is_not_taken_for_the_same(registry: Registry, tmp_path: Path) -> None:
    bundle_id = published(registry, tmp_path, "red")
    (Path(registry.place) / "bundles" / bundle_id / "words.txt").write_text("rod")
    with pytest.raises(BundleError, match=r"published but damaged: remove .*, then publish again"):
        registry.publish(tmp_path / "built-red")


def test_an_unsound_bundle_is_not_published(registry: Registry, tmp_path: Path) -> None:
    toy_bundle(tmp_path / "b")
    (tmp_path / "b" / "words.txt").write_text("red")
    with pytest.raises(BundleError, match="expected 9"):
        registry.publish(tmp_path / "b")
    assert registry.bundle_ids() == []


def test_a_copy_that_goes_wrong_leaves_nothing(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(source: Path, target: Path) -> None:
        target.write_bytes(source.read_bytes()[:1])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("infra.registry_folder.shutil.copyfile", full)
    with pytest.raises(BundleError, match=r"cannot be written: .*No space left on device"):
        published(registry, tmp_path, "red")
    assert registry.bundle_ids() == []
    assert left_aside(registry) == []


def test_a_copy_that_differs_is_not_published(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.registry_folder.shutil.copyfile", lambda source, target: target.write_bytes(b"?"))
    with pytest.raises(BundleError):
        published(registry, tmp_path, "red")
    assert registry.bundle_ids() == []
    assert left_aside(registry) == []


def test_what_a_killed_publisher_left_is_removed_a_day_later(registry: Registry, tmp_path: Path) -> None:
    published(registry, tmp_path, "red")
    old, young = (Path(registry.place) / "incoming" / name for name in ("old", "young"))
    old.mkdir()
    young.mkdir()
    os.utime(old, (0, 0))
    published(registry, tmp_path, "green")
    assert left_aside(registry) == [young]


def test_one_bundle_published_by_many_at_once_is_published_once(registry: Registry, tmp_path: Path) -> None:
    bundle_id = toy_bundle(tmp_path / "b")
    start = threading.Barrier(8)

    def publish(_: int) -> str:
        start.wait(timeout=10)
        return Registry(f"file://{Path(registry.place)}").publish(tmp_path / "b")

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(publish, range(8))) == {bundle_id}
    assert registry.bundle_ids() == [bundle_id]
    assert registry.open(bundle_id).bundle_id == bundle_id
    assert left_aside(registry) == []


def test_a_channel_points_and_remembers(registry: Registry, tmp_path: Path, clock: ManualClock) -> None:
    red, green = published(registry, tmp_path, "red"), published(registry, tmp_path, "green", hours=1)
    first = registry.activate("production", red, by="test")
    assert (first.bundle_id, first.previous, first.activated_at, first.by) == (red, None, CREATED, "test")
    clock.advance(timedelta(hours=1))
    second = registry.activate("production", green)
    assert (second.bundle_id, second.previous, second.activated_at) == (
        green,
        red,
        CREATED + timedelta(hours=1),
    )
    assert registry.pointer("production") == second
    assert registry.resolve("production").bundle_id == green
    assert registry.channels() == ["production"]


def test_the_same_bundle_again_keeps_the_way_back(registry: Registry, tmp_path: Path) -> None:
    red, green = published(registry, tmp_path, "red"), published(registry, tmp_path, "green")
    registry.activate("production", red)
    moved = registry.activate("production", green)
    again = registry.activate("production", green, by="other")
    assert (again.bundle_id, again.previous, again.by) == (moved.bundle_id, moved.previous, "other")
    assert registry.rollback("production").bundle_id == red


def test_rollback_and_back_again(registry: Registry, tmp_path: Path) -> None:
    red, green = published(registry, tmp_path, "red"), published(registry, tmp_path, "green")
    registry.activate("production", red)
    with pytest.raises(BundleNotFound, match="nothing to roll back to"):
        registry.rollback("production")
    registry.activate("production", green)
    assert registry.rollback("production").bundle_id == red
    assert registry.rollback("production").bundle_id == green


def test_a_channel_never_moves_to_an_unsound_bundle(registry: Registry, tmp_path: Path) -> None:
    red, green = published(registry, tmp_path, "red"), published(registry, tmp_path, "green")
    pointer = registry.activate("production", red)
    (Path(registry.place) / "bundles" / green / "words.txt").write_text("gr")
    with pytest.raises(BundleError, match="has 2 bytes, expected 5"):
        registry.activate("production", green)
    with pytest.raises(BundleNotFound):
        registry.activate("production", "20260101T000000Z-0000000")
    assert registry.pointer("production") == pointer


def test_rollback_refuses_a_damaged_predecessor(registry: Registry, tmp_path: Path) -> None:
    red, green = published(registry, tmp_path, "red"), published(registry, tmp_path, "green")
    registry.activate("production", red)
    pointer = registry.activate("production", green)
    (Path(registry.place) / "bundles" / red / "words.txt").unlink()
    with pytest.raises(BundleError, match=r"words\.txt is missing"):
        registry.rollback("production")
    assert registry.pointer("production") == pointer


def test_what_is_not_there_is_answered_with_what_is(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(BundleNotFound, match="channels: none; no bundle is published; build a bundle with"):
        registry.pointer("production")
    ids = [published(registry, tmp_path, word, hours=hour) for hour, word in enumerate("abcdefg")]
    registry.activate("candidate", ids[0])
    with pytest.raises(BundleNotFound, match=f"channels: candidate; published: {ids[6]}, .*{ids[2]} and 2 older"):
        registry.resolve("production")
    with pytest.raises(BundleNotFound, match="no bundle 20260101T000000Z-0000000 in "):
        registry.open("20260101T000000Z-0000000")


@pytest.mark.parametrize("name", ["../b", "", "latest", "20261105T031200Z-8f3c1a9/..", "20261105T031200Z-8f3c1a9\n"])
def test_only_a_bundle_id_becomes_a_path(registry: Registry, name: str) -> None:
    with pytest.raises(BundleError, match="is not a bundle id; one looks like 20261105T031200Z-8f3c1a9"):
        registry.open(name)


@pytest.mark.parametrize("channel", ["../x", "", ".hidden", "Production", "a/b", "a" * 65])
def test_only_a_channel_name_becomes_a_path(registry: Registry, tmp_path: Path, channel: str) -> None:
    red = published(registry, tmp_path, "red")
    for use in (registry.pointer, registry.rollback, registry.resolve):
        with pytest.raises(BundleError, match="is not a channel name"):
            use(channel)
    with pytest.raises(BundleError, match="is not a channel name"):
        registry.activate(channel, red)


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b'{"channel": "production"}', b"\xff\xfe"])
def test_a_damaged_pointer_is_told_and_can_be_repaired(registry: Registry, tmp_path: Path, raw: bytes) -> None:
    red = published(registry, tmp_path, "red")
    registry.activate("production", red)
    (Path(registry.place) / "channels" / "production.json").write_bytes(raw)
    with pytest.raises(BundleError, match=r"production\.json is damaged .*bundles activate"):
        registry.resolve("production")
    assert registry.activate("production", red).previous is None
    assert registry.resolve("production").bundle_id == red


def test_a_pointer_of_another_channel_or_to_outside_is_refused(registry: Registry, tmp_path: Path) -> None:
    red = published(registry, tmp_path, "red")
    registry.activate("candidate", red)
    channels = Path(registry.place) / "channels"
    shutil.copyfile(channels / "candidate.json", channels / "production.json")
    with pytest.raises(BundleError, match="is the pointer of channel 'candidate'; expected 'production'"):
        registry.pointer("production")
    path = channels / "candidate.json"
    path.write_text(path.read_text().replace(red, "../../elsewhere"))
    with pytest.raises(BundleError, match="is not a bundle id"):
        registry.resolve("candidate")


def test_a_reader_never_sees_a_half_written_pointer(registry: Registry, tmp_path: Path) -> None:
    ids = [published(registry, tmp_path, word) for word in ("red", "green")]
    registry.activate("production", ids[0])

    def move(first: int) -> None:
        for turn in range(20):
            registry.activate("production", ids[(first + turn) % 2])

    with ThreadPoolExecutor(2) as pool:
        writers = [pool.submit(move, first) for first in (0, 1)]
        while not all(writer.done() for writer in writers):
            pointer = registry.pointer("production")
            assert pointer.bundle_id in ids
            assert pointer.previous in {None, *ids} - {pointer.bundle_id}
        for writer in writers:
            writer.result()


def test_the_list_is_newest_first_and_leaves_out_what_it_cannot_read(
    registry: Registry, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old, new, bad = (published(registry, tmp_path, word, hours=hour) for hour, word in enumerate(("a", "b", "c")))
    (Path(registry.place) / "bundles" / bad / "manifest.json").write_text("{")
    (Path(registry.place) / "bundles" / "notes.txt").write_text("not a bundle")
    with caplog.at_level(logging.WARNING):
        assert [manifest.bundle_id for manifest in registry.manifests()] == [new, old]
    assert bad in caplog.text


@pytest.mark.parametrize("url", ["gs://bucket/x", "s3://", "registry", "file://", ""])
def test_another_scheme_is_refused_with_the_allowed_one(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"allowed are file://PATH"):
        Registry(url)


def test_a_relative_registry_is_below_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    toy_bundle(tmp_path / "b")
    bundle_id = Registry("file://.modiste/registry").publish(Path("b"))
    assert open_bundle(tmp_path / ".modiste" / "registry" / "bundles" / bundle_id).bundle_id == bundle_id


def test_a_registry_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "registry").write_text("a file where the directory should be")
    toy_bundle(tmp_path / "b")
    with pytest.raises(BundleError, match=r"registry .* cannot be written"):
        Registry(f"file://{tmp_path}/registry").publish(tmp_path / "b")
    with contextlib.suppress(FileNotFoundError):
        assert not list((tmp_path / "registry").parent.glob(".*.new"))


class TestFolder(RegistrySuite):
    """The suite on a directory."""
