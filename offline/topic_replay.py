"""History onto a topic, event by event in its order: paced, and resumable by what the topic itself holds.

Every message says in its headers which replay it is of and its running number there. The newest message of a partition
tells what that partition has; a new start goes on from the partition that is furthest behind and leaves out what the
others have already. That is right because a partition never holds a message without those before it: a batch is sent
only when the one ahead of it is acknowledged (`Producer.send_in_order`), and the broker takes a batch whole.

So a process that is killed anywhere leaves no gap, and what it had sent is not sent again. One thing is left: a
connection that breaks between the broker's write and its acknowledgement lets the client send that batch again, and it
stands twice, the second time after the first. Its events have the same ids, by which they count once.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from aiokafka.partitioner import DefaultPartitioner
from aiokafka.structs import ConsumerRecord

from infra.clock import ReplayClock
from infra.errors import BrokerUnavailable, ConfigurationError
from infra.kafka import Producer, backoff_s, ensure_topics, list_topics
from infra.kafka_tail import newest_messages
from infra.settings import KafkaSettings
from offline.event_log import EventLog
from offline.progress import Step
from streams.events import Event
from streams.publisher import message_of
from streams.topics import TRANSACTIONS, topic_specs

logger = logging.getLogger(__name__)

REPLAY_HEADER = "replay"
NUMBER_HEADER = "replay-number"
LOT = 4_000  # events sent at a time when they need not wait for their moment
WAIT_S = 0.25  # the longest pause between two looks at the clock
SETTLED_S = 0.3  # between two looks that must agree before a topic counts as standing still
LOOKS = 10

Numbers = dict[int, int]
"""Partition -> running number of the newest message of this replay there, -1 for none."""


@dataclass(frozen=True)
class History:
    """The events of a log in [start, until); None: from its first, to its last."""

    log: EventLog
    start: datetime | None = None
    until: datetime | None = None

    def replay_id(self, partitions: int) -> str:
        """One name for the same events on as many partitions: what may be resumed."""
        parts = (self.log.content_hash, str(self.start), str(self.until), str(partitions))
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]

    def events(self, first: int) -> Iterator[tuple[int, Event]]:
        """Events from running number `first` on with their numbers; memory holds a day."""
        number = 0
        for batch in self.log.scan(self.start, self.until):
            if number + batch.num_rows > first:
                skipped = max(0, first - number)
                for n, row in enumerate(batch.slice(skipped).to_pylist(), start=number + skipped):
                    yield n, Event(**row)
            number += batch.num_rows


@dataclass(frozen=True)
class Outcome:
    """sent: by this run · first: number of the first of these · position: the topic has all events before this number ·
    reached: when the last one sent occurred."""

    replay_id: str
    sent: int
    first: int | None
    position: int
    reached: datetime | None
    seconds: float


class TopicReplay:
    """Sends a history to a topic until its end or `stop`.

    Args:
        speed: how many times as fast as it happened, None as fast as it goes. A start goes on at the time it stood.
        among_others: look for this replay's messages among those of others, instead of refusing a topic with such.
    """

    def __init__(
        self,
        kafka: KafkaSettings,
        history: History,
        topic: str,
        speed: float | None,
        progress: Step,
        *,
        among_others: bool = False,
    ) -> None:
        self._kafka = kafka
        self._history = history
        self._topic = topic
        self._speed = speed
        self._progress = progress
        self._among_others = among_others
        self._stopping = asyncio.Event()
        self._partition_of = DefaultPartitioner()
        self._replay_id = b""
        self._first: int | None = None
        self._been_there = False
        self._position = 0
        self._sent = 0
        self._reached: datetime | None = None

    def stop(self) -> None:
        """End after what is on its way."""
        self._stopping.set()

    async def run(self) -> Outcome:
        """Send what the topic has not yet. A broker that goes away is waited for, once it has been there.

        Raises:
            ConfigurationError: the topic cannot take this replay; says what to do. BrokerUnavailable: no broker.
        """
        started = time.monotonic()
        await ensure_topics(self._kafka, [topic_spec(self._kafka, self._topic)])
        partitions = (await list_topics(self._kafka))[self._topic]
        self._replay_id = self._history.replay_id(partitions).encode()
        attempt = 0
        while not self._stopping.is_set():
            before = self._sent
            try:
                await self._go_on(list(range(partitions)))
                break
            except BrokerUnavailable as error:
                if not self._been_there:
                    raise
                attempt = 0 if self._sent > before else attempt + 1
                pause = backoff_s(attempt, base_s=0.5)
                logger.warning("the replay goes on in %.1f s: %s", pause, error)
                await self._pause(pause)
        seconds = time.monotonic() - started
        return Outcome(
            self._replay_id.decode(), self._sent, self._first, self._position, self._reached, round(seconds, 3)
        )

    async def _go_on(self, partitions: list[int]) -> None:
        newest = await self._standing(partitions)
        first = min(newest.values()) + 1
        self._been_there = True
        self._reach(first)
        clock: ReplayClock | None = None
        lot: dict[int, list[tuple[bytes, bytes, list[tuple[str, bytes]]]]] = {}
        last: tuple[int, Event] | None = None
        async with Producer(self._kafka) as producer:
            for number, event in self._history.events(first):
                key, value = message_of(event)
                partition = self._partition_of(key, partitions, partitions)
                if number <= newest[partition]:
                    continue
                if self._speed is not None:
                    clock = clock or ReplayClock(event.occurred_at, time.time(), self._speed)
                    while event.occurred_at > clock.now() and not self._stopping.is_set():
                        await self._flush(producer, lot, last)
                        ahead = (event.occurred_at - clock.now()).total_seconds() / self._speed
                        await self._pause(min(ahead, WAIT_S))
                if last is not None and number - self._position >= LOT:
                    await self._flush(producer, lot, last)
                if self._stopping.is_set():
                    return
                headers = [(REPLAY_HEADER, self._replay_id), (NUMBER_HEADER, b"%d" % number)]
                lot.setdefault(partition, []).append((key, value, headers))
                last = number, event
                self._first = number if self._first is None else self._first
            await self._flush(producer, lot, last)
            self._reach(self._history.log.rows(self._history.start, self._history.until))

    async def _flush(
        self,
        producer: Producer,
        lot: dict[int, list[tuple[bytes, bytes, list[tuple[str, bytes]]]]],
        last: tuple[int, Event] | None,
    ) -> None:
        """Send a lot, all partitions at once, each in its order; `last` is the newest event of it."""
        if not lot or last is None:
            return
        sends = [producer.send_in_order(self._topic, partition, messages) for partition, messages in lot.items()]
        # All must have ended before anything else: a send left behind would write after the next look at the topic.
        for result in await asyncio.gather(*sends, return_exceptions=True):
            if isinstance(result, BaseException):
                raise result
        self._sent += sum(map(len, lot.values()))
        lot.clear()
        self._reached = last[1].occurred_at
        self._reach(last[0] + 1)

    def _reach(self, position: int) -> None:
        if position > self._position:
            note = "" if self._reached is None else f"at {self._reached:%Y-%m-%d %H:%M}"
            self._progress.advance(position - self._position, note)
            self._position = position

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)

    async def _standing(self, partitions: list[int]) -> Numbers:
        """What each partition has, once it stands still: a process that has just died may still be heard.

        Raises:
            ConfigurationError: it does not, or somebody else's messages are in the way.
        """
        numbers = await self._look(partitions)
        for _ in range(LOOKS):
            await asyncio.sleep(SETTLED_S)
            again = await self._look(partitions)
            if again == numbers:
                return numbers
            numbers = again
        raise ConfigurationError(
            f"another process is sending this replay to topic {self._topic} just now; stop it first, or wait for it"
        )

    async def _look(self, partitions: list[int]) -> Numbers:
        tails = await newest_messages(
            self._kafka, self._topic, partitions, self._is_mine if self._among_others else _any_message
        )
        numbers: Numbers = {}
        for partition, tail in tails.items():
            record = tail.newest
            if record is None and tail.end and not self._among_others:
                raise ConfigurationError(
                    f"topic {self._topic}, partition {partition}: its {tail.end} messages are gone (retention?), so "
                    "what it had of this replay cannot be told; choose another --topic, or delete this one"
                )
            if record is not None and not self._is_mine(record):
                raise ConfigurationError(
                    f"topic {self._topic}, partition {partition}, ends at offset {record.offset} with a message of "
                    f"{_owner(record)}, not of replay {self._replay_id.decode()}; choose another --topic, delete this "
                    "one, or give --among-others to send this replay behind what is there"
                )
            numbers[partition] = -1 if record is None else int(dict(record.headers)[NUMBER_HEADER])
        return numbers

    def _is_mine(self, record: ConsumerRecord) -> bool:
        return bool(dict(record.headers).get(REPLAY_HEADER) == self._replay_id)


def _any_message(record: ConsumerRecord) -> bool:
    del record
    return True


def _owner(record: ConsumerRecord) -> str:
    other: Any = dict(record.headers).get(REPLAY_HEADER)
    return "another producer" if other is None else f"replay {other.decode(errors='replace')}"


def topic_spec(kafka: KafkaSettings, topic: str) -> Any:
    """What a topic for a replay must be: as `transactions`, under any name that is not another topic of ours.

    Raises:
        ConfigurationError: it is another topic of ours.
    """
    specs = {spec.name: spec for spec in topic_specs(kafka)}
    if topic in specs and topic != TRANSACTIONS:
        raise ConfigurationError(f"topic {topic} is not for events; choose {TRANSACTIONS} or a name of your own")
    return replace(specs[TRANSACTIONS], name=topic)
