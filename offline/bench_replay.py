"""`modiste bench replay`: events a second and memory of an in-process replay, with states and embeddings.

Each measurement is a process of its own (`offline.bench_replay_child`), so that its peak is nobody else's. What is
compared runs in turns, several times, on the same log: a busy machine changes the figures, hardly their ratios.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from infra.errors import Unavailable
from offline.bench_log import LogSize, write_bench_log
from offline.bench_shop import BenchSize, bench_shop, write_bench_bundle
from offline.event_log import EventLog
from offline.progress import step

# Through the processor: columns of the log; the same in the worker's batches; events by JSON, in the worker's batches
# and in those of columns. `states`: all customers at once as columns, no store and no embeddings.
WAYS = ("columns", "columns_small", "json", "json_large", "states")
LENGTHS = (1, 2, 4)  # times the days of the log that memory is measured on
MEMORY_CUSTOMERS = 125  # so few that all have outgrown their bounds in the shortest log: states grow no further
SPARSE = 20  # times as many customers, with as many events less each
CHILD_S = 3_600.0


def measure(log: EventLog, bundle: Path, *, rounds: int) -> dict[str, Any]:
    """Medians over rounds: events a second, of the clock and of processor time, beside JSON's; peak memory.

    Processor time tells what a replay costs where the machine has other work, the clock what it took.

    Raises:
        Unavailable: a measurement ended early. RuntimeError: two ways left other bytes.
    """
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    with step("ways", rounds * len(WAYS)) as progress:
        for number in range(rounds):
            for way in WAYS[number % len(WAYS) :] + WAYS[: number % len(WAYS)]:
                found[way].append(one(way, log.path, bundle))
                progress.advance()
    ends = {(row["states"], row["embeddings"]) for way in WAYS if way != "states" for row in found[way]}
    if len(ends) != 1 or {row["states"] for row in found["states"]} != {states for states, _ in ends}:
        raise RuntimeError(f"the ways of replaying one log end in other bytes: {sorted(ends)}")
    speed, cpu = (
        {way: round(statistics.median(row[name] for row in rows)) for way, rows in found.items()}
        for name in ("eps", "eps_cpu")
    )
    return {
        "fold_eps": speed["columns"],
        "fold_eps_cpu": cpu["columns"],
        "peak_mb": max(row["peak_mb"] for row in found["columns"]),
        "ways": {
            way: {
                "eps": speed[way],
                "eps_from_to": [min(row["eps"] for row in rows), max(row["eps"] for row in rows)],
                "eps_cpu": cpu[way],
                "times_json": round(speed[way] / speed["json"], 2),
                "times_json_cpu": round(cpu[way] / cpu["json"], 2),
                "peak_mb": max(row["peak_mb"] for row in rows),
                "encoded": rows[0]["encoded"],
            }
            for way, rows in found.items()
        },
        "same_bytes": True,
        "events": found["columns"][0]["events"],
        "customers": found["columns"][0]["customers"],
        "rounds": rounds,
    }


def memory(directory: Path, bundle: Path, size: LogSize, seed: int) -> list[dict[str, Any]]:
    """Peaks of the same customers' histories of several lengths."""
    rows = []
    with step("memory", len(LENGTHS)) as progress:
        for times in LENGTHS:
            longer = LogSize(MEMORY_CUSTOMERS, size.articles, size.days * times, size.events_a_day // 2)
            log = write_bench_log(directory / f"memory-{times}", longer, seed)
            found = one("columns", log.path, bundle)
            names = ("events", "customers", "peak_mb", "start_mb", "store_mb")
            rows.append({"length": times, **{name: found[name] for name in names}})
            progress.advance()
    return rows


def sparse(directory: Path, bundle: Path, size: LogSize, seed: int) -> dict[str, Any]:
    """As many events of many more customers, few each."""
    many = LogSize(size.customers * SPARSE, size.articles, size.days, size.events_a_day)
    found = one("columns", write_bench_log(directory / "sparse", many, seed).path, bundle)
    return {name: found[name] for name in ("events", "customers", "eps", "eps_cpu", "encoded", "peak_mb")}


def random_bundle(directory: Path, articles: int, seed: int) -> Path:
    """A bundle with untrained towers, whose query encoder costs what a trained one costs."""
    size = BenchSize(articles=articles, customers=2_000, examples=100)
    write_bench_bundle(directory / "bundle", bench_shop(size, seed), size, seed)
    return directory / "bundle"


def one(way: str, log: Path, bundle: Path) -> dict[str, Any]:
    """One measurement, in a process of its own.

    Raises:
        Unavailable: it ended early; says with what.
    """
    command = [sys.executable, "-m", "offline.bench_replay_child", way, str(log), str(bundle)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=CHILD_S, check=False)
    if done.returncode:
        raise Unavailable(f"the replay by {way} ended with code {done.returncode}: {done.stderr[-2_000:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found
