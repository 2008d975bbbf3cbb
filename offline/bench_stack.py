"""A broker, a Redis server, a registry with a random bundle and processes of ours, for benchmarks that need a stack."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from aiokafka.partitioner import DefaultPartitioner

from infra.apache_kafka import apache_kafka
from infra.bundle import Bundle, write_manifest
from infra.embedded import tansu, valkey
from infra.errors import Unavailable
from infra.kafka import Producer, ensure_topics
from infra.registry import Registry
from infra.settings import KafkaSettings, RedisSettings, RegistrySettings, Settings, WorkerSettings
from infra.supervisor import Supervisor, dying_with_us
from infra.threads import VARIABLES
from offline.bench_shop import BenchSize, bench_shop, write_bench_bundle
from serving.golden import make_golden
from serving.runtime import load_runtime
from serving.up import TANSU_SESSION_TIMEOUT_MS
from streams.events import Event, encode_event
from streams.redis_store import open_store
from streams.topics import TRANSACTIONS, topic_specs

BROKERS = ("tansu", "apache")
START = datetime(2020, 9, 1, tzinfo=UTC)
STOP_S = 15.0
COMMAND = [sys.executable, "-c", "from infra.cli import main; main()"]


@dataclass(frozen=True)
class Stack:
    """Running servers; `log` takes what they and the processes say."""

    settings: Settings
    directory: Path
    articles: int

    @property
    def log(self) -> Path:
        return self.directory / "log.txt"

    def named(self, name: str) -> Settings:
        """The same servers under a consumer group and a key prefix of this name."""
        return self.settings.model_copy(
            update={
                "worker": self.settings.worker.model_copy(update={"group": name}),
                "redis": self.settings.redis.model_copy(update={"prefix": name}),
            }
        )


@contextlib.contextmanager
def bench_stack(
    directory: Path, *, kafka: str, size: BenchSize, seed: int, batch_size: int, redis_memory: str = "512mb"
) -> Iterator[Stack]:
    """Start the servers and publish a random bundle; all is stopped on leaving."""
    shop = bench_shop(size, seed)
    registry_url = f"file://{directory.absolute()}/registry"
    registry = Registry(registry_url)
    vouch(write_bench_bundle(directory / "bundle", shop, size, seed), directory / "bundle")
    registry.activate("production", registry.publish(directory / "bundle"))
    broker = apache_kafka(directory / "kafka") if kafka == "apache" else tansu()
    redis = valkey(maxmemory=redis_memory)
    settings = Settings(
        kafka=KafkaSettings(url=broker.url, session_timeout_ms=TANSU_SESSION_TIMEOUT_MS),
        redis=RedisSettings(url=redis.url),
        registry=RegistrySettings(url=registry_url),
        worker=WorkerSettings(batch_size=batch_size),
        data_dir=directory,
    )
    stack = Stack(settings, directory, size.articles)
    with stack.log.open("a") as out, Supervisor([broker.spec, redis.spec], out=out, max_deaths=1) as servers:
        servers.start()
        yield stack


def vouch(bundle: Bundle, directory: Path) -> None:
    """Give the bundle the golden case without which no process takes it."""
    manifest = bundle.manifest
    golden = make_golden(load_runtime(bundle), [None], manifest.trained_through)
    (directory / "golden.jsonl").write_bytes(golden)
    (directory / "manifest.json").unlink()
    write_manifest(
        directory,
        created_at=manifest.created_at,
        trained_through=manifest.trained_through,
        config=manifest.config,
        contracts=manifest.contracts,
        counts=manifest.counts,
        metrics=manifest.metrics,
    )


@contextlib.contextmanager
def process(stack: Stack, settings: Settings, command: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    """One process under `settings`, stopped on leaving."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MODISTE_")}
    given = {
        "MODISTE_KAFKA__URL": settings.kafka.url,
        "MODISTE_KAFKA__SESSION_TIMEOUT_MS": str(settings.kafka.session_timeout_ms),
        "MODISTE_REDIS__URL": settings.redis.url,
        "MODISTE_REDIS__PREFIX": settings.redis.prefix,
        "MODISTE_REGISTRY__URL": settings.registry.url,
        "MODISTE_WORKER__GROUP": settings.worker.group,
        "MODISTE_WORKER__BATCH_SIZE": str(settings.worker.batch_size),
        "MODISTE_DATA_DIR": str(settings.data_dir),
    }
    one_thread = dict.fromkeys(VARIABLES, "1")  # for the peers; ours holds itself to it
    with stack.log.open("a") as log:
        child = subprocess.Popen(
            dying_with_us(command),
            env={**clean, **one_thread, **given},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield child
    finally:
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(STOP_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


@dataclass(frozen=True)
class Load:
    """Events on the topic, framed in each partition by the event of a marker customer before and after the rest."""

    events: int
    first: tuple[str, ...]
    last: tuple[str, ...]


async def fill(stack: Stack, events: int, customers: int, *, name: str, seed: int) -> Load:
    """Put that many purchases of random articles on the topic, one after another in event time."""
    partitions = stack.settings.kafka.partitions
    rng = np.random.default_rng(seed)
    first, last = markers(f"{name}-first", partitions), markers(f"{name}-last", partitions)
    who = [*first, *(f"{name}-c{n}" for n in rng.integers(0, customers, events)), *last]
    await ensure_topics(stack.settings.kafka, topic_specs(stack.settings.kafka))
    async with Producer(stack.settings.kafka, linger_ms=5) as producer:
        await producer.send_many(purchases(who, rng.integers(0, stack.articles, len(who)).tolist(), name))
    return Load(len(who), first, last)


def purchases(
    customers: Sequence[str], articles: Sequence[int], name: str, *, first: int = 0
) -> Iterator[tuple[str, bytes | None, bytes]]:
    """Messages (topic, key, value) with distinct event ids, one a second of event time; numbers start at `first`."""
    for n, (customer, article) in enumerate(zip(customers, articles, strict=True), start=first):
        event = Event(
            event_id=f"{name}-{n}",
            type="purchase",
            occurred_at=START + timedelta(seconds=n),
            customer_id=customer,
            article_id=f"{article:010d}",
            price=9.5,
        )
        yield TRANSACTIONS, customer.encode(), encode_event(event)


def markers(name: str, partitions: int) -> tuple[str, ...]:
    """A customer for each partition, by the partitioner that every producer here uses."""
    partitioner = DefaultPartitioner()
    found: dict[int, str] = {}
    for n in range(10_000):
        customer = f"{name}-{n}"
        found.setdefault(partitioner(customer.encode(), list(range(partitions)), list(range(partitions))), customer)
        if len(found) == partitions:
            break
    return tuple(found[p] for p in sorted(found))


class Watch:
    """Sees in the store how far a process has come."""

    def __init__(self, settings: Settings, alive: Callable[[], int | None], log: Path) -> None:
        self._settings = settings
        self._alive = alive
        self._log = log

    async def seconds(self, load: Load, *, timeout_s: float) -> float:
        """From the first marker applied to the last one.

        Raises:
            Unavailable: the process ended, or time is up.
        """
        async with contextlib.AsyncExitStack() as closing:
            store = await open_store(self._settings.redis)
            closing.push_async_callback(store.close)
            until = time.monotonic() + timeout_s

            async def wait(customers: Iterable[str], enough: int) -> float:
                wanted = list(customers)
                while sum(found is not None for found in await store.load(wanted)) < enough:
                    if self._alive() is not None or time.monotonic() > until:
                        raise Unavailable(f"it ended or was not done within {timeout_s:.0f} s; see {self._log}")
                    await asyncio.sleep(0.01)
                return time.perf_counter()

            started = await wait(load.first, 1)
            return await wait(load.last, len(load.last)) - started
