"""Whether a consumer has stalled: it reads nothing, though a second connection finds something where it stands.

A consumer can die without an error: its fetches hang, its coordination has ended, the group goes on without it. That
nothing comes proves nothing, so twice in a row there must be the same unread message.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping

from aiokafka.structs import TopicPartition

from infra.errors import BrokerUnavailable

logger = logging.getLogger(__name__)

Positions = Mapping[TopicPartition, int]
Unread = Callable[[Positions], Awaitable[Positions]]
"""Positions -> offsets of messages that a second connection finds there (`infra.kafka_probe.unread`)."""


class StallWatch:
    """Told by the reader what it does; `stalled` looks on beside it.

    stall_s: seconds without a message before a second connection looks.
    """

    def __init__(self, unread: Unread, stall_s: float) -> None:
        self._unread = unread
        self._stall_s = stall_s
        self._quiet_since: float | None = None

    def reading(self) -> None:
        """From now on the reader waits for messages."""
        self._quiet_since = time.monotonic()

    def resting(self) -> None:
        """It does not ask for any, for there is enough to do: that is no stall, however long it lasts."""
        self._quiet_since = None

    def moved(self) -> None:
        """Other partitions are ours: who waits for messages begins to wait anew."""
        if self._quiet_since is not None:
            self.reading()

    async def stalled(self, positions: Callable[[], Awaitable[Positions]]) -> str:
        """Returns, once that is so, why the consumer must be replaced; until then it looks on.

        positions: the next offset to read of each partition that this consumer has been given.
        """
        suspected: dict[TopicPartition, int] = {}
        while True:
            await asyncio.sleep(self._stall_s / 4)
            since = self._quiet_since
            if since is None or time.monotonic() - since < self._stall_s:
                suspected = {}
                continue
            try:
                here = await positions()
                there = await self._unread(here)
            except BrokerUnavailable as error:
                logger.debug("nobody can read now: %s", error)  # the reader says it, and tries again
                suspected = {}
                continue
            if self._quiet_since != since:
                suspected = {}
                continue
            for tp, offset in there.items():
                if suspected.get(tp) == here[tp]:
                    waited = time.monotonic() - since
                    return (
                        f"nothing was read for {waited:.0f} s, though a second connection finds "
                        f"{tp.topic}/{tp.partition}@{offset}"
                    )
            suspected = {tp: here[tp] for tp in there}
