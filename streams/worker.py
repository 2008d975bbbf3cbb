"""What the folding process does with a batch, and the bundle it encodes with. No Faust in here.

The bundle only gives the encoder: without one, states are written all the same and serving encodes on a miss.
A new bundle is loaded beside the old one, in a thread, and takes its place between two batches.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from datetime import datetime

from infra.clock import Clock
from infra.errors import BundleNotFound, ModisteError
from infra.kafka import Producer, ensure_topics
from infra.registry import Registry
from infra.settings import Settings, make_clock
from infra.telemetry import counter
from streams.dead_letters import send_dead_letters
from streams.encoder import QueryEncoder, load_query_encoder
from streams.processor import Processor, RawMessage
from streams.redis_store import open_store
from streams.state import Outcome
from streams.store import StateStore
from streams.topics import topic_specs

logger = logging.getLogger(__name__)

BUNDLE_POLL_S = 2.0
REPORT_S = 10.0

EVENTS = counter("events", "Events taken from the topic, by outcome.", ["outcome"])


class FoldWorker:
    """Owns store, producer and encoder of one folding process; call it between start and stop."""

    def __init__(self, settings: Settings, *, clock: Clock | None = None) -> None:
        self._settings = settings
        self._clock = clock or make_clock(settings.clock)
        self._registry = Registry(settings.registry.url)
        self._producer = Producer(settings.kafka, linger_ms=5)
        self._store: StateStore | None = None
        self._processor: Processor | None = None
        self._bundle_id: str | None = None
        self._refused: tuple[str, datetime] | None = None
        self._reloading = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []
        self.totals: Counter[str] = Counter()

    async def start(self) -> None:
        """Connect, create missing topics, load the channel's bundle if there is one.

        Raises:
            ConfigurationError, BrokerUnavailable, StoreUnavailable: as the message says.
        """
        await ensure_topics(self._settings.kafka, topic_specs(self._settings.kafka))
        self._store = await open_store(self._settings.redis)
        await self._producer.start()
        self._processor = Processor(self._store, self._clock)
        await self.reload()
        if self._bundle_id is None:
            channel = self._settings.registry.channel
            logger.info("no bundle on channel %s yet: states are written without embeddings", channel)
        self._tasks = [asyncio.create_task(self._watch()), asyncio.create_task(self._report())]

    async def stop(self) -> None:
        """Let go of everything; says what was done."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with contextlib.suppress(ModisteError):
            await self._producer.stop()
        if self._store is not None:
            await self._store.close()
        logger.info("stopped; %s", self._summary())

    async def __call__(self, messages: list[RawMessage]) -> None:
        """Fold a batch; returns when Redis has the states and the broker has the dead letters.

        Raises:
            Unavailable: one of them is away; give the same batch again.
        """
        if self._processor is None:
            raise RuntimeError("FoldWorker was given a batch before start()")
        results = await self._processor.process(messages)
        refused = [
            (message, result.reason or "")
            for message, result in zip(messages, results, strict=True)
            if result.outcome is Outcome.REJECTED
        ]
        if refused:
            await send_dead_letters(self._producer, refused, reason=Outcome.REJECTED.value)
            message, error = refused[0]
            place = f"{message.topic}/{message.partition}@{message.offset}"
            logger.warning("%d messages to dead-letters; the first, %s: %s", len(refused), place, error)
        counts = Counter(result.outcome.value for result in results)
        self.totals.update(counts)
        for outcome, count in counts.items():
            EVENTS.labels(outcome).inc(count)

    async def reload(self, _: bytes = b"") -> None:
        """Take the bundle the channel points to, if it is another; a refused one changes nothing."""
        channel = self._settings.registry.channel
        async with self._reloading:
            try:
                pointer = await asyncio.to_thread(self._registry.pointer, channel)
            except BundleNotFound:
                return
            except ModisteError as error:
                logger.warning("channel %s cannot be read: %s", channel, error)
                return
            bundle_id, key = pointer.bundle_id, (pointer.bundle_id, pointer.activated_at)
            if bundle_id == self._bundle_id or key == self._refused or self._processor is None:
                return
            try:
                self._processor.encoder = await asyncio.to_thread(self._load, bundle_id)
            except Exception as error:  # whatever a bad bundle does while loading, folding must go on
                if not isinstance(error, ModisteError):
                    logger.exception("bundle %s broke its loader", bundle_id)
                self._refused = key  # said once; activating it again tries again
                logger.error("bundle %s refused, %s stays: %s", bundle_id, self._bundle_id or "none", error)
                return
            self._bundle_id, self._refused = bundle_id, None
            logger.info("encoding with bundle %s (channel %s)", bundle_id, channel)

    def _load(self, bundle_id: str) -> QueryEncoder:
        return load_query_encoder(self._registry.open(bundle_id))

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(BUNDLE_POLL_S)
            await self.reload()

    async def _report(self) -> None:
        said = self._summary()
        while True:
            await asyncio.sleep(REPORT_S)
            now = self._summary()
            if now != said:
                logger.info("so far %s", now)
                said = now

    def _summary(self) -> str:
        return ", ".join(f"{self.totals[outcome.value]} {outcome.value}" for outcome in Outcome)
