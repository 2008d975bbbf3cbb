"""The registry: immutable published bundles, and channels that point at one of them.

ROOT/bundles/<bundle_id>/       verified before and after the copy, put in place by one rename, never changed
ROOT/channels/<name>.json       a ChannelPointer, replaced atomically, moved under a lock
ROOT/incoming/                  copies under way; what a killed publisher left is removed a day later

The same layout below s3://BUCKET/PREFIX, see `infra.registry_bucket`.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Annotated

import msgspec

from infra.bundle import Bundle, Manifest, check_bundle_id, open_bundle
from infra.clock import Clock, SystemClock
from infra.errors import BundleError, BundleNotFound, ConfigurationError, RegistryUnavailable
from infra.registry_bucket import SCHEME as BUCKETS
from infra.registry_bucket import Bucket
from infra.registry_folder import Folder, Keeper

FOLDERS = "file://"

_CHANNEL = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_LISTED = 5

log = logging.getLogger(__name__)

Check = Callable[[Bundle], object]


class ChannelPointer(msgspec.Struct, frozen=True, kw_only=True):
    """Where a channel points, since when, who moved it, and where `rollback` would lead."""

    channel: str
    bundle_id: str
    previous: str | None
    activated_at: Annotated[datetime, msgspec.Meta(tz=True)]
    by: str


class Registry:
    """Bundles and channels below one place.

    Args:
        url: `file://PATH`, PATH relative to the working directory or (`file:///...`) absolute; or s3://BUCKET/PREFIX.
        clock: dates the channel moves.
        cache: where bundles of a bucket are kept on this machine; default: below the user's cache directory.

    Raises:
        ConfigurationError: another scheme, no path, or what a bucket needs is not installed.
    """

    def __init__(self, url: str, clock: Clock | None = None, cache: Path | None = None) -> None:
        self._clock = clock or SystemClock()
        self._keeper = _keeper(url, cache)

    @property
    def place(self) -> str:
        """Where it is, for messages."""
        return self._keeper.place

    def publish(self, directory: Path) -> str:
        """Copy a finished bundle into the registry and return its id; the same bundle again changes nothing.

        Raises:
            BundleError: not a sound bundle, the id is taken by other or damaged content, or the place refuses.
            RegistryUnavailable: no answer; publishing again goes on.
        """
        source = open_bundle(directory)
        if not self._is_held(source):
            self._keeper.put(source)
            self._is_held(source)
        return source.bundle_id

    def open(self, bundle_id: str) -> Bundle:
        """The bundle of that id, verified.

        Raises:
            BundleNotFound: not published; says what is.
            BundleError: damaged; says where.
            RegistryUnavailable: no answer, and no copy of it here.
        """
        path = self._keeper.local(check_bundle_id(bundle_id))
        if path is None:
            raise BundleNotFound(f"no bundle {bundle_id} in {self.place}; {self._known_bundles()}")
        bundle = open_bundle(path)
        if bundle.bundle_id != bundle_id:
            raise BundleError(f"{path} holds bundle {bundle.bundle_id}; expected {bundle_id}")
        return bundle

    def activate(self, channel: str, bundle_id: str, *, by: str = "cli", check: Check | None = None) -> ChannelPointer:
        """Point `channel` at a bundle, after verifying it. The same bundle again only renews
        the time, which tells processes that refused it to try once more.

        check: called with the verified bundle; whatever it raises leaves the channel as it is.

        Raises:
            BundleNotFound: no such bundle.
            BundleError: the bundle is damaged, or `channel` is no channel name.
        """
        _check_channel(channel)
        bundle = self.open(bundle_id)
        if check is not None:
            check(bundle)
        with self._keeper.locked(channel):
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

    def rollback(self, channel: str, *, by: str = "cli", check: Check | None = None) -> ChannelPointer:
        """Point `channel` at the bundle it pointed at before; a second rollback returns to this one.

        check: as for `activate`.

        Raises:
            BundleNotFound: no such channel, no earlier bundle, or the earlier one is gone.
            BundleError: the earlier bundle is damaged.
        """
        _check_channel(channel)
        with self._keeper.locked(channel):
            now = self.pointer(channel)
            if now.previous is None:
                raise BundleNotFound(f"channel {channel} has only pointed at {now.bundle_id}; nothing to roll back to")
            bundle = self.open(now.previous)
            if check is not None:
                check(bundle)
            return self._point(channel, now.previous, now.bundle_id, by)

    def pointer(self, channel: str) -> ChannelPointer:
        """Where `channel` points.

        Raises:
            BundleNotFound: no such channel; says which there are.
            BundleError: the pointer's file is damaged.
        """
        raw = self._keeper.read_pointer(_check_channel(channel))
        path = self._keeper.whereabouts(channel)
        if raw is None:
            channels = ", ".join(self.channels()) or "none"
            raise BundleNotFound(
                f"channel {channel} of {self.place} points nowhere; channels: {channels}; "
                f"{self._known_bundles()}; "
                "build a bundle with `modiste offline run` or choose one with `modiste bundles activate`"
            )
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
        return sorted(name for name in self._keeper.channels() if _CHANNEL.fullmatch(name))

    def bundle_ids(self) -> list[str]:
        """Names below `bundles/`, newest first, sound or not."""
        return sorted(self._keeper.names(), reverse=True)

    def manifests(self) -> list[Manifest]:
        """Manifests of the published bundles, newest first; an unreadable one is logged and left out."""
        found = []
        for name in self.bundle_ids():
            try:
                manifest = self._keeper.manifest(name)
                if manifest is None:
                    continue  # in a bucket, one that is still on its way
                if manifest.bundle_id != name:
                    raise BundleError(f"{self.place}: {name} holds bundle {manifest.bundle_id}")
                found.append(manifest)
            except RegistryUnavailable:
                raise
            except BundleError as error:
                log.warning("left out of the list: %s", error)
        return sorted(found, key=lambda manifest: (manifest.created_at, manifest.bundle_id), reverse=True)

    def _is_held(self, source: Bundle) -> bool:
        """Whether this very bundle is published.

        Raises:
            BundleError: its id is taken by something else, or what is published is damaged.
        """
        target = self._keeper.local(source.bundle_id)
        if target is None:
            return False
        try:
            held = open_bundle(target).manifest
        except BundleError as error:
            raise BundleError(f"{error}; it is published but damaged: remove {target}, then publish again") from error
        if held != source.manifest:
            raise BundleError(f"{target} is taken by another bundle; a published bundle is never overwritten")
        return True

    def _point(self, channel: str, bundle_id: str, previous: str | None, by: str) -> ChannelPointer:
        pointer = ChannelPointer(
            channel=channel, bundle_id=bundle_id, previous=previous, activated_at=self._clock.now(), by=by
        )
        self._keeper.write_pointer(channel, msgspec.json.format(msgspec.json.encode(pointer), indent=2) + b"\n")
        return pointer

    def _known_bundles(self) -> str:
        ids = [manifest.bundle_id for manifest in self.manifests()]
        if not ids:
            return "no bundle is published"
        more = f" and {len(ids) - _LISTED} older" if len(ids) > _LISTED else ""
        return f"published: {', '.join(ids[:_LISTED])}{more}"


def _keeper(url: str, cache: Path | None) -> Keeper:
    for scheme in (FOLDERS, BUCKETS):
        if url.startswith(scheme) and url.removeprefix(scheme).strip("/"):
            return Folder(Path(url.removeprefix(scheme))) if scheme == FOLDERS else Bucket(url, cache)
    raise ConfigurationError(
        f"registry.url = {url!r}: allowed are file://PATH, for example file://.modiste/registry, and s3://BUCKET/PREFIX"
    )


def _check_channel(channel: str) -> str:
    if not _CHANNEL.fullmatch(channel):
        raise BundleError(f"{channel!r} is not a channel name; use up to 64 of a-z, 0-9, '.', '_', '-', no sign first")
    return channel
