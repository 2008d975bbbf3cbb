"""The shop in this process: the worker's processor over a store in memory, the responder's pipeline, a clock that the
replay moves."""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

import msgspec

from infra.bundle import Bundle
from infra.clock import ManualClock
from infra.errors import ConfigurationError
from infra.threads import answering
from offline.event_log import EventLog
from offline.shared_catalog import SharedCatalog
from serving.golden import open_runtime
from serving.messages import RecommendationRequest, Recommendations
from serving.pipeline import Pipeline
from serving.runtime import Runtime
from streams.events import EPOCH
from streams.processor import Processor
from streams.replay import replay_columns
from streams.state import Outcome
from streams.store import MemoryStore, StoredCustomer

KEPT = 3  # opened bundles: those that were given, and the newest of those that are built


class InProcess:
    """A `Runner`. Contenders that ask for the same customers in one call share what they have in common, which changes
    no answer (offline/shared_catalog.py); the first customer of a call is also asked alone and timed."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.clock = ManualClock(EPOCH)
        self._processor = Processor(self.store, self.clock)
        self._opened: OrderedDict[str, tuple[Pipeline, Pipeline, Runtime]] = OrderedDict()
        self._shared: Pipeline | None = None
        self._alone: Pipeline | None = None

    async def take(self, bundle: Bundle) -> None:
        known = self._opened.get(bundle.bundle_id)
        if known is None:
            with answering():  # sums of two threads differ in the last bit, also those made once on opening
                runtime = open_runtime(bundle)
            shared = replace(runtime, catalog=SharedCatalog.of(runtime.catalog))
            known = Pipeline(shared, self.clock), Pipeline(runtime, self.clock), runtime
            self._opened[bundle.bundle_id] = known
        self._opened.move_to_end(bundle.bundle_id)
        while len(self._opened) > KEPT:
            self._opened.popitem(last=False)
        self._shared, self._alone, runtime = known
        self._processor.encoder = runtime.encoder

    async def fold(self, log: EventLog, start: datetime | None, until: datetime) -> Counter[Outcome]:
        return await replay_columns(log.scan(start, until), self._processor, self.clock)

    async def answer(self, requests: Sequence[RecommendationRequest], now: datetime) -> list[Recommendations]:
        if self._shared is None or self._alone is None:
            raise ConfigurationError("no bundle to answer from; let the runner take one first")
        self.clock.set(now)
        with answering():
            return await self._answers(self._shared, self._alone, requests)

    async def _answers(
        self, shared: Pipeline, alone: Pipeline, requests: Sequence[RecommendationRequest]
    ) -> list[Recommendations]:
        ids = list(dict.fromkeys(request.customer_id for request in requests))
        # One object a customer, by which the shared catalogue knows it again.
        stored = dict(zip(ids, await self.store.load(ids), strict=True))
        answers = shared.recommend(requests, [stored[request.customer_id] for request in requests])
        return [
            msgspec.structs.replace(answer, latency_ms=await self._timed(alone, request))
            if request.customer_id == ids[0]
            else answer
            for request, answer in zip(requests, answers, strict=True)
        ]

    async def _timed(self, pipeline: Pipeline, request: RecommendationRequest) -> float:
        """Milliseconds of loading the customer and answering this one request."""
        started = time.perf_counter()
        found: list[StoredCustomer | None] = await self.store.load([request.customer_id])
        pipeline.recommend([request], found)
        return round((time.perf_counter() - started) * 1e3, 3)

    async def close(self) -> None:
        await self.store.close()
