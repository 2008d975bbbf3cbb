"""The load of the bench: an open loop, whose failures are counted, and the search for the greatest rate."""

from __future__ import annotations

import asyncio
import json
from collections import Counter

import numpy as np
import pytest
from click.testing import CliRunner

from infra.bundle import Bundle
from infra.settings import Settings
from offline import bench_load
from offline.bench_cli import bench
from offline.bench_load import STEP, SUSTAINED_P99_MS, Run, drive, greatest
from offline.bench_recommend import Stored
from offline.bench_serving import _fill
from offline.bench_shop import BenchSize, bench_shop, write_bench_bundle
from streams.state import empty_state
from streams.state_format import encode_state
from streams.store import MemoryStore


class Toy:
    """Answers the first customer at once and the second not well; for the third it breaks."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def ask(self, customer_id: str) -> str | None:
        self.asked.append(customer_id)
        if customer_id == "broken":
            raise ConnectionError("gone")
        return "store_unavailable" if customer_id == "degraded" else None


async def test_the_store_is_filled_as_a_worker_fills_it(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()

    async def opened(_: object) -> MemoryStore:
        return store

    monkeypatch.setattr("offline.bench_serving.open_store", opened)
    anna = Stored("anna", encode_state(empty_state("anna")), np.array([0.5, 0.5], np.float32))
    await _fill(Settings(), [anna], "a-bundle")
    (found,) = await store.load(["anna"])
    assert found is not None
    assert (found.version, found.space, found.state.customer_id) == (1, "a-bundle", "anna")


async def test_customers_ask_in_turn_and_failures_are_counted_by_reason() -> None:
    toy = Toy()
    run = await drive(toy, ["fine", "degraded", "broken", "fine"], 500, 0.02)
    assert toy.asked == ["fine", "degraded", "broken", "fine", "fine", "degraded", "broken", "fine", "fine", "degraded"]
    assert run.failures == {"store_unavailable": 3, "ConnectionError": 2}
    report = run.report()
    assert (report["requests"], report["failed"], report["rate"]) == (10, 5, 500)
    assert not run.sustained


async def test_nobody_waits_for_the_one_before() -> None:
    everybody = asyncio.Event()

    class Together(Toy):
        async def ask(self, customer_id: str) -> str | None:
            self.asked.append(customer_id)
            if len(self.asked) == 10:
                everybody.set()
            await everybody.wait()
            return None

    run = await drive(Together(), ["anna"], 500, 0.02)
    assert len(run.milliseconds) == 10 and not run.failures


async def test_who_is_never_answered_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent(Toy):
        async def ask(self, customer_id: str) -> str | None:
            await asyncio.Event().wait()
            return None

    monkeypatch.setattr(bench_load, "SETTLE_S", 0.05)
    run = await drive(Silent(), ["anna"], 500, 0.02)
    assert run.failures == {"no_answer": 10} and run.milliseconds == []


def test_a_rate_is_sustained_when_all_are_answered_and_99_of_100_in_time() -> None:
    fast, slow = [1.0] * 990, [SUSTAINED_P99_MS * 10] * 10
    assert Run(100, fast + slow[:9]).sustained
    assert not Run(100, fast + slow * 2).sustained
    assert not Run(100, fast, Counter({"error": 1})).sustained
    assert not Run(100).sustained


@pytest.mark.parametrize("limit", [15.0, 99.0, 100.0, 330.0, 1_000.0])
async def test_the_greatest_rate_is_found(limit: float) -> None:
    async def sustains(rate: float) -> bool:
        return rate <= limit

    found = await greatest(sustains, 100.0)
    assert limit / STEP <= found <= limit


async def test_a_rate_that_fails_once_has_a_second_chance_and_one_that_is_never_held_is_none() -> None:
    tried: Counter[float] = Counter()

    async def moody(rate: float) -> bool:
        tried[rate] += 1
        return rate <= 200 and tried[rate] == 2

    assert 200 / STEP <= await greatest(moody, 100.0) <= 200

    async def never(rate: float) -> bool:
        return False

    assert await greatest(never, 100.0) == 0.0


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    size = BenchSize(articles=300, customers=80, examples=30)
    return write_bench_bundle(tmp_path_factory.mktemp("bench") / "bundle", bench_shop(size, 1), size, 1)


@pytest.mark.broker
@pytest.mark.slow
def test_http_and_kafka_are_measured_with_real_processes(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("offline.bench_serving.WARM_UP_S", 0.5)
    given = ["recommend", "--bundle", str(bundle.path), "--customers", "20", "--rate", "20", "--seconds", "2"]
    asked = [*given, "--through", "http", "--through", "kafka", "--no-rps", "--json"]
    report = json.loads(CliRunner().invoke(bench, asked, catch_exceptions=False).stdout)
    assert (report["articles"], report["customers"], report["broker"]) == (300, 20, "tansu")
    assert (report["gateways"], report["responders"]) == (2, 2)
    assert "in_process" not in report and "rps" not in report
    for line in ("http", "kafka"):
        row = report[line]
        assert (row["requests"], row["failed"], row["rate"]) == (40, 0, 20)
        assert 0 < row["p50_ms"] <= row["p99_ms"]
