"""Time is handed in, never taken: live traffic, replay and tests differ only in the clock."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Tells the present as an aware UTC datetime."""

    def now(self) -> datetime: ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)


class ManualClock:
    """Stands still until told otherwise; for replay and tests."""

    def __init__(self, start: datetime) -> None:
        self._now = start

    def now(self) -> datetime:
        return self._now

    def advance(self, step: timedelta) -> None:
        self._now += step

    def set(self, moment: datetime) -> None:
        self._now = moment


class ReplayClock:
    """History's time, running: `origin` was reached at wall time `started_at` and time passes `speed` times as fast.

    Every process of one replay is given the same three numbers, so they agree on the present without talking.
    """

    def __init__(self, origin: datetime, started_at: float, speed: float = 1.0) -> None:
        self.origin = origin
        self.started_at = started_at
        self.speed = speed

    def now(self) -> datetime:
        return self.origin + timedelta(seconds=(time.time() - self.started_at) * self.speed)
