"""`modiste bench events`: events a second of one worker beside what else could consume them, all doing the same work.

The events lie on the topic before a contender starts, so nothing but the contender, the broker and Redis is at work.
The clock runs from the first event that stands in Redis to the last; starting up and joining the group is not in it,
nor is the first batch up to its marker, which favours every contender alike by about a batch.
"""

from __future__ import annotations

import asyncio
import importlib.util
import statistics
import sys
from pathlib import Path
from typing import Any

from infra.errors import Unavailable
from infra.redis_client import connect_sync
from infra.settings import RedisSettings
from offline.bench_shop import BenchSize
from offline.bench_stack import COMMAND, Load, Stack, Watch, bench_stack, fill, process
from offline.progress import step

CONTENDERS = ("modiste", "aiokafka", "quixstreams", "confluent", "faust_take")
# The module that a contender needs beyond what the worker needs itself.
OPTIONAL = {"quixstreams": "quixstreams", "confluent": "confluent_kafka"}
ROUND_S = 180.0


def measure(
    directory: Path,
    *,
    kafka: str,
    events: int,
    customers: int,
    articles: int,
    rounds: int,
    batch_size: int,
    seed: int,
    contenders: tuple[str, ...] = CONTENDERS,
) -> dict[str, Any]:
    """Medians of interleaved rounds, as events a second; None with a reason in `absent` where one could not run."""
    absent = {name: reason for name in contenders if (reason := missing(name))}
    speeds: dict[str, list[float]] = {name: [] for name in contenders}
    size = BenchSize(articles=articles, customers=2_000, examples=100)
    with bench_stack(directory, kafka=kafka, size=size, seed=seed, batch_size=batch_size) as stack:
        load = asyncio.run(fill(stack, events, customers, name="load", seed=seed))
        present = [name for name in contenders if name not in absent]
        with step("rounds", rounds * len(present)) as progress:
            for number in range(rounds):
                # Another one first in each round: whoever runs first meets a colder machine.
                for name in present[number % len(present) :] + present[: number % len(present)]:
                    if name not in absent:
                        try:
                            speeds[name].append(one_round(stack, load, name, number))
                        except Unavailable as error:
                            absent[name] = str(error)
                    progress.advance()
    found = {name: None if name in absent else round(statistics.median(speeds[name])) for name in contenders}
    ours = found.get("modiste")
    return {
        **found,
        "ratio": {name: round(ours / eps, 3) for name, eps in found.items() if eps and ours and name != "modiste"},
        "spread": {name: [round(min(s)), round(max(s))] for name, s in speeds.items() if s},
        "absent": absent,
        "setup": {
            "kafka": kafka,
            "events": load.events,
            "customers": customers,
            "articles": articles,
            "rounds": rounds,
            "batch_size": batch_size,
        },
    }


def one_round(stack: Stack, load: Load, name: str, number: int) -> float:
    """Events a second of one contender, from nothing: a consumer group and a key prefix of its own.

    Raises:
        Unavailable: it ended or was not done in time.
    """
    settings = stack.named(f"bench-{name}-{number}".replace("_", "-"))
    command = [*COMMAND, "streams", "worker"] if name == "modiste" else [sys.executable, "-m", "offline.peers", name]
    try:
        with process(stack, settings, command) as child:
            return load.events / asyncio.run(Watch(settings, child.poll, stack.log).seconds(load, timeout_s=ROUND_S))
    finally:
        _forget(settings.redis)


def _forget(settings: RedisSettings) -> None:
    """Give back the memory of a contender's states."""
    redis = connect_sync(settings)
    try:
        for key in redis.scan_iter(match=f"{settings.prefix}:*", count=10_000):
            redis.unlink(key)
    finally:
        redis.close()


def missing(name: str) -> str | None:
    """Why a contender cannot run here; None if it can."""
    module = OPTIONAL.get(name)
    if module is None or importlib.util.find_spec(module) is not None:
        return None
    return f"{module} is not installed: pip install 'modiste[bench]'"
