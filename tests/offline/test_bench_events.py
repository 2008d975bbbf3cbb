"""The bench of consumers: what it puts on the topic, how it reads the clock, and a real round of two contenders."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from aiokafka.partitioner import DefaultPartitioner

from infra.settings import KafkaSettings, RedisSettings, RegistrySettings, Settings, WorkerSettings
from offline import bench_events
from offline.bench_stack import Load, Stack, fill, markers, purchases
from streams.events import parse_event
from tests.support.tiny_fixture import Tiny


def test_every_partition_has_a_marker_of_its_own() -> None:
    found = markers("x", 6)
    partitioner = DefaultPartitioner()
    assert [partitioner(c.encode(), list(range(6)), list(range(6))) for c in found] == list(range(6))


def test_purchases_are_events_in_order_with_distinct_ids() -> None:
    made = [parse_event(value) for _, _, value in purchases(["a", "b", "a"], [7, 8, 9], "n")]
    assert [event.article_id for event in made] == ["0000000007", "0000000008", "0000000009"]
    assert len({event.event_id for event in made}) == 3
    assert made[0].occurred_at < made[1].occurred_at < made[2].occurred_at


def test_medians_ratios_and_who_is_absent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    speeds = {"modiste": [90, 120, 110], "aiokafka": [100, 100, 500], "faust_take": [20, 10, 30]}
    order: list[tuple[int, str]] = []

    def one_round(stack: Stack, load: Load, name: str, number: int) -> float:
        order.append((number, name))
        return float(speeds[name][number])

    async def filled(*_: Any, **__: Any) -> Load:
        return Load(1_000, (), ())

    @contextlib.contextmanager
    def stack(*_: Any, **__: Any) -> Iterator[None]:
        yield None

    monkeypatch.setattr(bench_events, "bench_stack", stack)
    monkeypatch.setattr(bench_events, "fill", filled)
    monkeypatch.setattr(bench_events, "one_round", one_round)
    monkeypatch.setattr(bench_events, "OPTIONAL", {"quixstreams": "no_such_module"})
    report = bench_events.measure(
        tmp_path,
        kafka="tansu",
        events=1,
        customers=1,
        articles=100,
        rounds=3,
        batch_size=10,
        seed=1,
        contenders=("modiste", "aiokafka", "quixstreams", "faust_take"),
    )
    assert (report["modiste"], report["aiokafka"], report["quixstreams"], report["faust_take"]) == (110, 100, None, 20)
    assert report["ratio"] == {"aiokafka": 1.1, "faust_take": 5.5}
    assert report["spread"] == {"modiste": [90, 120], "aiokafka": [100, 500], "faust_take": [10, 30]}
    assert "pip install 'modiste[bench]'" in report["absent"]["quixstreams"]
    assert [name for number, name in order if number == 1] == ["aiokafka", "faust_take", "modiste"]


@pytest.mark.broker
@pytest.mark.slow
@pytest.mark.parametrize("name", ["modiste", "aiokafka"])
def test_round_counts_every_event(name: str, tiny: Tiny, kafka_url: str, redis_url: str, tmp_path: Path) -> None:
    settings = Settings(
        kafka=KafkaSettings(url=kafka_url, session_timeout_ms=6_000),
        redis=RedisSettings(url=redis_url, prefix=f"bench-{tmp_path.name}"),
        registry=RegistrySettings(url=tiny.registry_url),
        worker=WorkerSettings(group=f"bench-{tmp_path.name}"),
    )
    stack = Stack(settings, tmp_path, 20)
    with ThreadPoolExecutor(1) as pool:  # asyncio.run would put away the event loop of the suite's thread
        load = pool.submit(asyncio.run, fill(stack, 300, 50, name=tmp_path.name, seed=1)).result()
        assert load.events == 300 + 2 * settings.kafka.partitions
        assert pool.submit(bench_events.one_round, stack, load, name, 0).result() > 0
