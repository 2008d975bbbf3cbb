"""The registry: immutable published bundles, and channels that point at one of them.

ROOT/bundles/<bundle_id>/       verified before and after the copy, put in place by one rename, never changed
ROOT/channels/<name>.json       a ChannelPointer, replaced atomically, moved under a lock
ROOT/incoming/                  copies under way; what a killed publisher left is removed a day later
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated

import msgspec

from infra.bundle import MANIFEST, Bundle, Manifest, check_bundle_id, open_bundle, read_manifest
from infra.clock import Clock, SystemClock
from infra.errors import BundleError, BundleNotFound, ConfigurationError

SCHEME = "file://"
ABANDONED_AFTER_S = 86_400

_CHANNEL = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_LISTED = 5

log = logging.getLogger(__name__)


class ChannelPointer(msgspec.Struct, frozen=True, kw_only=True):
    """Where a channel points, since when, who moved it, and where `rollback` would lead."""

    channel: str
    bundle_id: str
    previous: str | None
    activated_at: Annotated[datetime, msgspec.Meta(tz=True)]
    by: str


class Registry:
    """Bundles and channels below one directory.

    Args:
        url: `file://PATH`; PATH relative to the working directory or (`file:///...`) absolute.
        clock: dates the channel moves.

    Raises:
        ConfigurationError: another scheme, or no path.
    """

    def __init__(self, url: str, clock: Clock | None = None) -> None:
        path = url.removeprefix(SCHEME)
        if not url.startswith(SCHEME) or not path:
            raise ConfigurationError(
                f"registry.url = {url!r}: allowed is file://PATH, for example file://.modiste/registry"
            )
        self.root = Path(path)
        self._clock = clock or SystemClock()
        self._bundles = self.root / "bundles"
        self._channels = self.root / "channels"
        self._incoming = self.root / "incoming"

    def publish(self, directory: Path) -> str:
        """Copy a finished bundle into the registry and return its id; the same bundle again changes nothing.

        Raises:
            BundleError: not a sound bundle, the id is taken by other or damaged content, or the disk refuses.
        """
        source = open_bundle(directory)
        target = self._bundles / source.bundle_id
        if target.exists():
            return self._same(target, source)
        with self._writing():
            return self._copy_in(source, target)

    def _copy_in(self, source: Bundle, target: Path) -> str:
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
            try:
                aside.rename(target)
            except OSError:
                if not target.is_dir():
                    raise
                return self._same(target, source)
            _flush(self._bundles)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        return source.bundle_id

    def open(self, bundle_id: str) -> Bundle:
        """The bundle of that id, verified.

        Raises:
            BundleNotFound: not published; says what is.
            BundleError: damaged; says where.
        """
        path = self._bundles / check_bundle_id(bundle_id)
        if not path.is_dir():
            raise BundleNotFound(f"no bundle {bundle_id} in {self.root}; {self._known_bundles()}")
        bundle = open_bundle(path)
        if bundle.bundle_id != bundle_id:
            raise BundleError(f"{path} holds bundle {bundle.bundle_id}; expected {bundle_id}")
        return bundle

    def activate(self, channel: str, bundle_id: str, *, by: str = "cli") -> ChannelPointer:
        """Point `channel` at a bundle, after verifying it. The same bundle again only renews
        the time, which tells processes that refused it to try once more.

        Raises:
            BundleNotFound: no such bundle.
            BundleError: the bundle is damaged, or `channel` is no channel name.
        """
        _check_channel(channel)
        self.open(bundle_id)
        with self._locked(channel):
            try:
                now = self.pointer(channel)
            except BundleNotFound:
                now = None
            except BundleError as error:
                # Activating is how a damaged pointer is repaired.
                log.warning("replacing a damaged channel pointer: %s", error)
                now = None
            previous = None if now is None else now.previous if now.bundle_id == bundle_id else now.bundle_id
            return self._point(channel, bundle_id, previous, by)

    def rollback(self, channel: str, *, by: str = "cli") -> ChannelPointer:
        """Point `channel` at the bundle it pointed at before; a second rollback returns to this one.

        Raises:
            BundleNotFound: no such channel, no earlier bundle, or the earlier one is gone.
            BundleError: the earlier bundle is damaged.
        """
        _check_channel(channel)
        with self._locked(channel):
            now = self.pointer(channel)
            if now.previous is None:
                raise BundleNotFound(f"channel {channel} has only pointed at {now.bundle_id}; nothing to roll back to")
            self.open(now.previous)
            return self._point(channel, now.previous, now.bundle_id, by)

    def pointer(self, channel: str) -> ChannelPointer:
        """Where `channel` points.

        Raises:
            BundleNotFound: no such channel; says which there are.
            BundleError: the pointer's file is damaged.
        """
        path = self._channels / f"{_check_channel(channel)}.json"
        try:
            raw = path.read_bytes()
        except FileNotFoundError as error:
            channels = ", ".join(self.channels()) or "none"
            raise BundleNotFound(
                f"channel {channel} of {self.root} points nowhere; channels: {channels}; "
                f"{self._known_bundles()}; "
                "build a bundle with `modiste offline run` or choose one with `modiste bundles activate`"
            ) from error
        except OSError as error:
            raise BundleError(f"{path} cannot be read: {error.strerror}") from error
        try:
            pointer = msgspec.json.decode(raw, type=ChannelPointer)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise BundleError(
                f"{path} is damaged ({error}); point it again: modiste bundles activate BUNDLE_ID"
            ) from error
        if pointer.channel != channel:
            raise BundleError(f"{path} is the pointer of channel {pointer.channel!r}; expected {channel!r}")
        check_bundle_id(pointer.bundle_id)
        return pointer

    def resolve(self, channel: str) -> Bundle:
        """The verified bundle `channel` points at; raises what `pointer` and `open` raise."""
        return self.open(self.pointer(channel).bundle_id)

    def channels(self) -> list[str]:
        """Names of the channels, sorted."""
        return sorted(path.stem for path in self._channels.glob("*.json") if _CHANNEL.fullmatch(path.stem))

    def bundle_ids(self) -> list[str]:
        """Names below `bundles/`, newest first, sound or not."""
        return sorted((path.name for path in self._bundles.glob("*")), reverse=True)

    def manifests(self) -> list[Manifest]:
        """Manifests of the published bundles, newest first; an unreadable one is logged and left out."""
        found = []
        for path in map(self._bundles.joinpath, self.bundle_ids()):
            try:
                manifest = read_manifest(path)
                if manifest.bundle_id != path.name:
                    raise BundleError(f"{path} holds bundle {manifest.bundle_id}")
                found.append(manifest)
            except BundleError as error:
                log.warning("left out of the list: %s", error)
        return sorted(found, key=lambda manifest: (manifest.created_at, manifest.bundle_id), reverse=True)

    def _same(self, target: Path, source: Bundle) -> str:
        try:
            held = open_bundle(target).manifest
        except BundleError as error:
            raise BundleError(f"{error}; it is published but damaged: remove {target}, then publish again") from error
        if held != source.manifest:
            raise BundleError(f"{target} is taken by another bundle; a published bundle is never overwritten")
        return source.bundle_id

    def _point(self, channel: str, bundle_id: str, previous: str | None, by: str) -> ChannelPointer:
        pointer = ChannelPointer(
            channel=channel, bundle_id=bundle_id, previous=previous, activated_at=self._clock.now(), by=by
        )
        aside = self._channels / f".{channel}.new"
        with self._writing():
            aside.write_bytes(msgspec.json.format(msgspec.json.encode(pointer), indent=2) + b"\n")
            _flush(aside)
            aside.replace(self._channels / f"{channel}.json")
            _flush(self._channels)
        return pointer

    @contextlib.contextmanager
    def _locked(self, channel: str) -> Iterator[None]:
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

    def _known_bundles(self) -> str:
        ids = [manifest.bundle_id for manifest in self.manifests()]
        if not ids:
            return "no bundle is published"
        more = f" and {len(ids) - _LISTED} older" if len(ids) > _LISTED else ""
        return f"published: {', '.join(ids[:_LISTED])}{more}"

    def _sweep(self) -> None:
        for path in self._incoming.iterdir():
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > ABANDONED_AFTER_S:
                    shutil.rmtree(path)


def _check_channel(channel: str) -> str:
    if not _CHANNEL.fullmatch(channel):
        raise BundleError(f"{channel!r} is not a channel name; use up to 64 of a-z, 0-9, '.', '_', '-', no sign first")
    return channel


def _flush(path: Path) -> None:
    """Onto the disk, so that a rename after it never shows an empty file after a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
