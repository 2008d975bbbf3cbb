"""The Faust responder: batches of requests from the topic to the responder, offsets after the answers."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import faust

from infra.clock import Clock
from infra.errors import ModisteError
from infra.kafka import Producer, ensure_topics
from infra.settings import Settings, make_clock
from infra.telemetry import counter, histogram
from serving.explanations import Explanations
from serving.feed import Feed
from serving.live import LiveRuntime
from serving.llm import Reranker, open_reranker
from serving.messages import Recommendations
from serving.redis_explanations import open_explanations
from serving.responder import Responder
from streams.agents import Later, build_batch_app
from streams.processor import RawMessage
from streams.redis_store import open_store
from streams.store import StateStore
from streams.subscriptions import Subscriptions
from streams.topics import REQUESTS, topic_specs

logger = logging.getLogger(__name__)

ANSWERS = counter("answers", "Requests answered on the topic, by result.", ["result"])
SECONDS = histogram("answer_seconds", "From a request's arrival at the responder to its answer.")


class RespondingProcess:
    """Owns what one responder needs; call it with batches between start and stop."""

    def __init__(self, settings: Settings, *, clock: Clock | None = None) -> None:
        self._settings = settings
        self._clock = clock or make_clock(settings.clock)
        self._holder = LiveRuntime(settings, self._clock)
        self._producer = Producer(settings.kafka)
        self._store: StateStore | None = None
        self._responder: Responder | None = None
        self._llm: Reranker | None = None
        self._feed: Feed | None = None
        self._explanations: Explanations | None = None

    async def start(self) -> None:
        """Connect and load the channel's bundle; without one, requests are answered with error `not_ready`.

        Raises:
            ConfigurationError, BrokerUnavailable, StoreUnavailable: as the message says.
        """
        settings = self._settings
        self._llm = open_reranker(settings.llm, self._clock)
        await ensure_topics(settings.kafka, topic_specs(settings.kafka))
        self._store = await open_store(settings.redis)
        self._explanations = await open_explanations(settings)
        await self._producer.start()
        await self._holder.start()
        self._responder = Responder(
            self._holder,
            self._store,
            self._producer,
            self._clock,
            deadline_ms=settings.responder.deadline_ms,
            store_timeout_ms=settings.redis.timeout_ms,
            llm=self._llm,
        )
        self._feed = Feed(settings, self._responder, Subscriptions(settings.kafka), self._clock)
        await self._feed.start()

    async def stop(self) -> None:
        if self._feed is not None:
            await self._feed.stop()
        if self._llm is not None:
            await self._llm.close()
        await self._holder.stop()
        try:
            await self._producer.stop()
        except ModisteError as error:
            logger.warning("stopped without the broker: %s", error)
        if self._explanations is not None:
            await self._explanations.close()
        if self._store is not None:
            await self._store.close()

    async def __call__(self, messages: list[RawMessage]) -> Later | None:
        """Answer a batch; returns when the broker has every answer but those that wait for the language model.

        Raises:
            BrokerUnavailable: give the same batch again.
        """
        if self._responder is None:
            raise RuntimeError("the responder was given a batch before start()")
        published, waiting = await self._responder.begin(messages)
        await self._told(published)
        if waiting is None:
            return None

        async def later() -> None:
            await self._told(await waiting())

        return later

    async def _told(self, answers: Sequence[Recommendations]) -> None:
        """What is on the topic is counted, and can be explained from now on."""
        if self._explanations is not None:
            asked = [answer for answer in answers if answer.trace]
            await self._explanations.share(asked, self._clock.now())
        for answer in answers:
            ANSWERS.labels(answer.error.code if answer.error else "ok").inc()
            SECONDS.observe(answer.latency_ms / 1e3)

    async def reload(self, _: bytes) -> None:
        """A channel has moved somewhere: look at ours."""
        await self._holder.refresh()


def build_responder(settings: Settings, *, clock: Clock | None = None) -> faust.App:
    """The responder as a Faust app.

    Raises:
        ConfigurationError: the settings name no broker.
    """
    process = RespondingProcess(settings, clock=clock)
    return build_batch_app(
        name="responder",
        settings=settings,
        topics=[REQUESTS],
        group=settings.responder.group,
        batch_size=settings.responder.batch_size,
        handler=process,
        on_start=process.start,
        on_stop=process.stop,
        on_bundle=process.reload,
    )
