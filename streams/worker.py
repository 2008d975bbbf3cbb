"""What the folding process does with a batch, and the bundle it encodes with. No Faust in here.

The bundle only gives the encoder: without one, states are written all the same and serving encodes on a miss.
A new bundle is loaded beside the old one, in a thread, and takes its place between two batches; then a sweep in the
background encodes the customers who are stored already.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from infra.clock import Clock
from infra.errors import InvalidMessage, ModisteError
from infra.follow import POLL_S, STAGGER_S, BundleFollower
from infra.kafka import Producer, ensure_topics
from infra.registry import Registry
from infra.settings import Settings, make_clock
from infra.telemetry import counter
from streams.catalog import parse_article_message, parse_article_vector
from streams.dead_letters import send_dead_letters
from streams.encoder import QueryEncoder
from streams.golden import open_encoder
from streams.processor import Processed, Processor, RawMessage
from streams.redis_store import open_store
from streams.state import Outcome
from streams.store import StateStore
from streams.subscriptions import CustomerUpdate, Subscriptions, encode_update, parse_subscription
from streams.sweep import sweep
from streams.topics import ARTICLE_VECTORS, ARTICLES, CUSTOMER_UPDATES, SUBSCRIPTIONS, TRANSACTIONS, topic_specs

logger = logging.getLogger(__name__)

BUNDLE_POLL_S = POLL_S
REPORT_S = 10.0
# At a swap every process of the machine loads the new bundle; the sweep leaves them the processor meanwhile. Until it
# comes round, serving encodes who asks.
SWEEP_DELAY_S = STAGGER_S

EVENTS = counter("events", "Events taken from the topic, by outcome.", ["outcome"])
TABLE_MESSAGES = counter(
    "table_messages", "Messages of topics that are kept as tables looked through, by outcome.", ["topic", "outcome"]
)

# Whoever needs these tables reads them whole for itself. But one reader has to tell of what nobody can use.
LOOKED_THROUGH: Mapping[str, Callable[[bytes | None, bytes | None], object]] = {
    ARTICLES: parse_article_message,
    ARTICLE_VECTORS: lambda key, value: value and parse_article_vector(key, value),
    SUBSCRIPTIONS: parse_subscription,
}
TOPICS = (TRANSACTIONS, *LOOKED_THROUGH)

Refused = tuple[RawMessage, str, str]
"""A message for the dead letters, the letter's reason, the error."""

TOLD = (Outcome.APPLIED, Outcome.DUPLICATE)


class FoldWorker:
    """Owns store, producer and encoder of one folding process; call it between start and stop."""

    def __init__(self, settings: Settings, *, clock: Clock | None = None) -> None:
        self._settings = settings
        self._clock = clock or make_clock(settings.clock)
        registry = settings.registry
        self._follower: BundleFollower[QueryEncoder] = BundleFollower(
            Registry(registry.url),
            registry.channel,
            open_encoder,
            poll_s=BUNDLE_POLL_S,
            stagger_s=STAGGER_S,
            taken=self._take,
        )
        self._producer = Producer(settings.kafka, linger_ms=5)
        self._store: StateStore | None = None
        self._processor: Processor | None = None
        self._subscriptions = Subscriptions(settings.kafka)
        self._tasks: list[asyncio.Task[None]] = []
        self._sweep: asyncio.Task[object] | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self.totals: Counter[str] = Counter()

    async def start(self) -> None:
        """Connect, create missing topics, load the channel's bundle if there is one.

        Raises:
            ConfigurationError, BrokerUnavailable, StoreUnavailable: as the message says.
        """
        await ensure_topics(self._settings.kafka, topic_specs(self._settings.kafka))
        self._store = await open_store(self._settings.redis)
        await self._producer.start()
        await self._subscriptions.start()
        self._processor = Processor(self._store, self._clock)
        await self._follower.start()
        if self._follower.bundle_id is None:
            channel = self._settings.registry.channel
            logger.info("no bundle on channel %s yet: states are written without embeddings", channel)
        self._tasks = [asyncio.create_task(self._report())]

    async def stop(self) -> None:
        """Let go of everything; says what was done."""
        await self._follower.stop()
        await self._subscriptions.stop()
        tasks = [*self._tasks, *([self._sweep] if self._sweep is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
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
        tables = [message for message in messages if message.topic in LOOKED_THROUGH]
        if tables:
            messages = [message for message in messages if message.topic not in LOOKED_THROUGH]
        self._idle.clear()
        try:
            results = await self._processor.process(messages)
        finally:
            self._idle.set()
        refused = [
            (message, result.letter, result.reason or "")
            for message, result in zip(messages, results, strict=True)
            if result.outcome is Outcome.REJECTED
        ]
        # After the store, which may be away for long: the batch comes again until it is back, and letters with it.
        unreadable = _unreadable(tables)
        await self._refuse(refused + unreadable)
        if self._subscriptions:
            await self._tell(messages, results)
        counts = Counter(result.outcome.value for result in results)
        self.totals.update(counts)
        for outcome, count in counts.items():
            EVENTS.labels(outcome).inc(count)
        for topic, count in Counter(message.topic for message in tables).items():
            bad = sum(message.topic == topic for message, *_ in unreadable)
            TABLE_MESSAGES.labels(topic, "rejected").inc(bad)
            TABLE_MESSAGES.labels(topic, "read").inc(count - bad)

    async def _tell(self, messages: list[RawMessage], results: list[Processed]) -> None:
        """One word a subscribed customer whose events the store has now; again for those that it had already, since the
        process may have ended between saving and telling."""
        now = self._clock.now()
        updates: dict[str, str] = {}
        for message, result in zip(messages, results, strict=True):
            who = result.customer_id
            if who is not None and result.outcome in TOLD and (who in updates or self._subscriptions.of(who, now)):
                updates[who] = f"{message.topic}-{message.partition}-{message.offset}"
        await self._producer.send_many(
            (CUSTOMER_UPDATES, who.encode(), encode_update(CustomerUpdate(customer_id=who, event=event)))
            for who, event in updates.items()
        )

    async def _refuse(self, refused: list[Refused]) -> None:
        if refused:
            await send_dead_letters(self._producer, refused)
            message, _, error = refused[0]
            place = f"{message.topic}/{message.partition}@{message.offset}"
            logger.warning("%d messages to dead-letters; the first, %s: %s", len(refused), place, error)

    async def reload(self, _: bytes = b"") -> None:
        """Look at the channel now; a refused bundle changes nothing."""
        if self._processor is not None:
            await self._follower.refresh()

    def _take(self, encoder: QueryEncoder) -> None:
        if self._processor is None or self._store is None:
            return
        self._processor.encoder = encoder
        if self._sweep is not None:
            self._sweep.cancel()
        self._sweep = asyncio.create_task(
            sweep(
                self._store,
                encoder,
                per_second=self._settings.worker.sweep_per_s,
                idle=self._idle,
                delay_s=SWEEP_DELAY_S,
            )
        )
        self._sweep.add_done_callback(_told)

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


def _unreadable(messages: Iterable[RawMessage]) -> list[Refused]:
    refused: list[Refused] = []
    for message in messages:
        try:
            LOOKED_THROUGH[message.topic](message.key, message.value)
        except InvalidMessage as error:
            refused.append((message, Outcome.REJECTED.value, str(error)))
    return refused


def _told(task: asyncio.Task[object]) -> None:
    """A sweep that failed is told and not tried again: serving encodes on a miss, the next bundle sweeps anew."""
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.error("the sweep ended early: %s: %s", type(error).__name__, error)
