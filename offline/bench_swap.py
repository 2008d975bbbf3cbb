"""Swaps under load: two bundles take turns on the channel of running responders while requests come through Kafka.

Quiet and swapping stretches take turns too, a few seconds each, so that neither has the machine at a better hour: one
that is shared changes its pace within less than a minute. `offline.swap_judge` says what is counted; time stands still
for the processes, so that every answer can be computed again.
"""

from __future__ import annotations

import asyncio
import shutil
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from infra.announce import announcement
from infra.bundle import MANIFEST, open_bundle, write_manifest
from infra.clock import ManualClock
from infra.errors import Unavailable
from infra.kafka import Producer
from infra.kafka_consumer import BatchConsumer
from infra.registry import Registry
from infra.settings import ClockSettings, RegistrySettings, Settings
from offline.bench_shop import BenchSize, bench_shop, write_bench_bundle
from offline.held_out import fill_store
from offline.swap_judge import K, Log, Turn, judge
from serving.golden import make_golden, open_runtime
from serving.messages import RecommendationRequest, Recommendations
from serving.pipeline import Pipeline
from serving.runtime import Runtime, load_runtime
from serving.up import start_stack
from streams.events import to_micros
from streams.histories import Histories
from streams.redis_store import open_store
from streams.store import StoredCustomer
from streams.topics import RECOMMENDATIONS, REQUESTS

# No time passes for the processes, so that features do not depend on when a request came.
STANDSTILL = 1e-12
ANSWER_TIMEOUT_S = 5.0
START_TIMEOUT_S = 60.0
BATCH = 50
# Between the last swap of a turn and the next quiet stretch: every process has the bundle by then, the sweep is over.
SETTLE_S = 1.0
# At full rate before anything is timed: a broker of Java is ten times as slow in its first half minute, and in the next
# half it still holds everything up for 80 ms now and then.
WARM_UP_S = 60.0


@dataclass(frozen=True)
class SwapPlan:
    """rounds: of as many swaps and turns each · turns: each a quiet stretch, then its share of the swaps, which take as
    long · rate: requests a second · gap_s: between swaps, enough for all that one sets off · alone: no worker loads and
    sweeps beside the responders, so that the difference is its cost · responders: that share the topic."""

    rounds: int = 3
    swaps: int = 20
    turns: int = 20
    rate: float = 100.0
    gap_s: float = 4.0
    articles: int = 2_000
    customers: int = 500
    seed: int = 1
    alone: bool = False
    responders: int = 2


@dataclass(frozen=True, eq=False)
class Made:
    registry: Registry
    runtimes: dict[str, Runtime]
    histories: Histories
    now: datetime


def make_bundles(directory: Path, plan: SwapPlan) -> Made:
    """Two bundles of one random shop whose networks differ, published below `directory`."""
    size = BenchSize(articles=plan.articles, customers=plan.customers)
    shop = bench_shop(size, plan.seed)
    registry = Registry(f"file://{directory / 'registry'}")
    runtimes = {}
    for seed in (plan.seed, plan.seed + 1):
        made = write_bench_bundle(directory / f"bundle-{seed}", shop, size, seed)
        held = made.manifest
        states = [shop.histories.state(customer, shop.cut) for customer in shop.histories.customers[:4]]
        (made.path / "golden.jsonl").write_bytes(make_golden(load_runtime(made), states, held.trained_through))
        (made.path / MANIFEST).unlink()
        write_manifest(
            made.path,
            created_at=held.created_at,
            trained_through=held.trained_through,
            config=held.config,
            contracts=held.contracts,
            counts=held.counts,
            metrics=held.metrics,
        )
        bundle_id = registry.publish(made.path)
        runtimes[bundle_id] = open_runtime(registry.open(bundle_id))
    registry.activate("production", next(iter(runtimes)))
    return Made(registry, runtimes, shop.histories, open_bundle(made.path).manifest.trained_through)


def bench_swap(directory: Path, plan: SwapPlan, kafka: str = "tansu") -> dict[str, Any]:
    """Run it in an empty directory and count: failed, mixed, p99_ratio, and how they came about.

    Raises:
        Unavailable: no answer at all within START_TIMEOUT_S.
    """
    made = make_bundles(directory, plan)
    settings = Settings(
        data_dir=directory / "data",
        registry=RegistrySettings(url=f"file://{directory / 'registry'}"),
        clock=ClockSettings(origin=made.now, started_at=time.time(), speed=STANDSTILL),
    )
    processes = [*([] if plan.alone else ["worker"]), *["responder"] * plan.responders]
    with (
        (directory / "processes.log").open("w") as out,
        start_stack(settings, kafka=kafka, processes=processes, out=out) as stack,
    ):
        log = asyncio.run(_drive(stack.settings, made, plan))
    shutil.rmtree(directory / "data", ignore_errors=True)
    expected = {bundle_id: _answers(runtime, made) for bundle_id, runtime in made.runtimes.items()}
    return judge(log, expected, plan.rounds) | {"broker": kafka, "processes": processes}


