"""Requests in, exactly one answer or error each out; knows nothing of Faust or HTTP.

A micro-batch costs one store round trip. Whatever fails on the way (bad message, store, one request's
ranking) becomes a degraded answer or an error on the topic, never silence. Answers that a language model is to order
(`serving.llm`) wait for it apart from all others, and no longer than their deadline.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Protocol

import msgspec

from infra.clock import Clock, SystemClock
from infra.errors import BundleNotFound, InvalidMessage, Unavailable
from serving.batching import Batches
from serving.impressions import encode_impression, impression_of
from serving.llm import Reranker, noted
from serving.messages import (
    RecommendationRequest,
    Recommendations,
    RequestError,
    encode_recommendations,
    parse_request,
)
from serving.refusals import letter, refusal
from serving.reload import Loaded
from streams.dead_letters import letter_key
from streams.processor import RawMessage
from streams.store import StateStore, StoredCustomer, load_readable
from streams.topics import IMPRESSIONS, RECOMMENDATIONS

log = logging.getLogger(__name__)

MICRO_BATCH = 16  # of answers that one at a time ask for; the last of them waits for all
SENDING_MS = 20  # of its deadline that an answer which waits for the language model keeps for the way out

Outgoing = tuple[str, bytes | None, bytes]


class Source(Protocol):
    """Gives the bundle in use (`serving.live.LiveRuntime` in production)."""

    @property
    def current(self) -> Loaded: ...


class Outlet(Protocol):
    """Publishes (topic, key, value) triples (`infra.kafka.Producer`); returns when the broker has all of
    them.
    """

    async def send_many(self, messages: Sequence[Outgoing]) -> object: ...


@dataclass(frozen=True, eq=False, slots=True)
class Ranked:
    """An answer and what it was made from. loaded: None where there was no bundle. left_ms: of its deadline, at
    `arrived`."""

    request: RecommendationRequest
    answer: Recommendations
    loaded: Loaded | None
    customer: StoredCustomer | None
    arrived: float
    left_ms: float


class Responder:
    """Answers requests from the store and the bundle in use.

    deadline_ms: for requests that name none. store_timeout_ms: how long a batch may wait for the store
    before it is answered without it. `clock` dates impressions; `wall` measures waiting, which is real time
    in a replay too.
    """

    def __init__(
        self,
        source: Source,
        store: StateStore,
        outlet: Outlet,
        clock: Clock,
        *,
        deadline_ms: int = 1_000,
        store_timeout_ms: int = 500,
        wall: Clock | None = None,
        llm: Reranker | None = None,
    ) -> None:
        self._source = source
        self._store = store
        self._outlet = outlet
        self._clock = clock
        self._deadline_ms = deadline_ms
        self._store_timeout_ms = store_timeout_ms
        self._wall = wall or SystemClock()
        self._llm = llm
        self._together = Batches(self._ranked, MICRO_BATCH)

    async def handle(self, messages: Sequence[RawMessage]) -> list[Recommendations]:
        """Answer one batch on the topics; returns all that was published: what waited for the language model last, the
        rest in the order of the messages.

        Raises:
            BrokerUnavailable: an answer was not acknowledged; the batch must be handled again.
        """
        published, waiting = await self.begin(messages)
        return published if waiting is None else published + await waiting()

    async def begin(self, messages: Sequence[RawMessage]) -> tuple[list[Recommendations], Waiting | None]:
        """Answer on the topics what needs no language model, in the order of the messages; returns it, and the rest.

        Raises:
            BrokerUnavailable: an answer was not acknowledged; the batch must be handled again.
        """
        started = time.perf_counter()
        requests: list[RecommendationRequest] = []
        refused: dict[int, Recommendations] = {}
        letters: list[Outgoing] = []
        for place, message in enumerate(messages):
            try:
                requests.append(parse_request(message.value or b""))
            except InvalidMessage as error:
                refused[place] = refusal(message, error)
                letters.append(letter(message, error))
        ranked = iter(await self._ranked([(request, started) for request in requests]))
        answers: list[Recommendations] = []
        outgoing: list[Outgoing] = []
        later: list[tuple[bytes, Ranked]] = []
        for place, message in enumerate(messages):
            one = None if place in refused else next(ranked)
            answer = refused[place] if one is None else one.answer
            key = letter_key(message) or answer.customer_id.encode()
            if one is not None and self._waits(one):
                later.append((key, one))
            else:
                answers.append(answer)
                outgoing.append((RECOMMENDATIONS, key, encode_recommendations(answer)))
        await self._outlet.send_many(outgoing + letters + self._impressions(answers))
        return answers, Waiting(self, later) if later else None

    async def answer(self, requests: Sequence[RecommendationRequest]) -> list[Recommendations]:
        """One answer a request, in order, published nowhere.

        Never raises for a request: errors are answers with `error` set.
        """
        arrived = time.perf_counter()
        ranked = await self._ranked([(request, arrived) for request in requests])
        if not any(map(self._waits, ranked)):
            return [one.answer for one in ranked]
        return list(await asyncio.gather(*map(self.settle, ranked)))

    async def answer_one(self, request: RecommendationRequest) -> Recommendations:
        """As `answer`, in one batch with the others who ask at this moment."""
        return await self.settle(await self._together((request, time.perf_counter())))

    def _waits(self, ranked: Ranked) -> bool:
        return self._llm is not None and ranked.answer.error is None and self._llm.wants(ranked.request)

    async def settle(self, ranked: Ranked) -> Recommendations:
        """The answer as it goes out: ordered by the language model where that is wanted and it answers in time."""
        if self._llm is None or ranked.loaded is None or not self._waits(ranked):
            return ranked.answer
        passed = (time.perf_counter() - ranked.arrived) * 1e3
        answer = await self._llm.rerank(
            ranked.request,
            ranked.answer,
            ranked.loaded,
            None if ranked.customer is None else ranked.customer.state,
            wait_ms=ranked.left_ms - passed - SENDING_MS,
        )
        return _timed(answer, ranked.arrived)

    async def publish(self, key: bytes, answer: Recommendations) -> None:
        """Put one answer on the topic, with its impression.

        Raises:
            BrokerUnavailable: not acknowledged.
        """
        await self._outlet.send_many(
            [(RECOMMENDATIONS, key, encode_recommendations(answer)), *self._impressions([answer])]
        )

    async def _ranked(self, asked: Sequence[tuple[RecommendationRequest, float]]) -> list[Ranked]:
        """An answer for each, in order, without the language model. asked: request, when it arrived by
        `time.perf_counter()`.
        """
        if not asked:
            return []
        requests = [request for request, _ in asked]
        waited = [self._waited_ms(request) for request in requests]
        try:
            loaded = self._source.current
        except BundleNotFound as error:
            told = str(error)
            return [
                Ranked(request, _timed(_fail(request, "not_ready", told, retryable=True), at), None, None, at, 0.0)
                for request, at in asked
            ]
        customers, degraded = await self._customers([request.customer_id for request in requests])
        answers: list[Recommendations | None] = []
        for (request, arrived), before in zip(asked, waited, strict=True):
            spent = before + (time.perf_counter() - arrived) * 1e3
            limit = request.deadline_ms or self._deadline_ms
            answers.append(
                _fail(
                    request,
                    "deadline_exceeded",
                    f"{spent:.0f} ms had passed of {limit} ms before ranking began",
                    retryable=True,
                )
                if spent > limit
                else None
            )
        live = [i for i, answer in enumerate(answers) if answer is None]
        for reasons in dict.fromkeys(degraded[i] for i in live):
            alike = [i for i in live if degraded[i] == reasons]
            ranked = await asyncio.to_thread(
                _rank, loaded, [requests[i] for i in alike], [customers[i] for i in alike], reasons
            )
            for i, answer in zip(alike, ranked, strict=True):
                answers[i] = answer
        return [
            Ranked(
                request,
                _timed(self._told_off(request, answer), arrived),
                loaded,
                customer,
                arrived,
                (request.deadline_ms or self._deadline_ms) - before,
            )
            for (request, arrived), answer, customer, before in zip(asked, answers, customers, waited, strict=True)
            if answer is not None
        ]

    def _told_off(self, request: RecommendationRequest, answer: Recommendations) -> Recommendations:
        """Who asks for a language model where there is none is told so."""
        missing = self._llm is None and request.rerank == "llm" and answer.error is None
        return noted(answer, "llm_off") if missing else answer

    async def refresh(self, requests: Sequence[RecommendationRequest]) -> set[str]:
        """Answer on the topic as a feed; returns the request_ids that were published, or cannot be answered at all.

        What can be answered better later, without a bundle or without the store, is not published: a feed is there to
        tell of what just happened.

        Raises:
            BrokerUnavailable: an answer was not acknowledged.
        """
        answers = await self.answer(requests)
        later = {a.request_id for a in answers if (a.error and a.error.retryable) or "store_unavailable" in a.degraded}
        good = [
            msgspec.structs.replace(answer, trigger="feed")
            for answer in answers
            if answer.error is None and answer.request_id not in later
        ]
        outgoing = [(RECOMMENDATIONS, a.customer_id.encode(), encode_recommendations(a)) for a in good]
        await self._outlet.send_many(outgoing + self._impressions(good))
        return {answer.request_id for answer in answers} - later

    async def refuse(self, refused: Sequence[tuple[RawMessage, InvalidMessage]]) -> None:
        """Put messages that nobody can use on the dead letters.

        Raises:
            BrokerUnavailable: not acknowledged.
        """
        await self._outlet.send_many([letter(message, error) for message, error in refused])

    async def publish_impressions(self, answers: Sequence[Recommendations]) -> None:
        """Tell the topic what was shown by answers that went out another way (HTTP).

        Raises:
            BrokerUnavailable: not acknowledged.
        """
        messages = self._impressions(answers)
        if messages:
            await self._outlet.send_many(messages)

    def _impressions(self, answers: Sequence[Recommendations]) -> list[tuple[str, bytes | None, bytes]]:
        shown_at = self._clock.now()
        made = (impression_of(answer, shown_at) for answer in answers)
        return [(IMPRESSIONS, i.customer_id.encode(), encode_impression(i)) for i in made if i is not None]

    def _waited_ms(self, request: RecommendationRequest) -> float:
        """Time on the way here; a client's clock ahead of ours counts as none."""
        if request.requested_at is None:
            return 0.0
        return max(0.0, (self._wall.now() - request.requested_at).total_seconds() * 1e3)

    async def _customers(
        self, customer_ids: Sequence[str]
    ) -> tuple[list[StoredCustomer | None], list[tuple[str, ...]]]:
        """States aligned with `customer_ids`, read once a customer, and what each answer has to do without."""
        unique = list(dict.fromkeys(customer_ids))
        try:
            async with asyncio.timeout(self._store_timeout_ms / 1e3):
                states, unreadable = await load_readable(self._store, unique)
        except (Unavailable, TimeoutError, OSError) as error:
            log.warning("store unavailable, answering without it: %s", error or type(error).__name__)
            return [None] * len(customer_ids), [("store_unavailable",)] * len(customer_ids)
        for reason in unreadable.values():
            log.error("answering without a state: %s", reason)
        degraded: list[tuple[str, ...]] = [("state_unreadable",) if c in unreadable else () for c in customer_ids]
        return [states.get(customer_id) for customer_id in customer_ids], degraded


