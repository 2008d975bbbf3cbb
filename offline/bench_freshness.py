"""`modiste bench freshness`: from producing a purchase to the first answer that includes it, while events stream in.

One worker and one responder as processes, everything on this machine, the client too. First the throughput of the
worker is measured on events that lie ready; then, at shares of it, events are produced steadily beside single
purchases whose customers ask until an answer knows them. Times are taken at the client.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from infra.errors import Unavailable
from infra.kafka import Producer
from infra.settings import Settings
from offline.bench_shop import BenchSize
from offline.bench_stack import COMMAND, Watch, bench_stack, fill, process, purchases
from offline.progress import step
from offline.smoke import FRESH_TIMEOUT_S, Client, Tally, client, percentiles, warm_up
from streams.events import Event

SHARES = (10, 50, 80)
THROUGHPUT_S = 180.0
TICK_S = 0.02
PROBE_CUSTOMERS = 100
# Between two probes, at most and by the die, so that they do not march in step with batches.
PAUSE_S = 0.05


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
) -> dict[str, Any]:
    """Percentiles in ms for each share of the throughput, with the rate that was really produced.

    Raises:
        Unavailable: a process ended, or did not answer in time.
    """
    size = BenchSize(articles=articles, customers=2_000, examples=100)
    with bench_stack(directory, kafka=kafka, size=size, seed=seed, batch_size=batch_size) as stack:
        settings = stack.named("bench-freshness")
        load = asyncio.run(fill(stack, events, customers, name="load", seed=seed))
        with (
            process(stack, settings, [*COMMAND, "serving", "responder"]) as responder,
            process(stack, settings, [*COMMAND, "streams", "worker"]) as worker,
        ):
            throughput = load.events / asyncio.run(
                Watch(settings, worker.poll, stack.log).seconds(load, timeout_s=THROUGHPUT_S)
            )
            found = asyncio.run(at_shares(settings, throughput, customers, articles, seconds, seed))
            if responder.poll() is not None or worker.poll() is not None:
                raise Unavailable("worker or responder ended on the way")
    return {
        "load": {str(share): row["freshness_ms"] for share, row in found.items()},
        "throughput": round(throughput),
        "detail": {str(share): row for share, row in found.items()},
        "setup": {"kafka": kafka, "customers": customers, "articles": articles, "seconds": seconds},
    }


async def at_shares(
    settings: Settings, throughput: float, customers: int, articles: int, seconds: float, seed: int
) -> dict[int, dict[str, Any]]:
    """Each share in turn, against processes that run."""
    rng = random.Random(seed)
    found: dict[int, dict[str, Any]] = {}
    async with client(settings) as one, Producer(settings.kafka, linger_ms=5) as producer:
        await warm_up(one, "probe-0")
        with step("shares of the throughput", len(SHARES)) as progress:
            for share in SHARES:
                rate = throughput * share / 100
                count = int(rate * seconds)
                who = [f"load-c{rng.randrange(customers)}" for _ in range(count)]
                messages = list(purchases(who, [rng.randrange(articles) for _ in range(count)], f"share-{share}"))
                found[share] = await under_load(one, producer, messages, rate, rng)
                progress.advance()
    return found


async def under_load(
    one: Client,
    producer: Producer,
    messages: Sequence[tuple[str, bytes | None, bytes]],
    rate: float,
    rng: random.Random,
) -> dict[str, Any]:
    """Probe for as long as the messages last; a purchase that no answer knew counts with the whole time-out."""
    one.tally = Tally()
    producing = asyncio.create_task(produce(producer, messages, rate))
    unseen = probes = 0
    while not producing.done():
        customer = f"probe-{probes % PROBE_CUSTOMERS}"
        probes += 1
        if not await one.buy_and_see(_probe(customer, rng)):
            unseen += 1
            one.tally.freshness_ms.append(FRESH_TIMEOUT_S * 1e3)
        await asyncio.sleep(rng.random() * PAUSE_S)
    produced_s = await producing
    # What is still on its way belongs to this share, not to the next one.
    await one.buy_and_see(_probe("probe-last", rng))
    return {
        "freshness_ms": percentiles(one.tally.freshness_ms[:probes]),
        "answer_ms": percentiles(one.tally.latency_ms),
        "probes": probes,
        "unseen": unseen,
        "asked_rate": round(rate),
        "rate": round(len(messages) / produced_s),
    }


async def produce(producer: Producer, messages: Sequence[tuple[str, bytes | None, bytes]], rate: float) -> float:
    """Send the messages at `rate` a second, a tick's worth at a time; returns the seconds it took."""
    started = time.perf_counter()
    sent = 0
    while sent < len(messages):
        due = min(len(messages), int((time.perf_counter() - started + TICK_S) * rate) + 1)
        await producer.send_many(messages[sent:due])
        sent = due
        await asyncio.sleep(max(0.0, started + sent / rate - time.perf_counter()))
    return time.perf_counter() - started


def _probe(customer: str, rng: random.Random) -> Event:
    return Event(
        event_id=f"{customer}-{rng.getrandbits(64):016x}",
        type="purchase",
        occurred_at=datetime.now(UTC),
        customer_id=customer,
        article_id=f"{rng.randrange(100):010d}",
        price=9.5,
    )
