"""`modiste bench freshness`: from producing a purchase to the first answer that includes it, while events stream in.

One worker and one responder as processes, everything on this machine, the client too. First two throughputs: `ready`,
what the worker folds of events that lie ready, as `bench events` has it; and `throughput`, what it folds while events
are produced without end, BACKLOG of them always waiting, and probes ask as they do later, which is less. Then, at
shares of one of them, events are produced steadily beside single purchases, PROBES_PER_S of them whatever the load,
whose customers ask until an answer knows them. Times are taken at the client.

An event costs more the longer its customer's history is. So customers are replaced by new ones after as many events as
`ready` was measured on, and histories are as long in all phases.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aiokafka.partitioner import DefaultPartitioner

from infra.errors import Unavailable
from infra.kafka import Producer
from infra.settings import Settings
from offline.bench_shop import BenchSize
from offline.bench_stack import COMMAND, Watch, bench_stack, fill, markers, process, purchases
from offline.progress import step
from offline.smoke import FRESH_TIMEOUT_S, Client, Tally, client, percentiles, warm_up
from streams.events import Event
from streams.redis_store import open_store
from streams.store import StateStore
from streams.topics import TRANSACTIONS

SHARES = (10, 50, 80)
THROUGHPUT_S = 180.0
TICK_S = 0.02
# So few that their requests, each a whole ranking and several a probe, are a tenth of a core and not half of one.
PROBES_PER_S = 5.0
PROBE_CUSTOMERS = 100
# Events produced at a time, and how many wait for the worker while its throughput is measured: enough that it never
# has to wait for the client, few enough that probes come through.
CHUNK = 500
BACKLOG = 4_000


def measure(
    directory: Path,
    *,
    kafka: str,
    events: int,
    customers: int,
    articles: int,
    seconds: float,
    batch_size: int,
    seed: int,
    of: str = "ready",
) -> dict[str, Any]:
    """Percentiles in ms for each share of `ready` (of: or of `throughput`), with the rate that was really produced.

    Raises:
        Unavailable: a process ended, or did not answer in time.
    """
    size = BenchSize(articles=articles, customers=2_000, examples=100)
    with bench_stack(directory, kafka=kafka, size=size, seed=seed, batch_size=batch_size) as stack:
        settings = stack.named("bench-freshness")
        load = asyncio.run(fill(stack, events, customers, name="load", seed=seed))
        with contextlib.ExitStack() as running:
            worker = running.enter_context(process(stack, settings, [*COMMAND, "streams", "worker"]))
            ready = load.events / asyncio.run(
                Watch(settings, worker.poll, stack.log).seconds(load, timeout_s=THROUGHPUT_S)
            )
            responder = running.enter_context(process(stack, settings, [*COMMAND, "serving", "responder"]))
            throughput, found = asyncio.run(
                at_shares(settings, Crowd(customers, events), articles, seconds, seed, ready if of == "ready" else None)
            )
            if responder.poll() is not None or worker.poll() is not None:
                raise Unavailable("worker or responder ended on the way")
    return {
        "load": {str(share): row["freshness_ms"] for share, row in found.items()},
        "throughput": round(throughput),
        "ready": round(ready),
        "detail": {str(share): row for share, row in found.items()},
        "setup": {
            "kafka": kafka,
            "shares_of": of,
            "customers": customers,
            "articles": articles,
            "seconds": seconds,
            "batch_size": batch_size,
            "probes_per_s": PROBES_PER_S,
        },
    }


@dataclass(frozen=True)
class Crowd:
    """So many customers, replaced by new ones after so many events."""

    customers: int
    events: int

    def someone(self, rng: random.Random, event: int) -> str:
        """The customer of the event with this number."""
        return f"load-{event // self.events}-c{rng.randrange(self.customers)}"


async def at_shares(
    settings: Settings, crowd: Crowd, articles: int, seconds: float, seed: int, of: float | None
) -> tuple[float, dict[int, dict[str, Any]]]:
    """The throughput, then each share of it (of: of this rate instead) in turn, against processes that run."""
    rng = random.Random(seed)
    found: dict[int, dict[str, Any]] = {}
    store = await open_store(settings.redis)
    try:
        async with client(settings) as one, Producer(settings.kafka, linger_ms=5) as producer:
            await warm_up(one, "probe-0")
            load = Load(crowd, articles, rng, settings.kafka.partitions)
            with step("throughput and shares of it", len(SHARES) + 1) as progress:
                asking = asyncio.create_task(asyncio.sleep(seconds))
                probing = asyncio.create_task(probe(one, rng, asking))
                throughput = await sustained(store, producer, load, seconds)
                await probing
                progress.advance()
                for share in SHARES:
                    rate = (of or throughput) * share / 100
                    found[share] = await under_load(one, producer, load.placed(int(rate * seconds)), rate, rng)
                    progress.advance()
    finally:
        await store.close()
    return throughput, found


Placed = tuple[int, bytes | None, bytes]
"""Partition, key and value."""


class Load:
    """Purchases of customers at random, each event once; `chunk` ends in one of a marker customer a partition."""

    def __init__(self, crowd: Crowd, articles: int, rng: random.Random, partitions: int) -> None:
        self._crowd, self._articles, self._rng = crowd, articles, rng
        self._made = 0
        self._partition, self._places = DefaultPartitioner(), list(range(partitions))
        self.markers = markers("paced", partitions)

    def messages(self, count: int, last: Sequence[str] = ()) -> list[tuple[str, bytes | None, bytes]]:
        first, self._made = self._made, self._made + count + len(last)
        who = [self._crowd.someone(self._rng, n) for n in range(first, first + count)] + [*last]
        what = [self._rng.randrange(self._articles) for _ in who]
        return list(purchases(who, what, "paced", first=first))

    def placed(self, count: int) -> list[Placed]:
        """So many, with their partitions."""
        return [
            (self._partition(key, self._places, self._places), key, value) for _, key, value in self.messages(count)
        ]

    def chunk(self) -> list[tuple[str, bytes | None, bytes]]:
        return self.messages(CHUNK - len(self.markers), self.markers)


async def sustained(store: StateStore, producer: Producer, load: Load, seconds: float) -> float:
    """Events a second that a worker applies to `store` while BACKLOG of them wait for it.

    Raises:
        Unavailable: it applied no two chunks within THROUGHPUT_S.
    """
    sent = seen = 0
    began = first_at = time.perf_counter()
    first = 0
    while True:
        states = await store.load(load.markers)
        applied = min(0 if stored is None else len(stored.state.totals) for stored in states)
        now = time.perf_counter()
        if applied > seen:
            if not seen:
                first, first_at = applied, now
            seen = applied
            if now - first_at >= seconds and seen > first:
                return (seen - first) * CHUNK / (now - first_at)
        if now - began > seconds + THROUGHPUT_S:
            raise Unavailable(f"{seen} of {sent} chunks of {CHUNK} events were applied in {now - began:.0f} s")
        missing = BACKLOG // CHUNK - (sent - seen)
        if missing:
            await producer.send_many([message for _ in range(missing) for message in load.chunk()])
            sent += missing
        else:
            await asyncio.sleep(0.005)


async def under_load(
    one: Client,
    producer: Producer,
    messages: Sequence[Placed],
    rate: float,
    rng: random.Random,
) -> dict[str, Any]:
    """Probe for as long as the messages last."""
    one.tally = Tally()
    producing = asyncio.create_task(produce(producer, messages, rate))
    waits, unseen = await probe(one, rng, producing)
    produced_s = await producing
    return {
        "freshness_ms": percentiles(waits),
        "answer_ms": percentiles(one.tally.latency_ms),
        "probes": len(waits),
        "unseen": unseen,
        "asked_rate": round(rate),
        "rate": round(len(messages) / produced_s),
    }


async def probe(one: Client, rng: random.Random, until: asyncio.Task[Any]) -> tuple[list[float], int]:
    """Single purchases at PROBES_PER_S until the task is done, none waiting for another.

    Returns (milliseconds until an answer knew each, how many none knew); those count with all they waited.
    """
    began = time.perf_counter()
    waits: list[float] = []
    probes: list[asyncio.Task[bool]] = []

    async def one_probe(number: int) -> bool:
        started = time.perf_counter()
        seen = await one.buy_and_see(_purchase(f"probe-{number % PROBE_CUSTOMERS}", rng))
        waits.append((time.perf_counter() - started) * 1e3 if seen else FRESH_TIMEOUT_S * 1e3)
        return seen

    while not until.done():
        # By the die within its turn, so that probes do not march in step with batches.
        due = began + (len(probes) + rng.random()) / PROBES_PER_S
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        probes.append(asyncio.create_task(one_probe(len(probes))))
    seen = await asyncio.gather(*probes)
    return waits, seen.count(False)


async def produce(producer: Producer, messages: Sequence[Placed], rate: float) -> float:
    """Send the messages at `rate` a second, a tick's worth at a time; returns the seconds it took.

    A batch a partition: one by one they would cost the client what the worker is to fold them with.
    """
    started = time.perf_counter()
    sent = 0
    while sent < len(messages):
        due = min(len(messages), int((time.perf_counter() - started + TICK_S) * rate) + 1)
        parts: defaultdict[int, list[tuple[bytes | None, bytes, tuple[()]]]] = defaultdict(list)
        for partition, key, value in messages[sent:due]:
            parts[partition].append((key, value, ()))
        await asyncio.gather(*(producer.send_in_order(TRANSACTIONS, place, part) for place, part in parts.items()))
        sent = due
        await asyncio.sleep(max(0.0, started + sent / rate - time.perf_counter()))
    return time.perf_counter() - started


def _purchase(customer: str, rng: random.Random) -> Event:
    return Event(
        event_id=f"{customer}-{rng.getrandbits(64):016x}",
        type="purchase",
        occurred_at=datetime.now(UTC),
        customer_id=customer,
        article_id=f"{rng.randrange(100):010d}",
        price=9.5,
    )