class Waiting:
    """Answers of a batch that wait for the language model, each published as soon as it is there."""

    def __init__(self, responder: Responder, later: Sequence[tuple[bytes, Ranked]]) -> None:
        self._responder = responder
        self._later = dict(enumerate(later))
        self._settled: dict[int, Recommendations] = {}

    async def __call__(self) -> list[Recommendations]:
        """Publish all that is not published yet; returns all there were, also those that an earlier call has published.

        Raises:
            BrokerUnavailable: some were not acknowledged; call again for them.
        """
        found = await asyncio.gather(*map(self._publish, list(self._later)), return_exceptions=True)
        for error in found:
            if isinstance(error, BaseException):
                raise error
        return [answer for _, answer in sorted(self._settled.items(), key=itemgetter(0))]

    async def _publish(self, place: int) -> None:
        key, ranked = self._later[place]
        if place not in self._settled:
            self._settled[place] = await self._responder.settle(ranked)
        await self._responder.publish(key, self._settled[place])
        del self._later[place]


def _timed(answer: Recommendations, arrived: float) -> Recommendations:
    return msgspec.structs.replace(answer, latency_ms=round((time.perf_counter() - arrived) * 1e3, 3))


def _rank(
    loaded: Loaded,
    requests: Sequence[RecommendationRequest],
    customers: Sequence[StoredCustomer | None],
    degraded: Sequence[str],
) -> list[Recommendations]:
    """The whole batch at once; one by one when that fails, so that a single request cannot take others with
    it.
    """
    if not requests:
        return []
    try:
        return loaded.pipeline.recommend(requests, customers, degraded=degraded)
    except Exception:
        log.exception("a batch of %d requests failed, trying each alone", len(requests))
    answers = []
    for request, customer in zip(requests, customers, strict=True):
        try:
            answers += loaded.pipeline.recommend([request], [customer], degraded=degraded)
        except Exception as error:  # the request is answered, the log has the traceback
            log.exception("request %s failed", request.request_id)
            answers.append(_fail(request, "internal", f"ranking failed: {type(error).__name__}", retryable=False))
    return answers


def _fail(request: RecommendationRequest, code: str, message: str, *, retryable: bool) -> Recommendations:
    return Recommendations(
        request_id=request.request_id,
        customer_id=request.customer_id,
        strategy=request.strategy,
        error=RequestError(code=code, message=message, retryable=retryable),
    )
