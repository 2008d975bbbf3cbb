"""Requests that are due at their own times, however long the others take, and how long each took from then on."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

SETTLE_S = 10.0  # for answers that are late
SUSTAINED_P99_MS = 150.0  # as slow as one in a hundred may be at a rate that counts as sustained
STEP = 1.05  # how near the greatest rate is found


class Line(Protocol):
    """A way from a request to its answer."""

    async def ask(self, customer_id: str) -> str | None:
        """One request; returns when it is answered: None, or why the answer is none."""
        ...


@dataclass
class Run:
    """milliseconds: of each sound answer, from when its request was due. failures: by reason."""

    rate: float
    milliseconds: list[float] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)

    @property
    def sustained(self) -> bool:
        """Whether everything was answered, and 99 of 100 in time."""
        return (
            not self.failures
            and bool(self.milliseconds)
            and float(np.percentile(self.milliseconds, 99)) <= SUSTAINED_P99_MS
        )

    def report(self) -> dict[str, object]:
        taken = self.milliseconds or [float("nan")]
        p50, p99 = np.percentile(taken, [50, 99])
        return {
            "p50_ms": round(float(p50), 2),
            "p99_ms": round(float(p99), 2),
            "rate": self.rate,
            "requests": len(self.milliseconds) + self.failures.total(),
            "failed": self.failures.total(),
            "failures": dict(self.failures),
        }


async def drive(line: Line, customers: Sequence[str], rate: float, seconds: float) -> Run:
    """An open loop: `rate` requests a second by the customers in turn. Who is not answered SETTLE_S after the last one
    was due has failed."""
    run = Run(rate)
    asking: set[asyncio.Task[None]] = set()

    async def one(customer_id: str, due: float) -> None:
        try:
            reason = await line.ask(customer_id)
        except Exception as error:
            reason = type(error).__name__
        if reason is None:
            run.milliseconds.append((time.perf_counter() - due) * 1e3)
        else:
            run.failures[reason] += 1

    began = time.perf_counter()
    for number in range(int(rate * seconds)):
        due = began + number / rate
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        task = asyncio.create_task(one(customers[number % len(customers)], due))
        asking.add(task)
        task.add_done_callback(asking.discard)
    late = set(asking)
    if late:
        _, late = await asyncio.wait(late, timeout=SETTLE_S)
    for task in late:
        task.cancel()
    await asyncio.gather(*late, return_exceptions=True)
    if late:
        run.failures["no_answer"] += len(late)
    return run


async def greatest(sustains: Callable[[float], Awaitable[bool]], start: float) -> float:
    """The greatest rate that is sustained, within a factor of STEP; 0 where not even an eighth of `start` is.

    A rate that is not sustained gets a second chance: other programs use the machine, too.
    """

    async def holds(rate: float) -> bool:
        return await sustains(rate) or await sustains(rate)

    low, high = 0.0, start
    while await holds(high):
        low, high = high, 2 * high
    while not low and high > start / 8:
        high /= 2
        if await holds(high):
            low, high = high, 2 * high
    while low and high > low * STEP:
        middle = (low * high) ** 0.5
        if await holds(middle):
            low = middle
        else:
            high = middle
    return low
