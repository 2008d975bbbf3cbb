"""How often one caller may ask: a bucket of tokens each, filled at a steady rate, in bounded memory."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

MAX_CALLERS = 10_000


@dataclass(frozen=True, slots=True)
class Allowance:
    """Whether one more request is allowed, and where the caller stands after it.

    limit, remaining: requests at once, and those left of them · wait_s: until one more would be allowed, 0 if now ·
    full_s: until all of `limit` are.
    """

    allowed: bool
    limit: int
    remaining: int
    wait_s: float
    full_s: float


class Buckets:
    """A bucket for each caller: `burst` tokens at first, then so many a second as its rate says, never more than
    `burst`.

    Beyond `max_callers` the bucket that was asked longest ago is forgotten, which is the one that has filled most.
    """

    def __init__(
        self, burst: int, *, now: Callable[[], float] = time.monotonic, max_callers: int = MAX_CALLERS
    ) -> None:
        self._burst = burst
        self._now = now
        self._max_callers = max_callers
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()  # caller -> tokens, when that was

    def take(self, caller: str, per_s: float) -> Allowance:
        """One token of the caller's, if there is one; `per_s` is its rate."""
        now = self._now()
        tokens, since = self._levels.pop(caller, (float(self._burst), now))
        tokens = min(float(self._burst), tokens + (now - since) * per_s)
        allowed = tokens >= 1
        if allowed:
            tokens -= 1
        self._levels[caller] = tokens, now
        if len(self._levels) > self._max_callers:
            self._levels.popitem(last=False)
        return Allowance(
            allowed,
            self._burst,
            int(tokens),
            max(0.0, (1 - tokens) / per_s),
            (self._burst - tokens) / per_s,
        )
