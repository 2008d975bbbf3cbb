"""Where a registry at file:// keeps its bundles and pointers: a directory of this machine."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from infra.bundle import MANIFEST, Bundle, Manifest, open_bundle, read_manifest
from infra.errors import BundleError

ABANDONED_AFTER_S = 86_400


class Keeper(Protocol):
    """Bundles by id, pointers by channel. Methods raise BundleError where the place refuses, RegistryUnavailable where
    it does not answer."""

    @property
    def place(self) -> str:
        """What messages call it."""

    def names(self) -> list[str]:
        """Names of what lies among the bundles, sound or not."""

    def manifest(self, bundle_id: str) -> Manifest | None:
        """The published manifest, None where there is none."""

    def local(self, bundle_id: str) -> Path | None:
        """A directory of this machine with the bundle's files, to be verified; None where it is not published."""

    def put(self, source: Bundle) -> None:
        """Copy a verified bundle in, whole or not at all. The name must be free."""

    def channels(self) -> list[str]:
        """Names of pointers, sound or not."""

    def read_pointer(self, channel: str) -> bytes | None:
        """None where there is none."""

    def write_pointer(self, channel: str, raw: bytes) -> None:
        """Replaces it in one step."""

    def locked(self, channel: str) -> contextlib.AbstractContextManager[None]:
        """Held while a pointer is read and written."""

    def whereabouts(self, channel: str) -> str:
        """What messages call a pointer."""


class Folder:
    """A Keeper in a directory. Copies are made aside and renamed; a pointer is replaced by a rename."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._bundles = root / "bundles"
        self._channels = root / "channels"
        self._incoming = root / "incoming"

    @property
    def place(self) -> str:
        return str(self.root)

    def names(self) -> list[str]:
        return [path.name for path in self._bundles.glob("*")]

    def manifest(self, bundle_id: str) -> Manifest | None:
        path = self._bundles / bundle_id
        return read_manifest(path) if path.exists() else None

    def local(self, bundle_id: str) -> Path | None:
        path = self._bundles / bundle_id
        return path if path.is_dir() else None

    def put(self, source: Bundle) -> None:
        with self._writing():
            for folder in (self._bundles, self._incoming):
                folder.mkdir(parents=True, exist_ok=True)
            self._sweep()
            aside = Path(tempfile.mkdtemp(prefix=f"{source.bundle_id}-", dir=self._incoming))
            try:
                for name in (*source.manifest.files, MANIFEST):
                    (aside / name).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(source.path / name, aside / name)
                    _flush(aside / name)
                if open_bundle(aside).manifest != source.manifest:
                    raise BundleError(f"{source.path} changed while it was published; publish it again")
                aside.chmod(0o755)
                target = self._bundles / source.bundle_id
                try:
                    aside.rename(target)
                except OSError:
                    # Another publisher was faster; the caller compares what is there now.
                    if not target.is_dir():
                        raise
                _flush(self._bundles)
            finally:
                shutil.rmtree(aside, ignore_errors=True)

    def channels(self) -> list[str]:
        return [path.stem for path in self._channels.glob("*.json")]

    def whereabouts(self, channel: str) -> str:
        return str(self._channels / f"{channel}.json")

    def read_pointer(self, channel: str) -> bytes | None:
        path = self._channels / f"{channel}.json"
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise BundleError(f"{path} cannot be read: {error.strerror}") from error

    def write_pointer(self, channel: str, raw: bytes) -> None:
        aside = self._channels / f".{channel}.new"
        with self._writing():
            aside.write_bytes(raw)
            _flush(aside)
            aside.replace(self._channels / f"{channel}.json")
            _flush(self._channels)

    @contextlib.contextmanager
    def locked(self, channel: str) -> Iterator[None]:
        with self._writing():
            self._channels.mkdir(parents=True, exist_ok=True)
            lock = (self._channels / f".{channel}.lock").open("w")
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise BundleError(f"registry {self.root} cannot be written: {error}") from error

    def _sweep(self) -> None:
        for path in self._incoming.iterdir():
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > ABANDONED_AFTER_S:
                    shutil.rmtree(path)


def _flush(path: Path) -> None:
    """Onto the disk, so that a rename after it never shows an empty file after a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
