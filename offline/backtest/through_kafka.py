"""A shop of real processes, run through history: broker, Redis, the Faust worker and the Faust responder.

    log --chunks, in order--> transactions --> worker --> Redis --+
    clock file (infra.clock.SharedClock), moved by the driver     +--> responder --> recommendations --> answers
    requests ------------------------------> recommendation-requests --+

The servers are its own and end with it: history has no place on topics that others read. One step is over before the
next begins: events count as folded when the worker has committed them, a bundle as taken when the responder answers by
it, and requests meet a clock that stands still until all are answered. So the answers are those of one process, to the
byte, whatever the batches were.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import shutil
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Self, TextIO

import msgspec
from aiokafka.structs import TopicPartition

from infra.announce import announce
from infra.bundle import Bundle
from infra.clock import SharedClock
from infra.errors import DataError
from infra.kafka import Producer
from infra.kafka_consumer import BatchConsumer
from infra.kafka_probe import GroupOffsets
from infra.registry import Registry
from infra.settings import ClockSettings, KafkaSettings, RedisSettings, RegistrySettings, ResponderSettings, Settings
from offline.backtest.pace import Pace, parse_speed
from offline.backtest.patience import Watch
from offline.backtest.plan import BacktestPlan
from offline.event_log import EventLog
from offline.held_out import purchases
from offline.run import say
from serving.messages import RecommendationRequest, Recommendations, encode_recommendations, parse_recommendations
from serving.up import Stack, start_stack
from streams.events import EPOCH, Event, encode_event
from streams.redis_store import open_store
from streams.state import Outcome
from streams.store import StateStore
from streams.topics import DEAD_LETTERS, RECOMMENDATIONS, REQUESTS, TRANSACTIONS

logger = logging.getLogger(__name__)

PROCESSES = ("worker", "responder")
CHUNK = 2_000  # events sent at a time
BACKLOG = 20_000  # events that may wait for the worker
IN_FLIGHT = 1_000  # requests that may wait for their answers
LOADED_AT_ONCE = 500  # states
POLL_S = 0.02
PROBE_S = 0.5
LETTERS_MS = 1_000
# Nobody waits for an answer of the past, so neither the store nor a request is given up for being slow.
STORE_TIMEOUT_MS = 30_000
DEADLINE_MS = 600_000


class ThroughKafka:
    """A `Runner` (offline/backtest/runner.py) of processes; use it with `async with`.

    Outcomes are read from outside: from what each customer's totals have grown by, and from the dead letters. So what
    came too late for a full window is among `applied`, and `duplicate` are all that changed nothing.

    Memory is that of a chunk of events, of IN_FLIGHT answers and of the names of the customers of one `fold`. The
    broker keeps all of history, tansu in memory, Apache Kafka on disk.

    Args:
        directory: of this runner alone, for the processes' log (`processes.log`, which stays), registry, clock and
            broker data; made if missing.
        kafka: tansu or apache.
        speed: of history, against the wall's time; None: as fast as it goes.
        partitions: of each topic.
        patience_s: how long nothing may happen before that is an error. Pauses do not count.
    """

    def __init__(
        self,
        directory: Path,
        *,
        kafka: str = "tansu",
        speed: float | None = None,
        partitions: int = 4,
        patience_s: float = 120.0,
    ) -> None:
        self.directory = directory.absolute()
        self.pace = Pace(SharedClock(self.directory / "clock.json"), speed)
        self._kafka = kafka
        self._patience_s = patience_s
        registry = RegistrySettings(url=f"file://{self.directory / 'registry'}", channel="replay")
        self._registry = Registry(registry.url)
        self._wanted = Settings(
            kafka=KafkaSettings(partitions=partitions),
            redis=RedisSettings(timeout_ms=STORE_TIMEOUT_MS),
            registry=registry,
            responder=ResponderSettings(deadline_ms=DEADLINE_MS),
            clock=ClockSettings(file=self.pace.clock.path),
            data_dir=self.directory,
        )
        self._open: contextlib.AsyncExitStack | None = None
        self._ends: dict[TopicPartition, int] = {}
        self._bundle_id: str | None = None
        self._probes = itertools.count()

    async def __aenter__(self) -> Self:
        """Starts it unless it is."""
        if self._open is None:
            await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def start(self) -> None:
        """Start servers and processes and connect to them.

        Raises:
            ConfigurationError: what a server needs is not installed. ProcessFailed: one could not be kept alive.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        self.pace.clock.set(EPOCH)
        async with contextlib.AsyncExitStack() as opened:
            out = opened.enter_context((self.directory / "processes.log").open("a"))
            self._stack = await self._processes(out)
            opened.push_async_callback(asyncio.to_thread, self._stack.stop)
            settings = self._settings = self._stack.settings
            self._store: StateStore = await open_store(settings.redis)
            opened.push_async_callback(self._store.close)
            self._group = await opened.enter_async_context(GroupOffsets(settings.kafka, settings.worker.group))
            self._producer = await opened.enter_async_context(Producer(settings.kafka, linger_ms=5))
            self._answers = await opened.enter_async_context(_from_now_on(settings, RECOMMENDATIONS))
            self._letters = await opened.enter_async_context(_from_now_on(settings, DEAD_LETTERS))
            opened.enter_context(self.pace.signals())
            self._open = opened.pop_all()

    async def _processes(self, out: TextIO) -> Stack:
        starting = asyncio.create_task(
            asyncio.to_thread(start_stack, self._wanted, kafka=self._kafka, processes=PROCESSES, out=out)
        )
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            (await starting).stop()  # a thread cannot be cancelled, and nothing it started may outlive us
            raise

    async def close(self) -> None:
        """Stop everything and remove the broker's data and the bundles' copies; again is harmless."""
        opened, self._open = self._open, None
        if opened is not None:
            await opened.aclose()
            for name in ("kafka", "registry"):
                await asyncio.to_thread(shutil.rmtree, self.directory / name, ignore_errors=True)

    def pids(self) -> dict[str, int]:
        """Process ids of what runs now, by name: kafka, redis, worker, responder."""
        self._started()
        return self._stack.supervisor.pids()

    async def take(self, bundle: Bundle) -> None:
        """Publish it, move the channel, tell the processes, and wait until the responder answers by it.

        Raises:
            BundleError: it cannot be published. Unavailable: the responder did not take it; its log says why.
        """
        self._started()
        if bundle.bundle_id == self._bundle_id:
            return
        await asyncio.to_thread(self._registry.publish, bundle.path)
        channel = self._settings.registry.channel
        await announce(
            self._settings, await asyncio.to_thread(self._registry.activate, channel, bundle.bundle_id, by="backtest")
        )
        waited = self._watch(f"the responder did not take bundle {bundle.bundle_id}")
        while (answering := await self._answering()) != bundle.bundle_id:
            waited(detail=f"it answers by {answering or 'none'}")
            await asyncio.sleep(POLL_S)
        self._bundle_id = bundle.bundle_id

    async def fold(self, log: EventLog, start: datetime | None, until: datetime) -> Counter[Outcome]:
        """Produce the log's events of [start, until) as they happened and wait until the worker has committed them.

        Raises:
            Unavailable: the worker did not go on; says how many events it lacks. DataError: a state is unreadable.
        """
        self._started()
        before: dict[str, int] = {}
        sent = 0
        events = purchases(log, EPOCH if start is None else start, until)
        async for chunk in self._when_due(events):
            fresh = dict.fromkeys(event.customer_id for event in chunk if event.customer_id not in before)
            before |= await self._counted(fresh)
            messages = ((TRANSACTIONS, event.customer_id.encode(), encode_event(event)) for event in chunk)
            self._ends |= await self._producer.place_many(messages)
            sent += len(chunk)
            await self._committed(BACKLOG)
        await self.pace.reach(until)
        self.pace.stand(until)
        await self._committed(0)
        rejected = await self._refused()
        counted = sum((await self._counted(before)).values()) - sum(before.values())
        outcomes = {
            Outcome.APPLIED: counted,
            Outcome.DUPLICATE: sent - counted - rejected,
            Outcome.REJECTED: rejected,
        }
        return Counter({outcome: n for outcome, n in outcomes.items() if n})

    async def answer(self, requests: Sequence[RecommendationRequest], now: datetime) -> list[Recommendations]:
        """Ask over the topic while the clock stands at `now`; exactly one answer a request, in order.

        `latency_ms` is the responder's, of a whole micro-batch, so it is 0 here. A request's own deadline is waived.

        Raises:
            Unavailable: answers are missing after `patience_s` without any; says how many.
            DataError: a request_id stands twice among `requests`, or was answered twice and not alike.
        """
        self._started()
        name, times = next(iter(Counter(request.request_id for request in requests).most_common(1)), ("", 0))
        if times > 1:
            raise DataError(f"request_id {name!r} stands {times} times among the requests; each needs its own")
        self.pace.stand(now)
        answers: list[Recommendations] = []
        for first in range(0, len(requests), IN_FLIGHT):
            await self.pace.free()
            asked = [_patient(request) for request in requests[first : first + IN_FLIGHT]]
            answers += await self._ask(asked)
        return answers

    async def _ask(self, requests: Sequence[RecommendationRequest]) -> list[Recommendations]:
        """Again, where an answer says that a later one may be better."""
        found: dict[str, Recommendations] = {}
        due = {request.request_id: request for request in requests}
        await self._request(due.values())
        waited = self._watch("the responder does not answer")
        while len(found) < len(due):
            again = []
            for answer in await self._hear():
                if answer.request_id not in due:
                    continue  # to a probe, or told again by a responder that had died before it could commit
                if (answer.error is not None and answer.error.retryable) or "store_unavailable" in answer.degraded:
                    again.append(due[answer.request_id])
                    continue
                if answer != found.setdefault(answer.request_id, answer):
                    raise DataError(
                        f"request {answer.request_id} was answered twice and not alike:\n"
                        f"{encode_recommendations(found[answer.request_id])!r}\n{encode_recommendations(answer)!r}"
                    )
            waited(len(found), f"{len(due) - len(found)} of {len(due)} requests are open")
            if again:
                await asyncio.sleep(PROBE_S)
                await self._request(again)
        return [found[request.request_id] for request in requests]

    async def _request(self, requests: Iterable[RecommendationRequest]) -> None:
        await self._producer.send_many(
            (REQUESTS, request.customer_id.encode(), msgspec.json.encode(request)) for request in requests
        )

    async def _hear(self) -> list[Recommendations]:
        """What came since the last time, without what a clock says."""
        records = (await self._answers.getmany(int(POLL_S * 1e3))).values()
        return [
            msgspec.structs.replace(parse_recommendations(record.value or b""), latency_ms=0.0)
            for part in records
            for record in part
        ]

    async def _answering(self) -> str | None:
        """The bundle of an answer to a question of now; None without one."""
        name = f"probe-{next(self._probes)}"
        await self._request([RecommendationRequest(request_id=name, customer_id=name, k=1, strategy="popular")])
        until = time.monotonic() + PROBE_S
        while time.monotonic() < until:
            for answer in await self._hear():
                if answer.request_id == name:
                    return answer.bundle_id
        return None

    async def _when_due(self, events: Iterator[Event]) -> AsyncIterator[list[Event]]:
        """The events in order, each not before its time; at most CHUNK together."""
        waiting: list[Event] = []
        for event in events:
            if self.pace.speed is not None and (not waiting or event.occurred_at > self.pace.clock.now()):
                if waiting:
                    yield waiting
                    waiting = []
                await self.pace.reach(event.occurred_at)
            waiting.append(event)
            if len(waiting) == CHUNK:
                await self.pace.reach(waiting[-1].occurred_at)
                yield waiting
                waiting = []
        if waiting:
            await self.pace.reach(waiting[-1].occurred_at)
            yield waiting

    async def _committed(self, backlog: int) -> None:
        """Wait until no more than so many events are sent and not committed."""
        waited = self._watch("the worker does not go on")
        while True:
            done = await self._group.committed(self._ends)
            open_ = sum(max(0, end - done[tp]) for tp, end in self._ends.items())
            if open_ <= backlog:
                return
            waited(open_, f"{open_} events are sent and not committed")
            await asyncio.sleep(POLL_S)

    async def _counted(self, customers: Iterable[str]) -> dict[str, int]:
        """How many events the store has counted, by customer."""
        names = list(customers)
        found: dict[str, int] = {}
        for first in range(0, len(names), LOADED_AT_ONCE):
            part = names[first : first + LOADED_AT_ONCE]
            stored = await self._store.load(part)
            found |= {name: len(one.state.totals) if one else 0 for name, one in zip(part, stored, strict=True)}
        return found

    async def _refused(self) -> int:
        """Dead letters since the last time. The worker has each on the topic before it commits its message."""
        count = 0
        while records := await self._letters.getmany(LETTERS_MS):
            count += sum(len(part) for part in records.values())
        return count

    def _started(self) -> None:
        if self._open is None:
            raise RuntimeError("ThroughKafka was used before start() or after close()")

    def _watch(self, what: str) -> Watch:
        return Watch(what, self._stack, self._patience_s, self.directory / "processes.log")


