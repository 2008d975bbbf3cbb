"""A bundle opens only when every byte of it is what was written."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from infra.bundle import BUNDLE_ID, open_bundle, read_manifest, write_manifest
from infra.errors import BundleError
from tests.support.toy_bundles import CREATED, TRAINED_THROUGH, toy_bundle, toy_manifest, write_files


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    path = tmp_path / "built"
    toy_bundle(path)
    return path


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    manifest = json.loads((path / "manifest.json").read_text())
    change(manifest)
    (path / "manifest.json").write_text(json.dumps(manifest))


def test_what_is_written_is_what_is_opened(tmp_path: Path) -> None:
    manifest = toy_manifest(write_files(tmp_path / "b"), code_revision="abc1234")
    opened = open_bundle(tmp_path / "b")
    assert opened.manifest == manifest
    assert BUNDLE_ID.fullmatch(opened.bundle_id)
    assert opened.bundle_id.startswith("20261105T031200Z-")
    assert opened.file("tables/more.txt").read_text() == "blue"
    assert manifest.files["words.txt"].bytes == len("red green")
    # sha256("blue"), from `printf blue | sha256sum`
    assert manifest.files["tables/more.txt"].sha256.startswith("16477688c0e00699c6cfa4497a3612d7e83c532062b64b25")
    assert (manifest.trained_through, manifest.code_revision) == (TRAINED_THROUGH, "abc1234")
    assert manifest.config == {"seed": 7, "sizes": [1, 2.5], "note": None}


def test_only_the_bundle_and_its_manifest_are_left_on_disk(tmp_path: Path, bundle: Path) -> None:
    assert sorted(path.name for path in tmp_path.iterdir()) == ["built"]
    assert sorted(path.name for path in bundle.iterdir()) == ["manifest.json", "tables", "words.txt"]


def test_the_id_follows_from_the_content(tmp_path: Path) -> None:
    first = toy_bundle(tmp_path / "a")
    assert toy_bundle(tmp_path / "same") == first
    assert toy_bundle(tmp_path / "words", words="red greem") != first
    assert toy_bundle(tmp_path / "config", config={"seed": 8}) != first
    east = timezone(timedelta(hours=5))
    assert toy_bundle(tmp_path / "zone", created_at=CREATED.astimezone(east)) == first


def test_writing_the_manifest_again_replaces_it(bundle: Path) -> None:
    first = read_manifest(bundle)
    assert toy_manifest(bundle) == first


@pytest.mark.parametrize("name", ["words.txt", "tables/more.txt"])
def test_one_flipped_bit_is_found(bundle: Path, name: str) -> None:
    raw = bytearray((bundle / name).read_bytes())
    raw[1] ^= 1
    (bundle / name).write_bytes(raw)
    with pytest.raises(BundleError, match=rf"{name} has sha256 [0-9a-f]{{64}}, expected [0-9a-f]{{64}}"):
        open_bundle(bundle)


def test_a_truncated_file_is_found(bundle: Path) -> None:
    (bundle / "words.txt").write_text("red")
    with pytest.raises(BundleError, match=r"words\.txt has 3 bytes, expected 9"):
        open_bundle(bundle)


def test_a_missing_file_is_found(bundle: Path) -> None:
    (bundle / "words.txt").unlink()
    with pytest.raises(BundleError, match=r"words\.txt is missing"):
        open_bundle(bundle)


def test_an_unknown_file_is_found(bundle: Path) -> None:
    (bundle / "tables" / "extra.bin").write_bytes(b"")
    with pytest.raises(BundleError, match=r"tables/extra\.bin is not in its manifest"):
        open_bundle(bundle)


def test_a_link_is_refused_even_to_the_same_content(bundle: Path, tmp_path: Path) -> None:
    (bundle / "words.txt").rename(tmp_path / "outside.txt")
    (bundle / "words.txt").symlink_to(tmp_path / "outside.txt")
    with pytest.raises(BundleError, match=r"words\.txt is a link or special file"):
        open_bundle(bundle)


def test_a_pipe_among_the_files_is_refused_and_not_waited_for(bundle: Path) -> None:
    (bundle / "words.txt").unlink()
    os.mkfifo(bundle / "words.txt")
    with pytest.raises(BundleError, match="special file"):
        open_bundle(bundle)


@pytest.mark.parametrize("given", [2, 0, -1])
def test_an_unknown_format_is_named_with_the_known_one(bundle: Path, given: int) -> None:
    edit(bundle, lambda manifest: manifest.update(format=given, new_field_of_that_format=1))
    with pytest.raises(BundleError, match=rf"bundle format {given}; this code reads format 1"):
        open_bundle(bundle)


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m["metrics"]["ours"].update({"map@12": 0.9}),
        lambda m: m["config"].update(seed=8),
        lambda m: m.update(trained_through="2026-11-01T00:00:00Z"),
        lambda m: m.update(bundle_id="20261105T031200Z-0000000"),
        lambda m: m["files"].pop("words.txt"),
    ],
)
def test_a_manifest_edited_by_hand_is_found(bundle: Path, change: Callable[[dict[str, Any]], object]) -> None:
    edit(bundle, change)
    with pytest.raises(BundleError, match=r"manifest\.json was changed: it calls itself '.*', its content is "):
        open_bundle(bundle)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.pop("files"), "missing required field `files`"),
        (lambda m: m.update(surprise=1), "unknown field `surprise`"),
        (lambda m: m.update(created_at="2026-11-05T03:12:00"), "timezone"),
        (lambda m: m["files"]["words.txt"].update(sha256="beef"), "sha256"),
        (lambda m: m["files"]["words.txt"].update(bytes=-1), "bytes"),
    ],
)
def test_a_manifest_of_another_shape_is_refused(
    bundle: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    edit(bundle, change)
    with pytest.raises(BundleError, match=r"manifest\.json is damaged or no manifest") as caught:
        open_bundle(bundle)
    assert message in str(caught.value)


def test_every_truncation_of_the_manifest_is_refused(bundle: Path) -> None:
    path = bundle / "manifest.json"
    raw = path.read_bytes().rstrip()
    for length in range(len(raw)):
        path.write_bytes(raw[:length])
        with pytest.raises(BundleError, match="manifest"):
            open_bundle(bundle)


def test_every_flipped_bit_of_the_manifest_is_refused_or_means_the_same(bundle: Path) -> None:
    path = bundle / "manifest.json"
    raw, sound = path.read_bytes(), read_manifest(bundle)
    for place in range(len(raw)):
        for bit in range(8):
            flipped = bytearray(raw)
            flipped[place] ^= 1 << bit
            path.write_bytes(flipped)
            try:
                found = read_manifest(bundle)
            except BundleError:
                continue
            assert found == sound


@pytest.mark.parametrize(
    "name",
    [
        "../outside.txt",
        "/etc/hostname",
        "tables/../../outside.txt",
        "a\\b",
        "",
        ".",
        "./words.txt",
        "manifest.json",
    ],
)
def test_a_name_that_leaves_the_directory_is_refused_unread(bundle: Path, name: str) -> None:
    (bundle.parent / "outside.txt").write_text("red green")
    edit(bundle, lambda m: m["files"].update({name: m["files"].pop("words.txt")}))
    with pytest.raises(BundleError, match=r"leaves the bundle's directory|cannot be one of the bundle's files"):
        read_manifest(bundle)


def test_no_bundle_at_all(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"no bundle at .*nothing: manifest\.json cannot be read \(No such file"):
        open_bundle(tmp_path / "nothing")
    (tmp_path / "file").write_text("")
    with pytest.raises(BundleError, match="no bundle at"):
        open_bundle(tmp_path / "file")


def test_asking_for_a_file_it_has_not_says_what_it_has(bundle: Path) -> None:
    with pytest.raises(BundleError, match=r"has no file 'index\.bin'; it holds tables/more\.txt, words\.txt"):
        open_bundle(bundle).file("index.bin")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"created_at": datetime(2026, 1, 1)}, "created_at 2026-01-01T00:00:00 has no time zone"),  # noqa: DTZ001
        ({"metrics": {"ours": {"map@12": float("nan")}}}, "metric ours.map@12 is nan"),
        ({"config": {"rate": object()}}, "cannot be written as JSON"),
        ({"counts": {"words": "two"}}, "cannot be written as JSON"),
    ],
)
def test_what_cannot_be_kept_is_refused_before_writing(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    files = write_files(tmp_path / "b")
    with pytest.raises(BundleError) as caught:
        toy_manifest(files, **changes)
    assert message in str(caught.value)
    assert not (files / "manifest.json").exists()


def test_an_empty_directory_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="holds no files"):
        write_manifest(
            tmp_path,
            created_at=datetime.now(UTC),
            trained_through=TRAINED_THROUGH,
            config={},
            contracts={},
            counts={},
            metrics={},
        )
