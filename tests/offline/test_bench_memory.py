"""The bench of memory: how growth is told, what is measured in Redis, and a short soak of a real worker."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from infra.errors import Unavailable
from infra.settings import KafkaSettings, RedisSettings, RegistrySettings, Settings, WorkerSettings
from offline.bench_memory import Soak, growth, history, resident_mib, run_soak, stored_bytes
from offline.bench_stack import Stack
from streams.events import parse_event
from tests.conftest import GIVEN
from tests.support.servers import choose_broker, running_broker
from tests.support.tiny_fixture import Tiny


def test_growth_looks_at_the_second_half_only() -> None:
    warm_up = [(float(second), 50.0 + second) for second in range(50)]
    flat = growth(warm_up + [(float(second), 100.0) for second in range(50, 101)])
    assert (flat["growth_percent"], flat["mib_per_hour"], flat["flat"]) == (0.0, 0.0, True)
    assert flat["rss_mib"] == {"first": 50.0, "last": 100.0, "max": 100.0}
    # 100 MiB at second 50, 0.1 more each second: 5% in the 50 seconds that are left.
    leaking = growth(warm_up + [(float(second), 95.0 + second / 10) for second in range(50, 101)])
    assert (leaking["growth_percent"], leaking["mib_per_hour"], leaking["flat"]) == (5.0, 360.0, False)


def test_histories_are_baskets_in_time_order() -> None:
    events = [parse_event(message.value or b"") for message in history("100007", 100, 50, 1)]
    times = [event.occurred_at for event in events]
    assert times == sorted(times)
    assert 10 < len(set(times)) < 60
    assert len({event.event_id for event in events}) == 100
    assert {len(event.article_id) for event in events} == {10}


def test_memory_of_a_process_that_has_ended_is_said_to_be_so() -> None:
    assert resident_mib(os.getpid()) > 10
    with pytest.raises(Unavailable, match="process 999999999 has ended"):
        resident_mib(999_999_999)


@pytest.fixture
def stack(tiny: Tiny, redis_url: str, tmp_path: Path) -> Iterator[Stack]:
    """A broker of its own: on the shared one the worker would first read all that other tests have left there."""
    with running_broker(choose_broker(GIVEN), tmp_path) as kafka_url:
        yield Stack(_settings(tiny, kafka_url, redis_url, tmp_path), tmp_path, 20)


def _settings(tiny: Tiny, kafka_url: str, redis_url: str, tmp_path: Path) -> Settings:
    return Settings(
        kafka=KafkaSettings(url=kafka_url, session_timeout_ms=6_000),
        redis=RedisSettings(url=redis_url, prefix=f"bench-{tmp_path.name}"),
        registry=RegistrySettings(url=tiny.registry_url),
        worker=WorkerSettings(group=f"bench-{tmp_path.name}"),
    )


@pytest.mark.slow
def test_stored_bytes_are_below_the_limit_and_gone_afterwards(stack: Stack) -> None:
    with ThreadPoolExecutor(1) as pool:  # asyncio.run would put away the event loop of the suite's thread
        twenty = pool.submit(asyncio.run, stored_bytes(stack, 20, 5, 1)).result()
        again = pool.submit(asyncio.run, stored_bytes(stack, 100, 3, 1)).result()
    assert (twenty["customers"], again["customers"]) == (5, 3)
    assert 20 * 8 + 2 * twenty["embedding_dim"] < twenty["value"] < twenty["mean"] <= twenty["max"] < 1_024
    assert twenty["mean"] + 80 * 8 < again["mean"] < 5 * twenty["mean"]


@pytest.mark.broker
@pytest.mark.slow
def test_a_short_soak_folds_all_it_was_sent(stack: Stack) -> None:
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(run_soak, stack, Soak(0.05, 40, 200), "given", 1).result()
    assert found["events"] > 200
    assert 30 < found["customers_seen"] <= 40
    assert found["rss_mib"]["max"] >= found["rss_mib"]["first"] > 0
