"""The live loop, bounded and measured: real purchases in, requests in, answers out, all through the topics.

Freshness is the time from producing a purchase to the first answer whose `as_of` includes it; latency the time from
producing a request to its answer. Both are taken at the client, with everything between on this machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np

from infra.errors import Unavailable
from infra.kafka import Producer
from infra.kafka_consumer import BatchConsumer
from infra.settings import Settings
from serving.messages import RecommendationRequest, Recommendations
from streams.events import Event, encode_event, id_key
from streams.redis_store import open_store
from streams.topics import DEAD_LETTERS, RECOMMENDATIONS, REQUESTS, TRANSACTIONS

ANSWER_TIMEOUT_S = 10.0
FRESH_TIMEOUT_S = 20.0
APPLIED_TIMEOUT_S = 60.0
WARM_UP_TIMEOUT_S = 60.0
# Between two questions for the same purchase: at least so long, and a fifth of what it has waited. So it is seen late
# by a fifth and one answer at most, and those who wait for long do not add to the load that keeps them waiting.
ASK_AGAIN_S = 0.005


@dataclass
class Tally:
    """What was sent and what came back."""

    events_sent: int = 0
    requests: int = 0
    responses: int = 0
    errors: int = 0
    freshness_ms: list[float] = field(default_factory=list)
    latency_ms: list[float] = field(default_factory=list)


class Client:
    """A service beside Modiste: produces requests and events, hears the answers."""

    def __init__(self, producer: Producer, tally: Tally) -> None:
        self._producer = producer
        self._waiting: dict[str, asyncio.Future[Recommendations]] = {}
        self.tally = tally

    async def hear(self, consumer: BatchConsumer) -> None:
        """Hand answers to those who wait for them, until cancelled."""
        decoder = msgspec.json.Decoder(Recommendations)
        while True:
            for records in (await consumer.getmany(timeout_ms=100)).values():
                for record in records:
                    answer = decoder.decode(record.value)
                    waiting = self._waiting.pop(answer.request_id, None)
                    if waiting is not None and not waiting.done():
                        waiting.set_result(answer)

    async def buy(self, events: Sequence[Event]) -> None:
        self.tally.events_sent += await self._producer.send_many(
            (TRANSACTIONS, event.customer_id.encode(), encode_event(event)) for event in events
        )

    async def ask(self, customer_id: str, *, timeout_s: float = ANSWER_TIMEOUT_S) -> Recommendations | None:
        """One request through the topic; None where no answer came in time."""
        request = RecommendationRequest(request_id=uuid.uuid4().hex, customer_id=customer_id)
        future: asyncio.Future[Recommendations] = asyncio.get_running_loop().create_future()
        self._waiting[request.request_id] = future
        started = time.perf_counter()
        await self._producer.send(REQUESTS, customer_id.encode(), msgspec.json.encode(request))
        self.tally.requests += 1
        try:
            answer = await asyncio.wait_for(future, timeout_s)
        except TimeoutError:
            self._waiting.pop(request.request_id, None)
            return None
        self.tally.responses += 1
        self.tally.errors += answer.error is not None
        self.tally.latency_ms.append((time.perf_counter() - started) * 1e3)
        return answer

    async def buy_and_see(self, event: Event) -> bool:
        """Produce a purchase and ask until an answer knows it."""
        started = time.perf_counter()
        await self.buy([event])
        while time.perf_counter() - started < FRESH_TIMEOUT_S:
            answer = await self.ask(event.customer_id)
            if answer is not None and answer.as_of is not None and answer.as_of >= event.occurred_at:
                self.tally.freshness_ms.append((time.perf_counter() - started) * 1e3)
                return True
            await asyncio.sleep(max(ASK_AGAIN_S, (time.perf_counter() - started) / 5))
        return False


@contextlib.asynccontextmanager
async def client(settings: Settings) -> AsyncIterator[Client]:
    """A connected client that hears only what is answered from now on."""
    consumer = BatchConsumer(settings.kafka, [RECOMMENDATIONS], batch_size=500, from_beginning=False)
    async with Producer(settings.kafka) as producer, consumer:
        while not consumer.assignment:
            await consumer.getmany(timeout_ms=50)
        one = Client(producer, Tally())
        hearing = asyncio.create_task(one.hear(consumer))
        try:
            yield one
        finally:
            hearing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await hearing


async def warm_up(one: Client, customer_id: str) -> None:
    """Wait for the responder's first answer; the tally starts after it.

    Raises:
        Unavailable: none within WARM_UP_TIMEOUT_S.
    """
    until = time.perf_counter() + WARM_UP_TIMEOUT_S
    while time.perf_counter() < until:
        answer = await one.ask(customer_id, timeout_s=2.0)
        if answer is not None and answer.error is None:
            one.tally = Tally()
            return
    raise Unavailable(f"the responder gave no answer within {WARM_UP_TIMEOUT_S:.0f} s; its log is above")


async def drive(settings: Settings, bulk: Sequence[Event], probes: Sequence[Event], requests: int) -> dict[str, object]:
    """Send the bulk at once, the probes one by one with their freshness, then ask; returns what was measured."""
    letters_before = await count_messages(settings, DEAD_LETTERS)
    async with client(settings) as one:
        await warm_up(one, probes[0].customer_id)
        await one.buy(bulk)
        applied = await applied_events(settings, bulk)
        seen = [await one.buy_and_see(event) for event in probes]
        for event in (*probes, *bulk)[:requests]:
            await one.ask(event.customer_id)
        applied += await applied_events(settings, probes)
        tally = one.tally
    return {
        "events_sent": tally.events_sent,
        "events_applied": applied,
        "dead_letters": await count_messages(settings, DEAD_LETTERS) - letters_before,
        "requests": tally.requests,
        "responses": tally.responses,
        "errors": tally.errors,
        "purchases_seen_in_answers": sum(seen),
        "freshness_ms": percentiles(tally.freshness_ms),
        "latency_ms": percentiles(tally.latency_ms),
    }


async def applied_events(settings: Settings, events: Sequence[Event]) -> int:
    """How many of these events stand in their customers' stored states; waits for them, bounded."""
    wanted: dict[str, set[int]] = {}
    for event in events:
        wanted.setdefault(event.customer_id, set()).add(id_key(event.event_id))
    store = await open_store(settings.redis)
    try:
        until = time.monotonic() + APPLIED_TIMEOUT_S
        while True:
            stored = await store.load(list(wanted))
            found = sum(
                len(keys & set(customer.state.keys.tolist()))
                for keys, customer in zip(wanted.values(), stored, strict=True)
                if customer is not None
            )
            if found == len(events) or time.monotonic() > until:
                return found
            await asyncio.sleep(0.2)
    finally:
        await store.close()


async def count_messages(settings: Settings, topic: str) -> int:
    """Messages on a topic, read from its beginning until nothing more comes for a second."""
    consumer = BatchConsumer(settings.kafka, [topic], batch_size=1_000)
    count = 0
    async with consumer:
        idle_since = time.monotonic()
        while time.monotonic() - idle_since < 1.0:
            batch = await consumer.getmany(timeout_ms=100)
            if batch:
                count += sum(len(records) for records in batch.values())
                idle_since = time.monotonic()
    return count


def percentiles(values: Sequence[float]) -> dict[str, float | None]:
    """p50, p95, p99; None where nothing was measured."""
    if not values:
        return dict.fromkeys(("p50", "p95", "p99"))
    return {f"p{p}": round(float(np.percentile(values, p)), 2) for p in (50, 95, 99)}
