"""Leaves an endpoint alone that does not work, and keeps what it has said for a while. Clocks are given in."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

Value = TypeVar("Value")

LONGEST_PAUSE_S = 300.0  # however long a server asks for


class Breaker:
    """Closed at first. After `limit` failures in a row it is open for `pause_s`; then one call is let through, and its
    outcome closes it or opens it again."""

    def __init__(self, limit: int, pause_s: float, now: Callable[[], float]) -> None:
        self._limit = limit
        self._pause_s = pause_s
        self._now = now
        self._failures = 0
        self._until: float | None = None
        self._trial = False

    def admits(self) -> bool:
        """Whether a call may be made now. After True, say how it went: succeeded, failed or abandoned."""
        if self._until is None:
            return True
        if self._trial or self._now() < self._until:
            return False
        self._trial = True
        return True

    def succeeded(self) -> None:
        self._failures, self._until, self._trial = 0, None, False

    def failed(self, pause_s: float | None = None) -> float | None:
        """Count a failure; returns the seconds of the pause that begins with it, None where none does.

        pause_s: as the endpoint itself asks for; it begins at once.
        """
        self._failures += 1
        self._trial = False
        if self._until is None and self._failures < self._limit and pause_s is None:
            return None
        pause = min(max(self._pause_s, pause_s or 0.0), LONGEST_PAUSE_S)
        self._until = self._now() + pause
        return pause

    def abandoned(self) -> None:
        """The call was not made after all."""
        self._trial = False


class Kept(Generic[Value]):
    """At most `size` values, each for `ttl_s`; the one longest unused goes first."""

    def __init__(self, size: int, ttl_s: float, now: Callable[[], float]) -> None:
        self._size = size
        self._ttl_s = ttl_s
        self._now = now
        self._held: OrderedDict[bytes, tuple[float, Value]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._held)

    def get(self, key: bytes) -> Value | None:
        held = self._held.get(key)
        if held is None:
            return None
        until, value = held
        if self._now() >= until:
            del self._held[key]
            return None
        self._held.move_to_end(key)
        return value

    def put(self, key: bytes, value: Value) -> None:
        self._held[key] = (self._now() + self._ttl_s, value)
        self._held.move_to_end(key)
        if len(self._held) > self._size:
            self._held.popitem(last=False)
