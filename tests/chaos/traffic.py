"""A seeded, bounded stream of events and requests: duplicates, late events, jumps of time and poison among them."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta

import msgspec
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.partitioner import murmur2

from infra.kafka_security import client_arguments
from infra.settings import KafkaSettings
from serving.messages import STRATEGIES, RecommendationRequest
from streams.events import EVENT_TYPES, Event, encode_event
from streams.topics import REQUESTS, TRANSACTIONS
from tests.support.tiny import KINDS, article_number

DUPLICATES = 0.05
POISON = 0.01
JUMPS = 0.02
REORDERED_WITHIN = timedelta(minutes=5)
JUMP_HOURS = 12.0
# What a state still tells from a new event, less a margin; see streams.state.
MOST_EVENTS_OF_ONE = 3_000
QUIET = [f"quiet-{n}" for n in range(8)]
_ARTICLES = [article_number(kind, n) for kind in ("top", "shoe") for n in range(KINDS)] + ["unknown-1", "unknown-2"]
_SENDS_AGAIN_S = 40.0

Send = tuple[str, bytes | None, bytes]


@dataclass(frozen=True)
class Load:
    """Events and requests a second, and about how many events there will be in all."""

    events_s: float
    requests_s: float
    events: int


class Traffic:
    """Produces until `stop`. `acknowledged`: what the broker has confirmed, by place; `sent`: counts by kind."""

    def __init__(self, kafka: KafkaSettings, load: Load, seed: int, origin: datetime) -> None:
        self._kafka = kafka
        self._load = load
        self._dice = random.Random(f"{seed}-events")
        self._request_dice = random.Random(f"{seed}-requests")
        self._origin = origin
        self._began = time.monotonic()
        self._producer: AIOKafkaProducer | None = None
        self._stopping = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._numbers = Counter[str]()
        self._recent: list[Send] = []
        # Half of the events are of a few customers with many, the others of many with few.
        self._hot = [f"hot-{n}" for n in range(max(4, load.events // 2 // MOST_EVENTS_OF_ONE + 1))]
        self._cold = [f"cold-{n}" for n in range(400)]
        self.acknowledged: dict[tuple[str, int, int], bytes] = {}
        self.sent = Counter[str]()

    async def start(self) -> None:
        self._producer = AIOKafkaProducer(
            acks="all", linger_ms=2, request_timeout_ms=15_000, **client_arguments(self._kafka)
        )
        await self._producer.start()

    def run(self) -> None:
        """Begin to produce in the background."""
        self._tasks = [asyncio.create_task(self._events()), asyncio.create_task(self._requests())]

    async def stop(self) -> None:
        """Produce no more; returns when all that was sent is acknowledged, or raises what kept it from being."""
        self._stopping.set()
        tasks, self._tasks = self._tasks, []
        try:
            await asyncio.gather(*tasks)
        finally:
            producer, self._producer = self._producer, None
            if producer is not None:
                with contextlib.suppress(KafkaError):
                    await producer.stop()

    async def send(self, messages: list[Send]) -> None:
        """Until the broker has confirmed each one; what it did not confirm is sent again and may stand there twice."""
        end = time.monotonic() + _SENDS_AGAIN_S
        while messages:
            if self._producer is None:
                raise RuntimeError("the traffic is not started")
            waiting = [await self._producer.send(topic, value, key=key) for topic, key, value in messages]
            results = await asyncio.gather(*waiting, return_exceptions=True)
            again: list[Send] = []
            for message, result in zip(messages, results, strict=True):
                if isinstance(result, KafkaError) and time.monotonic() < end:
                    again.append(message)
                elif isinstance(result, BaseException):
                    raise result
                else:
                    self.acknowledged[result.topic, result.partition, result.offset] = message[2]
            if again:
                self.sent["sent again"] += len(again)
                await asyncio.sleep(0.5)
            messages = again

    async def burst(self, count: int) -> None:
        """Many events at once."""
        await self.send([self._next() for _ in range(count)])

    async def quiet_customers(self) -> None:
        """Events of customers who will have no others: what they are recommended does not change any more."""
        await self.send([self._message(self.event(name)) for name in QUIET for _ in range(20)])

    def event(self, customer: str, *, on_time: bool = False) -> Event:
        dice = self._dice
        moment = self._origin + timedelta(seconds=time.monotonic() - self._began)
        if not on_time:
            moment -= dice.random() * REORDERED_WITHIN
            if dice.random() < JUMPS:
                self.sent["jumps"] += 1
                moment += timedelta(hours=dice.uniform(-JUMP_HOURS, JUMP_HOURS))
        return Event(
            event_id=self._id("e"),
            type=dice.choice(EVENT_TYPES),
            occurred_at=moment,
            customer_id=customer,
            article_id=dice.choice(_ARTICLES),
            price=dice.choice([None, round(dice.uniform(0, 90), 2)]),
            quantity=dice.randint(1, 5),
        )

    def request(self, customer: str) -> RecommendationRequest:
        # Some say when they were made: after an outage those are refused by their deadline instead of ranked.
        made = self._now() if self._request_dice.random() < 0.2 else None
        strategy = self._request_dice.choice(STRATEGIES)
        return RecommendationRequest(
            request_id=self._id("r"), customer_id=customer, k=5, strategy=strategy, requested_at=made
        )

    def _now(self) -> datetime:
        return datetime.now(self._origin.tzinfo)

    def _id(self, kind: str) -> str:
        self._numbers[kind] += 1
        return f"{kind}{self._numbers[kind]}"

    def _message(self, event: Event) -> Send:
        return TRANSACTIONS, event.customer_id.encode(), encode_event(event)

    def _next(self) -> Send:
        """A new event, one that was sent before, or poison."""
        dice = self._dice
        if self._recent and dice.random() < DUPLICATES:
            self.sent["duplicates"] += 1
            return dice.choice(self._recent)
        self.sent["events"] += 1
        customer = dice.choice(self._hot) if dice.random() < 0.5 else dice.choice(self._cold)
        message = self._message(self.event(customer))
        if dice.random() < POISON:
            self.sent["poison"] += 1
            return message[0], dice.choice([message[1], None]), self._poisoned(message[2])
        self._recent.append(message)
        if len(self._recent) > 2_000:
            del self._recent[:1_000]
        return message

    def _poisoned(self, value: bytes) -> bytes:
        fields = msgspec.json.decode(value)
        far = (self._origin + timedelta(days=40)).isoformat()
        return self._dice.choice(
            [
                b"",
                b"\xff\x00" + value,
                value[: len(value) // 2],
                value.replace(b'"type":"', b'"type":"un'),
                msgspec.json.encode({**fields, "schema_version": 2}),
                msgspec.json.encode({**fields, "occurred_at": far}),
                msgspec.json.encode({**fields, "occurred_at": "2020-07-27T00:00:00"}),
                msgspec.json.encode({**fields, "price": -1}),
                msgspec.json.encode({**fields, "note": "x" * 20_000}),
                msgspec.json.encode({name: given for name, given in fields.items() if name != "customer_id"}),
            ]
        )

    async def _events(self) -> None:
        while not self._stopping.is_set():
            pause = self._dice.uniform(0.05, 0.6)
            await self.burst(max(1, int(self._load.events_s * pause)))
            await self._rest(pause)

    async def _requests(self) -> None:
        dice = self._request_dice
        customers = [*self._hot, *self._cold, *QUIET * 40, "nobody-1", "nobody-2"]
        while not self._stopping.is_set():
            pause = dice.uniform(0.05, 0.4)
            messages: list[Send] = []
            for _ in range(max(1, int(self._load.requests_s * pause))):
                customer = dice.choice(customers)
                value = msgspec.json.encode(self.request(customer))
                if dice.random() < POISON:
                    self.sent["poison requests"] += 1
                    value = dice.choice([b"{", value.replace(b'"k":5', b'"k":0'), b'{"request_id":7}'])
                messages.append((REQUESTS, customer.encode(), value))
            self.sent["requests"] += len(messages)
            await self.send(messages)
            await self._rest(pause)

    async def _rest(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)


def customer_of_each_partition(name: str, partitions: int) -> list[str]:
    """One customer id a partition, by the partitioner that all Kafka clients share."""
    found: dict[int, str] = {}
    for number in range(10_000):
        customer = f"{name}-{number}"
        found.setdefault((murmur2(customer.encode()) & 0x7FFFFFFF) % partitions, customer)
        if len(found) == partitions:
            return [found[partition] for partition in sorted(found)]
    raise AssertionError("the partitioner leaves partitions out")
