"""Time is handed in, never taken: live traffic, replay and tests differ only in the clock."""

from __future__ import annotations

import json
import math
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

from infra.errors import ConfigurationError


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


class SharedClock:
    """A ReplayClock that several processes read and one of them moves while they run: the three numbers are in a file.

    {"origin": "2017-12-24T00:00:00+00:00", "started_at": 1764547200.0, "speed": 60.0}

    Written aside and renamed into place, so a reader sees the numbers of one moment, never half of them; read anew by
    every `now`, about 20 microseconds, which a batch asks for once. The file belongs on a local disk. One process moves
    the clock; two that did would undo each other's moves.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def now(self) -> datetime:
        """The present of all who share the file.

        Raises:
            ConfigurationError: there is no such file, or something else is in it.
        """
        return self._read().now()

    @property
    def speed(self) -> float:
        """How many times as fast as the machine's time it runs; 0 while it stands."""
        return self._read().speed

    def set(self, moment: datetime, speed: float = 0.0) -> None:
        """It is `moment` now, and time goes on from there at `speed`; at 0 it stands still. Makes the file.

        Raises:
            ValueError: no time zone, or a speed that is negative or not finite.
        """
        if moment.tzinfo is None:
            raise ValueError(f"{moment} has no time zone")
        if not (math.isfinite(speed) and speed >= 0):
            raise ValueError(f"speed {speed}; a number from 0 on is allowed")
        numbers = {"origin": moment.astimezone(UTC).isoformat(), "started_at": time.time(), "speed": speed}
        aside = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        aside.write_text(json.dumps(numbers))
        aside.replace(self.path)

    def run(self, speed: float) -> None:
        """Go on from the present at another speed; 0 pauses. The present does not jump."""
        self.set(self.now(), speed)

    def _read(self) -> ReplayClock:
        try:
            numbers = json.loads(self.path.read_bytes())
            origin = datetime.fromisoformat(numbers["origin"])
            return ReplayClock(origin, float(numbers["started_at"]), float(numbers["speed"]))
        except OSError as error:
            raise ConfigurationError(
                f"clock.file {self.path} cannot be read: {error.strerror}; whoever moves the clock makes it"
            ) from error
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigurationError(
                f"clock.file {self.path} is not a clock: {type(error).__name__}: {error}"
            ) from error
