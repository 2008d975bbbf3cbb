"""The bundle container: a directory of files under a manifest that names, sizes and hashes every one of them.

What the files mean is not known here. A bundle is opened only when all of it is exactly what was written.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import msgspec

from infra.errors import BundleError
from infra.pauses import rest

FORMAT = 1
MANIFEST = "manifest.json"
MAX_MANIFEST_BYTES = 16 * 2**20
BUNDLE_ID = re.compile(r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{7}")

AwareTime = Annotated[datetime, msgspec.Meta(tz=True)]


class FileEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one file must be: SHA-256 in hex, and its size in bytes."""

    sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    bytes: Annotated[int, msgspec.Meta(ge=0)]


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything a bundle says of itself; `bundle_id` ends in the hash of all the rest.

    `files` maps a name relative to the bundle (with `/`) to what that file must be; `metrics` maps a subject
    to its numbers; `contracts` maps a contract to the version or hash it was built against.
    """

    bundle_id: str
    format: int
    created_at: AwareTime
    code_revision: str | None
    trained_through: AwareTime
    config: dict[str, Any]
    contracts: dict[str, str]
    counts: dict[str, int]
    metrics: dict[str, dict[str, float]]
    files: dict[str, FileEntry]


class _Format(msgspec.Struct, frozen=True):
    format: int


@dataclass(frozen=True)
class Bundle:
    """A verified bundle on disk."""

    path: Path
    manifest: Manifest

    @property
    def bundle_id(self) -> str:
        return self.manifest.bundle_id

    def file(self, name: str) -> Path:
        """Path of one file of the bundle.

        Raises:
            BundleError: the bundle holds no such file.
        """
        if name not in self.manifest.files:
            held = ", ".join(sorted(self.manifest.files))
            raise BundleError(f"bundle {self.bundle_id} has no file {name!r}; it holds {held}")
        return self.path / name


def write_manifest(
    directory: Path,
    *,
    created_at: datetime,
    trained_through: datetime,
    config: Mapping[str, Any],
    contracts: Mapping[str, str],
    counts: Mapping[str, int],
    metrics: Mapping[str, Mapping[str, float]],
    code_revision: str | None = None,
) -> Manifest:
    """Hash every file below `directory`, name the bundle and write `manifest.json` beside them.

    Raises:
        BundleError: no files, a link among them, a naive time, a metric that is not finite, or a value JSON
            cannot hold.
    """
    for name, moment in (("created_at", created_at), ("trained_through", trained_through)):
        if moment.tzinfo is None:
            raise BundleError(f"{name} {moment.isoformat()} has no time zone; give an aware datetime")
    for subject, numbers in metrics.items():
        for metric, value in numbers.items():
            if not math.isfinite(value):
                raise BundleError(f"metric {subject}.{metric} is {value}; a bundle's metrics must be finite")
    files = {name: _entry(directory / name) for name in _names(directory) if name != MANIFEST}
    if not files:
        raise BundleError(f"{directory} holds no files; write the bundle's files before its manifest")
    draft = Manifest(
        bundle_id="",
        format=FORMAT,
        created_at=created_at.astimezone(UTC),
        code_revision=code_revision,
        trained_through=trained_through.astimezone(UTC),
        config=dict(config),
        contracts=dict(contracts),
        counts=dict(counts),
        metrics={subject: dict(numbers) for subject, numbers in metrics.items()},
        files=files,
    )
    try:
        # Through JSON once, so that what is hashed is what a reader will find.
        draft = msgspec.json.decode(msgspec.json.encode(draft), type=Manifest)
    except (TypeError, ValueError, msgspec.MsgspecError) as error:
        raise BundleError(f"the manifest cannot be written as JSON: {error}") from error
    manifest = msgspec.structs.replace(draft, bundle_id=_content_id(draft))
    text = msgspec.json.format(msgspec.json.encode(manifest, order="sorted"), indent=2)
    aside = directory.parent / f".{directory.name}.{MANIFEST}.new"
    aside.write_bytes(text + b"\n")
    aside.replace(directory / MANIFEST)
    return manifest


def read_manifest(directory: Path) -> Manifest:
    """The manifest alone, checked against itself; the files are not read.

    Raises:
        BundleError: no manifest, another format, damaged, or a file name that leaves the directory.
    """
    path = directory / MANIFEST
    try:
        if path.is_symlink() or path.stat().st_size > MAX_MANIFEST_BYTES:
            raise BundleError(f"{path} is a link or larger than {MAX_MANIFEST_BYTES} bytes; not a manifest")
        raw = path.read_bytes()
    except OSError as error:
        raise BundleError(f"no bundle at {directory}: {MANIFEST} cannot be read ({error.strerror})") from error
    try:
        given = msgspec.json.decode(raw, type=_Format).format
        if given != FORMAT:
            raise BundleError(f"{path}: bundle format {given}; this code reads format {FORMAT}")
        manifest = msgspec.json.decode(raw, type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BundleError(f"{path} is damaged or no manifest: {error}") from error
    for name in manifest.files:
        _refuse_unsafe(name, path)
    expected = _content_id(manifest)
    if manifest.bundle_id != expected:
        raise BundleError(f"{path} was changed: it calls itself {manifest.bundle_id!r}, its content is {expected}")
    return manifest


def open_bundle(path: Path) -> Bundle:
    """Open the bundle at `path` after reading and hashing all of it.

    Raises:
        BundleError: format unknown, or a file missing, unknown, of another size or content; says which.
    """
    manifest = read_manifest(path)
    present = _names(path) - {MANIFEST}
    for problem, names in (
        ("is missing", manifest.files.keys() - present),
        ("is not in its manifest", present - manifest.files.keys()),
    ):
        if names:
            raise BundleError(f"bundle {manifest.bundle_id} at {path}: {', '.join(sorted(names))} {problem}")
    for name, expected in manifest.files.items():
        place = f"bundle {manifest.bundle_id} at {path}: {name}"
        size = _size(path / name)
        if size != expected.bytes:
            raise BundleError(f"{place} has {size} bytes, expected {expected.bytes}")
        given = _entry(path / name).sha256
        if given != expected.sha256:
            raise BundleError(f"{place} has sha256 {given}, expected {expected.sha256}")
        rest()
    return Bundle(path, manifest)


def check_bundle_id(bundle_id: str) -> str:
    """`bundle_id` if it is one; it becomes part of a path, so nothing else may pass.

    Raises:
        BundleError: not of the form 20261105T031200Z-8f3c1a9.
    """
    if not BUNDLE_ID.fullmatch(bundle_id):
        raise BundleError(f"{bundle_id!r} is not a bundle id; one looks like 20261105T031200Z-8f3c1a9")
    return bundle_id


def _content_id(manifest: Manifest) -> str:
    unnamed = msgspec.structs.replace(manifest, bundle_id="")
    digest = hashlib.sha256(msgspec.json.encode(unnamed, order="sorted")).hexdigest()
    return f"{manifest.created_at.astimezone(UTC):%Y%m%dT%H%M%SZ}-{digest[:7]}"


def _refuse_unsafe(name: str, manifest: Path) -> None:
    pure = PurePosixPath(name)
    if not name or name != str(pure) or pure.is_absolute() or ".." in pure.parts or "\\" in name or "\0" in name:
        raise BundleError(f"{manifest}: file name {name!r} leaves the bundle's directory")
    if name in (".", MANIFEST):
        raise BundleError(f"{manifest}: {name!r} cannot be one of the bundle's files")


def _names(directory: Path) -> set[str]:
    if not directory.is_dir():
        raise BundleError(f"{directory} is not a directory")
    names = set()
    for path in directory.rglob("*"):
        if path.is_symlink() or not (path.is_dir() or path.is_file()):
            raise BundleError(f"{path} is a link or special file; a bundle holds plain files only")
        if path.is_file():
            names.add(path.relative_to(directory).as_posix())
    return names


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror}") from error


def _entry(path: Path) -> FileEntry:
    try:
        with path.open("rb") as stream:
            return FileEntry(sha256=hashlib.file_digest(stream, "sha256").hexdigest(), bytes=stream.tell())
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror}") from error
