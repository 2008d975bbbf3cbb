"""`modiste bench memory`: what a customer costs in Redis, and whether a worker that runs for long stays as it is.

Customers are random and go through the real processor, encoder and store; a worker of the soak is a real one behind a
real broker. Sizes are of a supermarket or a fashion shop: baskets of about BASKET articles, seconds as the finest time,
prices in cents, articles numbered as H&M's are.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from infra.clock import SystemClock
from infra.errors import ConfigurationError, Unavailable
from infra.kafka import Producer, ensure_topics
from infra.redis_client import connect_sync
from infra.registry import Registry
from infra.settings import RedisSettings
from offline.bench_shop import BASKET, BenchSize
from offline.bench_stack import COMMAND, Load, Stack, Watch, bench_stack, markers, process, purchases
from offline.progress import step
from streams.encoder import load_query_encoder
from streams.events import Event, encode_event
from streams.processor import Processor, RawMessage
from streams.redis_store import open_store
from streams.topics import TRANSACTIONS, topic_specs

START = datetime(2024, 3, 1, tzinfo=UTC)
# Redis holds all customers of the soak at a few events each.
REDIS_MEMORY = "4gb"
# Of the second half of the soak, in percent; noise of the allocator is below it, a leak of bytes an event is not.
FLAT_BELOW = 3.0
TICK_S = 0.1
START_TIMEOUT_S = 180.0  # a worker takes some seconds; on a machine that does much else, many
SAMPLES = 240


@dataclass(frozen=True)
class Soak:
    """`rate`: events a second, each of one of `customers` at random."""

    minutes: float
    customers: int
    rate: int


def measure(
    directory: Path, *, kafka: str, events: tuple[int, ...], customers: int, soak: Soak | None, articles: int, seed: int
) -> dict[str, Any]:
    """Bytes a customer with each number of `events`, and what the soak saw (None without one)."""
    size = BenchSize(articles=articles, customers=2_000, examples=100)
    with bench_stack(
        directory, kafka=kafka, size=size, seed=seed, batch_size=2_000, redis_memory=REDIS_MEMORY
    ) as stack:
        rows = {str(n): asyncio.run(stored_bytes(stack, n, customers, seed)) for n in events}
        return {"redis_bytes": rows, "soak": None if soak is None else run_soak(stack, soak, kafka, seed)}


async def stored_bytes(stack: Stack, events: int, customers: int, seed: int) -> dict[str, Any]:
    """MEMORY USAGE (key, value and what the server adds) of customers with that many events and an embedding."""
    settings = stack.settings.redis
    bundle = Registry(stack.settings.registry.url).resolve(stack.settings.registry.channel)
    encoder = load_query_encoder(bundle)
    store = await open_store(settings)
    try:
        ids = [str(n) for n in range(100_000, 100_000 + customers)]
        for customer in ids:
            await Processor(store, SystemClock(), encoder).process(
                list(history(customer, events, stack.articles, seed))
            )
        found = await store.load(ids)
    finally:
        await store.close()
    if any(f is None or len(f.state) != events or f.embedding is None for f in found):
        raise Unavailable(f"a customer of {events} events was not stored whole with an embedding")
    return {**_usage(settings), "customers": customers, "embedding_dim": encoder.dim}


def history(customer: str, events: int, articles: int, seed: int) -> Iterator[RawMessage]:
    """Purchases in baskets, a few days apart."""
    rng = np.random.default_rng([seed, int(customer)])
    moment = START
    for n in range(events):
        if n == 0 or rng.random() < 1 / BASKET:
            moment += timedelta(seconds=int(rng.integers(3_600, 20 * 86_400)))
        event = Event(
            event_id=f"{customer}-{n}",
            type="purchase",
            occurred_at=min(moment, START + timedelta(days=365 * 2)),
            customer_id=customer,
            article_id=f"{int(rng.integers(articles)):010d}",
            price=round(float(rng.lognormal(3.0, 0.6)), 2),
        )
        yield RawMessage(TRANSACTIONS, 0, n, customer.encode(), encode_event(event))


def _usage(settings: RedisSettings) -> dict[str, Any]:
    """Of everything under the prefix, which is gone afterwards."""
    redis: Any = connect_sync(settings)
    try:
        keys = list(redis.scan_iter(match=f"{settings.prefix}:*", count=10_000))
        used = [redis.memory_usage(key) for key in keys]
        values = [redis.strlen(key) for key in keys]
        redis.unlink(*keys)
    finally:
        redis.close()
    return {"mean": round(float(np.mean(used)), 1), "max": max(used), "value": round(float(np.mean(values)), 1)}


def run_soak(stack: Stack, soak: Soak, kafka: str, seed: int) -> dict[str, Any]:
    """One worker under a steady stream of new events, its resident memory looked at all the time.

    Raises:
        ConfigurationError: this system does not tell a process's memory.
        Unavailable: the worker ended, or did not come to the end of the stream in time.
    """
    if not Path("/proc/self/statm").exists():
        raise ConfigurationError("the soak reads /proc, which this system does not have: give --soak 0")
    settings = stack.named("soak")
    with process(stack, settings, [*COMMAND, "streams", "worker"]) as child:
        sent, seen, samples = asyncio.run(_stream(stack, soak, child.pid, seed))
        watch = Watch(settings, child.poll, stack.log)
        asyncio.run(watch.seconds(sent, timeout_s=START_TIMEOUT_S + 30 * soak.minutes))
    return {
        **growth(samples),
        "minutes": soak.minutes,
        "events": sent.events,
        "events_per_second": soak.rate,
        "customers": soak.customers,
        "customers_seen": seen,
        "kafka": kafka,
    }


async def _stream(stack: Stack, soak: Soak, pid: int, seed: int) -> tuple[Load, int, list[tuple[float, float]]]:
    """Send at the rate until time is up, sampling (seconds, MiB); never more than a tick is in flight here."""
    rng = np.random.default_rng(seed)
    seen = np.zeros(soak.customers, np.bool_)
    partitions = stack.settings.kafka.partitions
    first, last = markers("soak-first", partitions), markers("soak-last", partitions)
    await ensure_topics(stack.settings.kafka, topic_specs(stack.settings.kafka))
    samples: list[tuple[float, float]] = []
    seconds, sent = soak.minutes * 60, 0
    async with Producer(stack.settings.kafka, linger_ms=5) as producer:
        await producer.send_many(purchases(first, [0] * len(first), "soak-first"))
        started = time.monotonic()
        with step("soak", SAMPLES) as progress:
            while (now := time.monotonic() - started) < seconds:
                due = min(int(now * soak.rate) - sent, soak.rate)
                who = rng.integers(0, soak.customers, due)
                seen[who] = True
                articles = rng.integers(0, stack.articles, due).tolist()
                await producer.send_many(purchases([f"s{n}" for n in who.tolist()], articles, "soak", first=sent))
                sent += due
                if now >= seconds * len(samples) / SAMPLES:
                    samples.append((now, resident_mib(pid)))
                    progress.advance()
                await asyncio.sleep(TICK_S)
        await producer.send_many(purchases(last, [0] * len(last), "soak-last"))
    return Load(sent + len(first) + len(last), first, last), int(np.count_nonzero(seen)), samples


def resident_mib(pid: int) -> float:
    """Resident memory of a process.

    Raises:
        Unavailable: it has ended.
    """
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError) as error:
        raise Unavailable(f"process {pid} has ended") from error
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def growth(samples: list[tuple[float, float]]) -> dict[str, Any]:
    """How (seconds, MiB) grew over the second half of the time: the line through it, in percent of its start."""
    seconds, mib = np.array(samples).T
    later = seconds >= (seconds[0] + seconds[-1]) / 2
    slope, start = np.polyfit(seconds[later] - seconds[later][0], mib[later], 1)
    percent = 100.0 * slope * (seconds[-1] - seconds[later][0]) / start
    first, last, greatest = (round(float(size), 1) for size in (mib[0], mib[-1], mib.max()))
    return {
        "rss_mib": {"first": first, "last": last, "max": greatest},
        "growth_percent": round(float(percent), 2),
        "mib_per_hour": round(float(slope) * 3_600, 2),
        "flat": bool(percent < FLAT_BELOW),
    }
