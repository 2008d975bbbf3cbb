"""The bench of freshness: how it produces, and that what no answer knew is not left out of the figures."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Sequence
from typing import Any

import pytest

from infra.errors import Unavailable
from offline import bench_freshness
from offline.bench_freshness import Crowd, Load, produce, sustained, under_load
from offline.smoke import Tally
from streams.events import Event

Message = tuple[str, bytes | None, bytes]


class Topic:
    def __init__(self) -> None:
        self.calls: list[tuple[int, list[bytes]]] = []

    async def send_in_order(self, topic: str, partition: int, messages: Sequence[tuple[bytes, bytes, Any]]) -> None:
        assert topic == "transactions"
        self.calls.append((partition, [key for key, _, _ in messages]))


async def test_messages_go_out_once_in_order_and_not_all_at_once() -> None:
    topic: Any = Topic()
    messages = [(n % 3, b"%d" % n, b"event") for n in range(100)]
    took = await produce(topic, messages, rate=500.0)
    for partition in range(3):
        sent = [key for place, keys in topic.calls if place == partition for key in keys]
        assert sent == [b"%d" % n for n in range(partition, 100, 3)]
    assert len(topic.calls) >= 6
    assert took > 0.1  # 100 at 500 a second


# Of load-0-c0, load-0-c1, ... among four partitions, by Kafka's murmur2 and nothing of ours.
PLACES = [[2, 3, 1], [1, 1, 2], [3, 0, 0], [0, 0, 1]]


def test_a_message_is_placed_where_every_producer_here_places_it() -> None:
    load = Load(Crowd(3, 60), articles=5, rng=random.Random(1), partitions=4)
    placed = load.placed(200)
    known = {f"load-{pool}-c{n}": place for pool, places in enumerate(PLACES) for n, place in enumerate(places)}
    assert {key.decode(): partition for partition, key, _ in placed if key} == known
    assert [json.loads(value)["customer_id"].encode() for _, _, value in placed] == [key for _, key, _ in placed]


async def test_probes_keep_their_pace_and_what_no_answer_knew_counts_with_all_it_waited(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bench_freshness, "PROBES_PER_S", 100.0)
    asked: list[Event] = []

    class Slow:
        """Answers after 200 ms, as long as twenty probes take to come; knows every second purchase."""

        tally = Tally()

        async def buy_and_see(self, event: Event) -> bool:
            asked.append(event)
            known = bool(len(asked) % 2)
            await asyncio.sleep(0.2)
            return known

    one: Any = Slow()
    topic: Any = Topic()
    found = await under_load(one, topic, [(0, b"a", b"event")] * 200, 500.0, random.Random(1))
    # 400 ms of events. One probe after another would be two or three; a slow machine may be late with some.
    assert 10 < found["probes"] == len(asked) <= 42
    assert found["unseen"] == found["probes"] // 2
    assert found["freshness_ms"]["p99"] == bench_freshness.FRESH_TIMEOUT_S * 1e3
    assert len({event.event_id for event in asked}) == len(asked)


def test_customers_are_replaced_so_that_histories_stay_as_long() -> None:
    load = Load(Crowd(customers=3, events=30), articles=5, rng=random.Random(1), partitions=4)
    messages = [*load.messages(45), *load.messages(45)]
    for first, pool in ((0, "load-0"), (30, "load-1"), (60, "load-2")):
        keys = {key for _, key, _ in messages[first : first + 30]}
        assert keys == {f"{pool}-c{n}".encode() for n in range(3)}


class Folding:
    """Store and topic of a worker that applies one chunk at each look, and no more than has been sent."""

    def __init__(self) -> None:
        self.chunks: list[list[Message]] = []
        self.applied = 0
        self.waiting: list[int] = []

    async def send_many(self, messages: Sequence[Message]) -> int:
        size = bench_freshness.CHUNK
        self.chunks += [list(messages[first : first + size]) for first in range(0, len(messages), size)]
        return len(messages)

    async def load(self, markers: Sequence[str]) -> list[Any]:
        self.waiting.append(len(self.chunks) - self.applied)
        self.applied = min(len(self.chunks), self.applied + 1)
        await asyncio.sleep(0.002)
        # The first marker's partition is ahead of the others: a chunk counts when all of it is applied.
        return [Stored(self.applied + (n == 0)) if self.applied else None for n, _ in enumerate(markers)]


class Stored:
    def __init__(self, events: int) -> None:
        self.state: Any = type("State", (), {"totals": [None] * events})()


async def test_throughput_is_what_is_applied_while_a_bounded_backlog_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_freshness, "CHUNK", 10)
    monkeypatch.setattr(bench_freshness, "BACKLOG", 50)
    place: Any = Folding()
    load = Load(Crowd(3, 60), articles=5, rng=random.Random(1), partitions=4)
    started = time.perf_counter()
    found = await sustained(place, place, load, seconds=0.3)
    assert 10 * place.applied / (time.perf_counter() - started) <= found <= 10 / 0.002
    assert max(place.waiting) == 5  # 50 events, and never more
    assert {len(chunk) for chunk in place.chunks} == {10}
    ids = [json.loads(value)["event_id"] for chunk in place.chunks for _, _, value in chunk]
    assert len(set(ids)) == len(ids)
    assert all([key for _, key, _ in chunk[-4:]] == [m.encode() for m in load.markers] for chunk in place.chunks)


async def test_worker_that_applies_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_freshness, "THROUGHPUT_S", 0.05)

    class Idle(Folding):
        async def load(self, markers: Sequence[str]) -> list[Any]:
            return [None for _ in markers]

    place: Any = Idle()
    with pytest.raises(Unavailable, match="0 of 8 chunks of 500 events"):
        await sustained(place, place, Load(Crowd(3, 60), 5, random.Random(1), 4), seconds=0.01)
