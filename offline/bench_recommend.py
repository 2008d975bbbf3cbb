"""What a request costs in process: state in, answer out, by strategy and by stage.

A request is what the responder has of one when the store has answered: the encoded state and the embedding that the
worker stored beside it. Measured to the encoded answer; no store, no broker, no HTTP.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

import numpy as np

from infra.clock import ManualClock
from serving.listing import Lister
from serving.messages import STRATEGIES, RecommendationRequest, encode_recommendations
from serving.pipeline import Pipeline
from serving.prepared import Prepared
from serving.retrieval.candidates import Found, merge
from serving.rules import NO_RULES
from serving.runtime import Runtime
from serving.shelf import Shelf
from streams.events import to_micros
from streams.histories import Histories
from streams.state_format import decode_state, encode_state
from streams.store import StoredCustomer

T = TypeVar("T")

WARM_UP = 20  # requests: the first ones meet cold caches and lazy imports
K = 12


@dataclass(frozen=True, eq=False)
class Stored:
    """A customer as the store holds one: the encoded state, float32[d] embedding of the bundle's space."""

    customer_id: str
    state: bytes
    embedding: np.ndarray[Any, np.dtype[np.float32]]

    def load(self, space: str) -> StoredCustomer:
        return StoredCustomer(decode_state(self.state), 1, space, self.embedding)


def stored_customers(runtime: Runtime, histories: Histories, now: datetime, n: int, seed: int) -> list[Stored]:
    """At most `n` customers with a past before `now`, drawn at random."""
    rng = np.random.default_rng(seed)
    names = [histories.customers[row] for row in rng.permutation(len(histories.customers))[: 2 * n].tolist()]
    states = [state for name in names if (state := histories.state(name, to_micros(now))) is not None][:n]
    vectors = runtime.encoder.encode(states)
    return [
        Stored(state.customer_id, encode_state(state), vector) for state, vector in zip(states, vectors, strict=True)
    ]


def measure(runtime: Runtime, now: datetime, customers: Sequence[Stored], *, rounds: int, batch: int) -> dict[str, Any]:
    """Milliseconds a request: `in_process` of `full` one by one, `batched` in micro-batches, every strategy, and the
    stages of `full` one by one, with the mean number of candidates and of events.

    Args:
        rounds: how many times every customer asks. batch: requests of a micro-batch.
    """
    pipeline = Pipeline(runtime, ManualClock(now))
    single = [[customer] for customer in customers]
    together = [customers[at : at + batch] for at in range(0, len(customers), batch)]
    full = _asked(pipeline, "full", single, rounds)
    stages = Stages(runtime, now)
    for customer in customers[:WARM_UP]:
        stages.request(customer)
    stages.clear()
    for _ in range(rounds):
        for customer in customers:
            stages.request(customer)
    return {
        "in_process": full,
        "batched": {"requests": batch, **_asked(pipeline, "full", together, rounds)},
        "strategies": {name: _asked(pipeline, name, single, rounds) for name in STRATEGIES if name != "full"},
        **stages.report(),
    }


def _asked(pipeline: Pipeline, strategy: str, lots: Sequence[Sequence[Stored]], rounds: int) -> dict[str, float]:
    """p50 and p99 over all lots of the time a lot takes, divided by its requests."""
    space = pipeline.runtime.encoder.space

    def answer(lot: Sequence[Stored]) -> float:
        requests = [
            RecommendationRequest(request_id=c.customer_id, customer_id=c.customer_id, k=K, strategy=strategy)
            for c in lot
        ]
        started = time.perf_counter()
        answers = pipeline.recommend(requests, [customer.load(space) for customer in lot])
        for found in answers:
            encode_recommendations(found)
        return (time.perf_counter() - started) * 1e3 / len(lot)

    for lot in lots[: -(-WARM_UP // len(lots[0]))]:
        answer(lot)
    return quantiles([answer(lot) for _ in range(rounds) for lot in lots])


def quantiles(milliseconds: Sequence[float]) -> dict[str, float]:
    p50, p99 = np.percentile(milliseconds, [50, 99])
    return {"p50_ms": round(float(p50), 3), "p99_ms": round(float(p99), 3)}


class Stages:
    """One request of `full` taken apart; what a stage needs first is computed, and counted, there."""

    def __init__(self, runtime: Runtime, now: datetime) -> None:
        self._runtime = runtime
        self._now = to_micros(now)
        self._lister = Lister(runtime.catalog, Shelf.of(runtime.items), NO_RULES, self._now)
        self._spent: dict[str, list[float]] = {}
        self._candidates: list[int] = []
        self._events: list[int] = []

    def clear(self) -> None:
        self._spent, self._candidates, self._events = {}, [], []

    def request(self, customer: Stored) -> None:
        catalog, timed = self._runtime.catalog, self._timed
        request = RecommendationRequest(request_id=customer.customer_id, customer_id=customer.customer_id, k=K)
        state = timed("state", lambda: decode_state(customer.state))
        query = timed("query", lambda: catalog.query(state, customer.embedding, None, self._now))
        found: list[Found] = []
        for source in catalog.sources:
            depth = catalog.retrieval.depth[source.name]
            found += timed(source.name, partial(source.retrieve, [query], depth))
        names = [source.name for source in catalog.sources]
        merged = timed("merge", lambda: merge(names, found))
        asked = Prepared(request, query, None, state.as_of)
        candidates = timed("rules", lambda: self._lister.allowed(asked, merged, []))
        features = timed("features", lambda: catalog.features.build(query, candidates))
        scores = timed("ranking", lambda: self._runtime.ranker.score(features)[:, 0])
        timed("listing", lambda: self._lister.items(asked, candidates, scores, []))
        self._candidates.append(len(candidates))
        self._events.append(len(state))

    def report(self) -> dict[str, Any]:
        return {
            "stages": {name: quantiles(spent) for name, spent in self._spent.items()},
            "candidates": round(float(np.mean(self._candidates)), 1),
            "events": {"mean": round(float(np.mean(self._events)), 1), "most": max(self._events)},
        }

    def _timed(self, stage: str, work: Callable[[], T]) -> T:
        started = time.perf_counter()
        result = work()
        self._spent.setdefault(stage, []).append((time.perf_counter() - started) * 1e3)
        return result
