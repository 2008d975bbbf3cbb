"""`python -m offline.bench_replay_child WAY LOG BUNDLE`: one replay of a log in this process, measured, as JSON."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from infra.bundle import open_bundle
from infra.clock import ManualClock
from infra.errors import ConfigurationError
from offline.event_log import EventLog
from offline.held_out import purchases
from streams.encoder import QueryEncoder, load_query_encoder
from streams.processor import Processor
from streams.replay import BATCH, COLUMN_BATCH, replay, replay_columns, replay_states
from streams.state import CustomerState
from streams.state_format import encode_state
from streams.store import MemoryStore


class Counting:
    """The encoder, and how many states it was given."""

    def __init__(self, encoder: QueryEncoder) -> None:
        self._encoder = encoder
        self.space = encoder.space
        self.encoded = 0

    def encode(self, states: Sequence[CustomerState]) -> npt.NDArray[np.float32]:
        self.encoded += len(states)
        return self._encoder.encode(states)


def run(way: str, log: EventLog, encoder: Counting) -> dict[str, Any]:
    """Replay the log once; what it cost and what it left."""
    store, clock = MemoryStore(), ManualClock(log.span[0])
    processor = Processor(store, clock, encoder)
    start_mb = memory_mb("VmRSS")
    started, cpu = time.perf_counter(), time.process_time()
    if way == "states":
        states = replay_states(log.scan())
    elif way in ("columns", "columns_small"):
        size = COLUMN_BATCH if way == "columns" else BATCH
        asyncio.run(replay_columns(log.scan(), processor, clock, batch_size=size))
    elif way in ("json", "json_large"):
        size = COLUMN_BATCH if way == "json_large" else BATCH
        first, last = log.span
        events = purchases(log, first, last + timedelta(microseconds=1))
        asyncio.run(replay(events, processor, clock, batch_size=size))
    else:
        raise ConfigurationError(f"no way {way!r} to replay")
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu
    peak_mb = memory_mb("VmHWM")
    events_n = log.rows()
    end = _digests(states) if way == "states" else asyncio.run(_stored(store))
    return {
        "eps": round(events_n / seconds),
        "eps_cpu": round(events_n / cpu_seconds),
        "seconds": round(seconds, 3),
        "events": events_n,
        "encoded": encoder.encoded,
        "start_mb": start_mb,
        "peak_mb": peak_mb,
        **end,
    }


async def _stored(store: MemoryStore) -> dict[str, Any]:
    ids = await store.customer_ids(100_000_000)
    states, embeddings, size = hashlib.sha256(), hashlib.sha256(), 0
    for first in range(0, len(ids), 1_000):
        for found in await store.load(ids[first : first + 1_000]):
            if found is None or found.embedding is None:
                raise RuntimeError("the replay left a customer without an embedding")
            value = encode_state(found.state)
            size += len(value) + found.embedding.nbytes
            states.update(value)
            embeddings.update(found.embedding.tobytes())
    return {
        "customers": len(ids),
        "store_mb": round(size / 2**20, 1),
        "states": states.hexdigest(),
        "embeddings": embeddings.hexdigest(),
    }


def _digests(states: dict[str, CustomerState]) -> dict[str, Any]:
    digest = hashlib.sha256()
    for _, state in sorted(states.items()):
        digest.update(encode_state(state))
    return {"customers": len(states), "states": digest.hexdigest()}


def memory_mb(field: str) -> float:
    """VmRSS (now) or VmHWM (the most so far) of this process in MiB.

    The high-water mark of the resource module is not asked: it is inherited from the process that started this one.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return round(int(line.split()[1]) / 1_024, 1)
    raise ConfigurationError(f"this system does not tell {field}; the bench needs Linux")


def main(arguments: Sequence[str]) -> None:
    way, log, bundle = arguments
    encoder = Counting(load_query_encoder(open_bundle(Path(bundle))))
    print(json.dumps(run(way, EventLog(Path(log)), encoder)))


if __name__ == "__main__":
    main(sys.argv[1:])
