"""The bundle in use, and how it changes under work: every process that uses bundles follows its channel by this.

A new bundle is opened, verified and loaded aside in a thread; then one reference is swapped. Work that began with the
old one ends with it. A bundle that cannot be trusted is refused by name, and the one in use goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from infra.bundle import Bundle
from infra.errors import BundleNotFound, ModisteError
from infra.pauses import unhurried
from infra.registry import ChannelPointer, Registry

log = logging.getLogger(__name__)

T = TypeVar("T")

POLL_S = 2.0
# Of one load, whatever its size: what is activated takes effect within seconds. Of verifying, which leaves the
# interpreter to others, and of the rest, which does not.
VERIFY_REST_S = 0.5
REST_S = 1.0
# All processes of a machine hear of a new bundle in the same moment; spread over a second, they do not all take the
# same heavy step at once.
STAGGER_S = 1.0


@dataclass(frozen=True, slots=True)
class Refusal:
    """A bundle the channel named and this process would not take; no id where the channel itself cannot be read."""

    bundle_id: str | None
    reason: str


class BundleFollower(Generic[T]):
    """Holds what `load` makes of the bundle that `channel` points at.

    Args:
        load: called in a thread with a verified bundle; whatever it raises refuses the bundle. What it returns must be
            ready for the next request: it does its first inference before it is in use.
        taken: told, in the event loop, of each value that came into use.
        poll_s: seconds between two looks at the channel; `refresh` looks at once.
        stagger_s: a bundle that follows another is loaded at a random moment within so many seconds.
    """

    def __init__(
        self,
        registry: Registry,
        channel: str,
        load: Callable[[Bundle], T],
        *,
        poll_s: float = POLL_S,
        stagger_s: float = 0.0,
        taken: Callable[[T], None] | None = None,
    ) -> None:
        self._registry = registry
        self._channel = channel
        self._load = load
        self._poll_s = poll_s
        self._stagger_s = stagger_s
        self._hurry = threading.Event()
        self._taken = taken
        self._held: tuple[str, T] | None = None
        self._refusal: Refusal | None = None
        self._refused_key: tuple[str, object] | None = None
        self._lock = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    @property
    def current(self) -> T:
        """What is in use.

        Raises:
            BundleNotFound: none could be loaded yet; says why.
        """
        if self._held is None:
            reason = self._refusal.reason if self._refusal else "not loaded yet"
            raise BundleNotFound(f"no bundle in use on channel {self._channel!r}: {reason}")
        return self._held[1]

    @property
    def bundle_id(self) -> str | None:
        """Of the bundle in use."""
        return self._held[0] if self._held else None

    @property
    def refusal(self) -> Refusal | None:
        """Why the bundle the channel names now is not the one in use; None when it is."""
        return self._refusal

    async def start(self) -> None:
        """Load what the channel names, then follow it. A missing or bad bundle does not raise: `current`
        will say.
        """
        await self.refresh()
        self._task = asyncio.create_task(self._follow(), name="bundle-reload")

    async def stop(self) -> None:
        """Follow no more; a load on its way ends without rests, and is not taken into use."""
        self._hurry.set()
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def refresh(self) -> bool:
        """Look at the channel now; True when another bundle came into use."""
        async with self._lock:
            return await self._refresh()

    async def _refresh(self) -> bool:
        pointer = await self._news()
        if pointer is not None and self._held is not None and self._stagger_s:
            await asyncio.sleep(random.uniform(0, self._stagger_s))
            pointer = await self._news()  # the channel may have moved on, or back
        if pointer is None:
            return False
        key: tuple[str, object] | None = (pointer.bundle_id, pointer.activated_at)
        try:
            loaded = await asyncio.to_thread(self._open, pointer.bundle_id)
        except Exception as error:  # whatever a bad bundle does while loading, the one in use must go on
            if not isinstance(error, ModisteError):
                log.exception("bundle %s broke its loader", pointer.bundle_id)
            elif error.retryable:
                # The place does not answer: nothing is wrong with the bundle, so the next look tries again.
                key = None
            self._refused_key = key
            self._refuse(Refusal(pointer.bundle_id, f"{type(error).__name__}: {error}"))
            return False
        if self._hurry.is_set():
            return False
        self._held, self._refusal, self._refused_key = (pointer.bundle_id, loaded), None, None
        log.info("bundle %s in use (channel %s)", pointer.bundle_id, self._channel)
        if self._taken is not None:
            self._taken(loaded)
        return True

    async def _news(self) -> ChannelPointer | None:
        """Where the channel points, where that is neither in use nor refused already."""
        try:
            pointer = await asyncio.to_thread(self._registry.pointer, self._channel)
        except (ModisteError, OSError) as error:
            self._refuse(Refusal(None, str(error)), missing=isinstance(error, BundleNotFound))
            return None
        if pointer.bundle_id == self.bundle_id:
            self._refusal = self._refused_key = None
            return None
        # A refused bundle is not hashed again every two seconds; activating it anew gives it another chance.
        return None if (pointer.bundle_id, pointer.activated_at) == self._refused_key else pointer

    def _open(self, bundle_id: str) -> T:
        # Who has nothing to answer from is in a hurry; who has, must go on answering meanwhile.
        if self._held is None:
            return self._load(self._registry.open(bundle_id))
        with unhurried(self._hurry, most_s=VERIFY_REST_S):
            bundle = self._registry.open(bundle_id)
        with unhurried(self._hurry, most_s=REST_S):
            return self._load(bundle)

    def _refuse(self, refusal: Refusal, *, missing: bool = False) -> None:
        if refusal != self._refusal:
            if missing and self._held is None:
                log.info("no bundle yet: %s", refusal.reason)
            else:
                log.error(
                    "bundle %s refused, %s stays in use: %s",
                    refusal.bundle_id or "(channel)",
                    self.bundle_id or "none",
                    refusal.reason,
                )
        self._refusal = refusal

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(self._poll_s)
            await self.refresh()
