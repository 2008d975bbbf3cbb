"""Whether a consumer has stalled: it reads nothing, though a second connection finds something where it stands.

A consumer can die without an error: its fetches hang, its coordination has ended, the group goes on without it. That
nothing comes proves nothing, so twice in a row there must be the same unread message.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from typing import Any

from aiokafka.structs import TopicPartition

from infra.errors import BrokerUnavailable

logger = logging.getLogger(__name__)

Positions = Mapping[TopicPartition, int]
Unread = Callable[[Positions], Awaitable[Positions]]
"""Positions -> offsets of messages that a second connection finds there (`infra.kafka_probe.unread`)."""


class StallWatch:
    """Told by the reader when it asks for messages and what came of it; `stalled` looks on beside it.

    stall_s: seconds of asking without a message before a second connection looks. What the reader does in between,
    however long, is no sign of a stall.
    """

    def __init__(self, unread: Unread, stall_s: float) -> None:
        self._unread = unread
        self._stall_s = stall_s
        self._asking_since: float | None = None
        self._asked_s = 0.0
        self._turns = 0

    @contextlib.contextmanager
    def asking(self) -> Iterator[None]:
        """Around every question for messages."""
        self._asking_since = time.monotonic()
        try:
            yield
        finally:
            if self._asking_since is not None:
                self._asked_s += time.monotonic() - self._asking_since
            self._asking_since = None

    def begin(self) -> None:
        """Something came, or other partitions are ours now, or it is another consumer: it waits anew."""
        self._turns += 1
        self._asked_s = 0.0
        if self._asking_since is not None:
            self._asking_since = time.monotonic()

    def _suspicious_s(self) -> float:
        """How long it has asked in vain; 0 where it does not ask now."""
        if self._asking_since is None:
            return 0.0
        asked = self._asked_s + time.monotonic() - self._asking_since
        return asked if asked >= self._stall_s else 0.0

    async def over(self, reading: Coroutine[Any, Any, str], positions: Callable[[], Awaitable[Positions]]) -> str:
        """Run `reading`, and return what it returns, or why it was cancelled: its consumer must be replaced.

        Raises:
            Exception: what `reading` raises; what `positions` and the second connection do, but BrokerUnavailable.
        """
        self.begin()
        tasks = asyncio.create_task(reading), asyncio.create_task(self.stalled(positions))
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return next((task.result() for task in tasks if not task.cancelled()), "reading was cancelled")

    async def stalled(self, positions: Callable[[], Awaitable[Positions]]) -> str:
        """Returns, once that is so, why the consumer must be replaced; until then it looks on.

        positions: the next offset to read of each partition that this consumer has been given.
        """
        suspected: dict[TopicPartition, int] = {}
        while True:
            await asyncio.sleep(self._stall_s / 4)
            turns = self._turns
            if not self._suspicious_s():
                suspected = {}
                continue
            try:
                here = await positions()
                there = await self._unread(here)
            except BrokerUnavailable as error:
                logger.debug("nobody can read now: %s", error)  # the reader says it, and tries again
                suspected = {}
                continue
            asked = self._suspicious_s()
            if self._turns != turns or not asked:
                suspected = {}
                continue
            for tp, offset in there.items():
                if suspected.get(tp) == here[tp]:
                    return (
                        f"nothing was read for {asked:.0f} s, though a second connection finds "
                        f"{tp.topic}/{tp.partition}@{offset}"
                    )
            suspected = {tp: here[tp] for tp in there}