async def _drive(settings: Settings, made: Made, plan: SwapPlan) -> Log:
    store = await open_store(settings.redis)
    try:
        await fill_store(store, made.histories, made.now, next(iter(made.runtimes.values())).encoder)
    finally:
        await store.close()
    log = Log()
    consumer = BatchConsumer(settings.kafka, [RECOMMENDATIONS], batch_size=1_000, from_beginning=False)
    async with Producer(settings.kafka) as producer, consumer:
        while not consumer.assignment:
            await consumer.getmany(50)
        hearing = asyncio.create_task(_hear(consumer, log))
        try:
            await _first_answer(producer, made, log)
            asking = asyncio.create_task(_ask(producer, made, plan, log))
            await asyncio.sleep(WARM_UP_S)
            for first in [*range(plan.turns)] * plan.rounds:
                await _turn(producer, settings, made, plan, log, range(first, plan.swaps, plan.turns))
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            await asyncio.sleep(ANSWER_TIMEOUT_S)  # for answers that are late
        finally:
            hearing.cancel()
            await asyncio.gather(hearing, return_exceptions=True)
    return log


async def _turn(
    producer: Producer, settings: Settings, made: Made, plan: SwapPlan, log: Log, swaps: Sequence[int]
) -> None:
    """Quiet for as long as the swaps take that come after it."""
    ids = list(made.runtimes)
    began = time.perf_counter()
    await asyncio.sleep(len(swaps) * plan.gap_s)
    middle = time.perf_counter()
    for _ in swaps:
        target = ids[(len(log.moved) + 1) % 2]
        log.moved.append((time.perf_counter(), target))
        pointer = await asyncio.to_thread(made.registry.activate, "production", target)
        await producer.send(*announcement(settings, pointer))
        await asyncio.sleep(plan.gap_s)
    log.turns.append(Turn(began, middle, time.perf_counter()))
    await asyncio.sleep(SETTLE_S)


async def _hear(consumer: BatchConsumer, log: Log) -> None:
    while True:
        for records in (await consumer.getmany(100)).values():
            heard = time.perf_counter()
            log.heard += [(record.value or b"", heard) for record in records]


async def _send(producer: Producer, customer_id: str, log: Log) -> None:
    request = RecommendationRequest(request_id=uuid.uuid4().hex, customer_id=customer_id, k=K)
    log.sent[request.request_id] = (customer_id, time.perf_counter())
    await producer.send(REQUESTS, customer_id.encode(), msgspec.json.encode(request))


async def _first_answer(producer: Producer, made: Made, log: Log) -> None:
    until = time.perf_counter() + START_TIMEOUT_S
    while not any(answer.error is None for answer, _ in log.answers().values()):
        if time.perf_counter() > until:
            raise Unavailable(f"the responder gave no answer within {START_TIMEOUT_S:.0f} s")
        await _send(producer, made.histories.customers[0], log)
        await asyncio.sleep(0.5)
    for customer in made.histories.customers[:50]:
        await _send(producer, customer, log)
    await asyncio.sleep(1.0)
    log.sent.clear()
    log.heard.clear()


async def _ask(producer: Producer, made: Made, plan: SwapPlan, log: Log) -> None:
    """Open loop: a request is due at its time, however long the others take."""
    customers, began, number = made.histories.customers, time.perf_counter(), 0
    sending: set[asyncio.Task[None]] = set()
    while True:
        due = began + number / plan.rate
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        log.late.append((due, time.perf_counter() - due))
        task = asyncio.create_task(_send(producer, customers[number % len(customers)], log))
        sending.add(task)
        task.add_done_callback(sending.discard)
        number += 1


def _answers(runtime: Runtime, made: Made) -> dict[str, Recommendations]:
    """What the bundle answers each customer, computed here from the states alone."""
    pipeline, customers = Pipeline(runtime, ManualClock(made.now)), made.histories.customers
    found: dict[str, Recommendations] = {}
    for first in range(0, len(customers), BATCH):
        part = customers[first : first + BATCH]
        states = [made.histories.state(customer, to_micros(made.now)) for customer in part]
        answers = pipeline.recommend(
            [RecommendationRequest(request_id=customer, customer_id=customer, k=K) for customer in part],
            [None if state is None else StoredCustomer(state) for state in states],
        )
        found |= zip(part, answers, strict=True)
    return found
