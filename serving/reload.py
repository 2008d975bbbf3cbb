"""The bundle in use, and how it changes under running requests.

A new bundle is opened, verified and loaded aside in a thread; then one reference is swapped. Requests that
began with the old one end with it. A bundle that cannot be trusted is refused by name, and the one in use
goes on serving.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass

from infra.bundle import Bundle
from infra.clock import Clock
from infra.errors import BundleNotFound, ModisteError
from infra.registry import Registry
from serving.golden import open_runtime
from serving.pipeline import Pipeline
from serving.runtime import Runtime

log = logging.getLogger(__name__)

POLL_S = 2.0


@dataclass(frozen=True, slots=True)
class Loaded:
    """All that one bundle gives, as one reference: whoever reads it once sees one bundle throughout."""

    bundle_id: str
    runtime: Runtime
    pipeline: Pipeline


@dataclass(frozen=True, slots=True)
class Refusal:
    """A bundle the channel named and this process would not take."""

    bundle_id: str | None
    reason: str


def loader(clock: Clock) -> Callable[[Bundle], Loaded]:
    """How a verified bundle becomes something that answers.

    Raises (from the returned function):
        BundleError: a file is missing, corrupt, or made for other code.
    """

    def load(bundle: Bundle) -> Loaded:
        runtime = open_runtime(bundle)
        return Loaded(bundle.bundle_id, runtime, Pipeline(runtime, clock))

    return load


class RuntimeHolder:
    """Holds the bundle that `channel` points at; `load` makes it ready (see `loader`)."""

    def __init__(
        self, registry: Registry, channel: str, load: Callable[[Bundle], Loaded], *, poll_s: float = POLL_S
    ) -> None:
        self._registry = registry
        self._channel = channel
        self._load = load
        self._poll_s = poll_s
        self._loaded: Loaded | None = None
        self._refusal: Refusal | None = None
        self._refused_key: tuple[str, object] | None = None
        self._lock = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    @property
    def current(self) -> Loaded:
        """The bundle in use.

        Raises:
            BundleNotFound: none could be loaded yet; says why.
        """
        if self._loaded is None:
            reason = self._refusal.reason if self._refusal else "not loaded yet"
            raise BundleNotFound(f"no bundle in use on channel {self._channel!r}: {reason}")
        return self._loaded

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
        try:
            pointer = await asyncio.to_thread(self._registry.pointer, self._channel)
        except (ModisteError, OSError) as error:
            self._refuse(None, str(error))
            return False
        if self._loaded is not None and pointer.bundle_id == self._loaded.bundle_id:
            self._refusal = self._refused_key = None
            return False
        # A refused bundle is not hashed again every two seconds; activating it anew gives it another chance.
        key = (pointer.bundle_id, pointer.activated_at)
        if key == self._refused_key:
            return False
        try:
            loaded = await asyncio.to_thread(self._open, pointer.bundle_id)
        except Exception as error:  # whatever a bad bundle does while loading, the one in use must go on
            if not isinstance(error, ModisteError):
                log.exception("bundle %s broke its loader", pointer.bundle_id)
            self._refused_key = key
            self._refuse(pointer.bundle_id, f"{type(error).__name__}: {error}")
            return False
        self._loaded, self._refusal, self._refused_key = loaded, None, None
        log.info("bundle %s in use (channel %s)", loaded.bundle_id, self._channel)
        return True

    def _open(self, bundle_id: str) -> Loaded:
        return self._load(self._registry.open(bundle_id))

    def _refuse(self, bundle_id: str | None, reason: str) -> None:
        refusal = Refusal(bundle_id, reason)
        if refusal != self._refusal:
            kept = self._loaded.bundle_id if self._loaded else "none"
            log.error("bundle %s refused, %s stays in use: %s", bundle_id or "(channel)", kept, reason)
        self._refusal = refusal

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(self._poll_s)
            await self.refresh()
