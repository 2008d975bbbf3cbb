"""What is done when an answer has gone out: nobody waits for it, and there is never too much of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from infra.telemetry import counter

log = logging.getLogger(__name__)

# Of one broker or store that hangs; each holds an answer.
MOST = 1_000
FINISH_S = 2.0

LEFT_UNDONE = counter("left_undone", "Impressions and explanations of answers that were not written.", ["what"])


class Afterwards:
    """Holds tasks until they end. most: at once; what comes beyond it is left undone."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._tasks: set[asyncio.Task[None]] = set()

    def do(self, what: str, work: Callable[[], Awaitable[object]]) -> None:
        """Begin `work` now; whatever it ends in is only logged. what: as `LEFT_UNDONE` counts it."""
        if len(self._tasks) >= self._most:
            LEFT_UNDONE.labels(what).inc()
            return
        task = asyncio.create_task(self._done(what, work), name=what)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _done(self, what: str, work: Callable[[], Awaitable[object]]) -> None:
        try:
            await work()
        except Exception as error:  # the answer is out, and right without it
            LEFT_UNDONE.labels(what).inc()
            log.warning("%s not written: %s", what, str(error) or type(error).__name__)

    async def finish(self) -> None:
        """Wait for what is under way, FINISH_S at most; the rest is left undone."""
        if not self._tasks:
            return
        _, late = await asyncio.wait(self._tasks, timeout=FINISH_S)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
