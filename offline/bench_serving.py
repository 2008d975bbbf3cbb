"""What a request costs from outside: through the HTTP gateway and through Kafka, with real processes.

A broker, a store that holds the customers who ask, and what answers (the gateway, or responders) on this machine, with
the load generator beside them: all share its processors.
"""

from __future__ import annotations

import asyncio
import gc
import shutil
import time
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from infra.bundle import Bundle, open_bundle
from infra.errors import Unavailable
from infra.registry import Registry
from infra.settings import ClockSettings, RegistrySettings, Settings
from offline.bench_lines import http_line, kafka_line
from offline.bench_load import Line, Run, drive, greatest
from offline.bench_recommend import Stored
from offline.bench_stack import vouch
from serving.up import Stack, start_stack
from streams.redis_store import open_store

START_TIMEOUT_S = 120.0
WARM_UP_S = 8.0  # at the rate that is measured: a broker of Java, and our own processes, are slow at first
TRIAL_S = 6.0
PAUSE_S = 1.0  # between trials, for what the last one has left behind


@dataclass(frozen=True)
class LoadPlan:
    """rate: requests a second of the timed run, which lasts `seconds`. greatest: look for the greatest rate, too.
    gateways: processes that share the HTTP port; responders: those that share the requests on the topic."""

    rate: float = 100.0
    seconds: float = 20.0
    greatest: bool = True
    kafka: str = "tansu"
    gateways: int = 2
    responders: int = 2

    @property
    def answering(self) -> dict[str, tuple[str, ...]]:
        """The processes behind each line."""
        return {"http": ("api",) * self.gateways, "kafka": ("responder",) * self.responders}


def bench_serving(
    directory: Path, bundle: Bundle, customers: Sequence[Stored], lines: Sequence[str], plan: LoadPlan
) -> dict[str, Any]:
    """By line (`http`, `kafka`): p50_ms and p99_ms at the plan's rate, failures, `rps`: the greatest rate sustained.

    Args:
        directory: an empty one, for registry, broker and logs.

    Raises:
        Unavailable: no sound answer within START_TIMEOUT_S.
    """
    settings, published = _publish(directory, bundle)
    report: dict[str, Any] = {}
    with (
        (directory / "processes.log").open("w") as out,
        start_stack(settings, kafka=plan.kafka, processes=(), out=out) as servers,
    ):
        asyncio.run(_fill(servers.settings, customers, published))
        for name in lines:
            with start_stack(servers.settings, processes=plan.answering[name], out=out) as stack:
                report[name] = asyncio.run(_measure(name, stack, [c.customer_id for c in customers], plan))
    return report


def _publish(directory: Path, bundle: Bundle) -> tuple[Settings, str]:
    """Settings of a registry that serves a copy of the bundle, in the present of its cut; the id of that copy."""
    copy = directory / "bundle"
    shutil.copytree(bundle.path, copy)
    if not (copy / "golden.jsonl").stat().st_size:
        vouch(open_bundle(copy), copy)
    registry = Registry(f"file://{directory.absolute() / 'registry'}")
    published = registry.publish(copy)
    registry.activate("production", published)
    settings = Settings(
        data_dir=directory / "data",
        registry=RegistrySettings(url=f"file://{directory.absolute() / 'registry'}"),
        clock=ClockSettings(origin=bundle.manifest.trained_through, started_at=time.time()),
    )
    return settings, published


async def _fill(settings: Settings, customers: Sequence[Stored], space: str) -> None:
    """Save them as a worker does that encodes with the bundle of this id."""
    store = await open_store(settings.redis)
    try:
        await store.save([msgspec.structs.replace(customer.load(space), version=0) for customer in customers])
    finally:
        await store.close()


def _line(name: str, stack: Stack) -> AbstractAsyncContextManager[Line]:
    if name == "http":
        return http_line(stack.api_url or "")
    return kafka_line(stack.settings)


async def _measure(name: str, stack: Stack, customers: Sequence[str], plan: LoadPlan) -> dict[str, Any]:
    async with _line(name, stack) as line:
        await _first_answer(line, customers[0])
        # This process has a bundle in memory too; looking through all of it would stop the clock of the load.
        gc.collect()
        gc.freeze()
        try:
            await drive(line, customers, plan.rate, WARM_UP_S)
            run = await drive(line, customers, plan.rate, plan.seconds)
            report = run.report()
            if plan.greatest:
                report["rps"] = round(await _greatest(line, customers, plan.rate), 1)
        finally:
            gc.unfreeze()
    return report


async def _greatest(line: Line, customers: Sequence[str], rate: float) -> float:
    async def sustains(rate: float) -> bool:
        run: Run = await drive(line, customers, rate, TRIAL_S)
        await asyncio.sleep(PAUSE_S)
        return run.sustained

    return await greatest(sustains, rate)


async def _first_answer(line: Line, customer_id: str) -> None:
    reason: str | None = "no answer yet"
    until = time.perf_counter() + START_TIMEOUT_S
    while reason is not None:
        if time.perf_counter() > until:
            raise Unavailable(f"no sound answer within {START_TIMEOUT_S:.0f} s: {reason}")
        try:
            reason = await asyncio.wait_for(line.ask(customer_id), 5.0)
        except Exception as error:
            reason = type(error).__name__
        await asyncio.sleep(0.2)
