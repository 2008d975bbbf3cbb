"""The last things that happened in the shop, for the page's ticker: a ring that follows the topic
`transactions`.

It reads for itself, outside every consumer group, from the end: it may miss what happened while it was away
and never slows the worker down.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from dataclasses import dataclass
from datetime import datetime

from aiokafka.errors import KafkaError

from infra.errors import InvalidMessage
from infra.kafka_consumer import ClosingConsumer
from infra.kafka_security import client_arguments
from infra.settings import KafkaSettings
from streams.events import Event, parse_event
from streams.topics import TRANSACTIONS

log = logging.getLogger(__name__)

KEPT = 50
RETRY_S = 2.0
# The ticker is looked at by people; waiting longer than the hot path spares the broker.
FETCH_WAIT_MS = 250


@dataclass(frozen=True, slots=True)
class Activity:
    """One event as the ticker shows it; `number` counts up since the start of this process, `seen_at` is when it was
    read from the topic, by `time.monotonic()`."""

    number: int
    event_id: str
    type: str
    customer_id: str
    article_id: str
    occurred_at: datetime
    seen_at: float


class ActivityRing:
    """Keeps the newest `kept` events; filled by `add` or by following the topic between `start` and
    `stop`.
    """

    def __init__(self, settings: KafkaSettings, topic: str = TRANSACTIONS, *, kept: int = KEPT) -> None:
        self._settings = settings
        self._topic = topic
        self._ring: deque[Activity] = deque(maxlen=kept)
        self._count = 0
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def count(self) -> int:
        """Events seen since the start."""
        return self._count

    def add(self, event: Event) -> None:
        self._count += 1
        self._ring.append(
            Activity(
                self._count,
                event.event_id,
                event.type,
                event.customer_id,
                event.article_id,
                event.occurred_at,
                time.monotonic(),
            )
        )
        # Whoever waits holds the old one: all of them wake, and wait on the new one next.
        self._news.set()
        self._news = asyncio.Event()

    def recent(self, limit: int = KEPT) -> list[Activity]:
        """The newest first."""
        return list(self._ring)[::-1][:limit]

    def since(self, number: int) -> list[Activity]:
        """Those after `number` that are still kept, the oldest first."""
        return [seen for seen in self._ring if seen.number > number]

    async def wait(self, number: int, timeout_s: float) -> None:
        """Return when something came after `number`, or after so long."""
        if self._count > number:
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._news.wait(), timeout_s)

    async def start(self) -> None:
        self._task = asyncio.create_task(self._follow(), name="activity")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def _follow(self) -> None:
        while True:
            consumer = ClosingConsumer(
                self._topic,
                group_id=None,
                auto_offset_reset="latest",
                fetch_max_wait_ms=FETCH_WAIT_MS,
                request_timeout_ms=self._settings.request_timeout_ms,
                **client_arguments(self._settings),
            )
            try:
                await consumer.start()
                while True:
                    for records in (await consumer.getmany(timeout_ms=1_000)).values():
                        for record in records:
                            with contextlib.suppress(InvalidMessage):  # the worker dead-letters it
                                self.add(parse_event(record.value or b""))
            except (KafkaError, OSError) as error:
                log.warning("the activity ticker waits for the broker: %s", error)
            finally:
                await consumer.stop()
            await asyncio.sleep(RETRY_S)
