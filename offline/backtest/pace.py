"""How fast history passes for the processes of one replay, and how a person stops and continues it.

`kill -USR1 PID` pauses, `kill -USR2 PID` goes on; PID is the process that drives the replay. Time stands still in
between, for all processes: nothing jumps.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import threading
from collections.abc import Iterator
from datetime import datetime

from infra.clock import SharedClock
from infra.errors import ConfigurationError

logger = logging.getLogger(__name__)

# Longest sleep of one who waits for a moment: so soon it notices a pause.
LOOK_S = 0.1


def parse_speed(text: str) -> float:
    """`60x` or `60`: how many times as fast as it was.

    Raises:
        ConfigurationError: not a number above 0.
    """
    try:
        speed = float(text.removesuffix("x"))
    except ValueError:
        speed = 0.0
    if not 0 < speed < float("inf"):
        raise ConfigurationError(f"speed {text!r}; give a number above 0 such as 60x, or none for as fast as it goes")
    return speed


class Pace:
    """Moves the clock of one replay.

    speed: how many times as fast as it was; None: as fast as it goes, the clock steps to each moment that is reached.
    """

    def __init__(self, clock: SharedClock, speed: float | None = None) -> None:
        self.clock = clock
        self.speed = speed
        self._present: datetime | None = None
        self._running = False
        self._free = asyncio.Event()
        self._free.set()

    @property
    def paused(self) -> bool:
        return not self._free.is_set()

    def pause(self) -> None:
        """Nothing more is sent and time stands, until `resume`; what is with the processes is finished."""
        if not self.paused:
            self._free.clear()
            if self._running:
                self.clock.run(0.0)
            logger.warning("paused at %s; kill -USR2 goes on", self._present)

    def resume(self) -> None:
        if self.paused:
            if self._running and self.speed is not None:
                self.clock.run(self.speed)
            self._free.set()
            logger.warning("going on")

    async def free(self) -> None:
        """Return once nobody has paused."""
        await self._free.wait()

    async def reach(self, moment: datetime) -> datetime:
        """Wait until it is `moment` or later; returns the present. One that has passed changes nothing."""
        await self.free()
        if self._present is None:
            self._present = moment
            self.clock.set(moment, self.speed or 0.0)
            self._running = self.speed is not None
        if self.speed is None:
            if moment > self._present:
                self._present = moment
                self.clock.set(moment)
            return self._present
        if not self._running:
            self._running = True
            self.clock.run(self.speed)
        while (now := self.clock.now()) < moment:
            await asyncio.sleep(min(LOOK_S, (moment - now).total_seconds() / self.speed))
            await self.free()
        self._present = now
        return now

    def stand(self, moment: datetime) -> None:
        """It is exactly `moment`, and stays so until something is reached again."""
        self._running = False
        self._present = moment
        self.clock.set(moment)

    @contextlib.contextmanager
    def signals(self) -> Iterator[None]:
        """While inside, SIGUSR1 pauses and SIGUSR2 goes on; only the main thread can listen, elsewhere nobody does."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, self.pause)
        loop.add_signal_handler(signal.SIGUSR2, self.resume)
        try:
            yield
        finally:
            loop.remove_signal_handler(signal.SIGUSR1)
            loop.remove_signal_handler(signal.SIGUSR2)