async def open_through_kafka(
    settings: Settings, plan: BacktestPlan, speed: str | None = None, *, kafka: str = "tansu"
) -> ThroughKafka:
    """A started one below `data_dir`; says how to pause it. `close` ends it.

    Raises:
        ConfigurationError: no such speed or broker. ProcessFailed: a process could not be kept alive.
    """
    runner = ThroughKafka(
        settings.data_dir / "backtests" / f"through-kafka-{os.getpid()}",
        kafka=kafka,
        speed=None if speed is None else parse_speed(speed),
        partitions=settings.kafka.partitions,
    )
    await runner.start()
    say(
        f"{len(plan.steps)} steps through Kafka; kill -USR1 {os.getpid()} pauses, kill -USR2 {os.getpid()} goes on; "
        f"{runner.directory / 'processes.log'} has what the processes say"
    )
    return runner


def _patient(request: RecommendationRequest) -> RecommendationRequest:
    return msgspec.structs.replace(request, deadline_ms=None, requested_at=None)


@contextlib.asynccontextmanager
async def _from_now_on(settings: Settings, topic: str) -> AsyncIterator[BatchConsumer]:
    """A consumer outside every group that misses nothing of what is sent after it has been handed out."""
    consumer = BatchConsumer(settings.kafka, [topic], batch_size=IN_FLIGHT, from_beginning=False)
    async with consumer:
        # Where a partition begins is asked for when it is first fetched, which may be after the first message.
        while not consumer.assignment or len(await consumer.positions()) < len(consumer.assignment):
            await consumer.getmany(50)
        yield consumer
