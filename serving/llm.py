"""Lets a language model order the best of an answer and say why, and is never in the way of the answer.

    answer -> question -> kept? -> breaker -> call (bounded in number and time) -> verdict -> the same items, reordered

An answer waits for `wait_ms` at most; the call it began goes on to its own deadline, and what it says is kept for the
customer's next request. Whatever goes wrong, the answer is the one that was there before, with a note in `degraded`:

    llm_off      no endpoint is configured      llm_late     it takes longer than the answer may wait
    llm_paused   it failed too often            llm_busy     too many calls at once
    llm_failed   no sound HTTP answer           llm_invalid  not an order of what it was asked about
    llm_budget   not even two articles fit into the tokens of a question
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from infra.clock import Clock
from infra.settings import LlmSettings
from infra.telemetry import counter, histogram
from serving.llm_breaker import Breaker, Kept
from serving.llm_client import CallFailed, ChatClient, Completion
from serving.llm_prompt import Question, ask
from serving.llm_verdict import BadVerdict, Verdict, read_verdict
from serving.messages import Item, RecommendationRequest, Recommendations
from serving.reload import Loaded
from streams.events import to_micros
from streams.state import CustomerState

logger = logging.getLogger(__name__)

WAITING = 16  # calls begun for each one that may run: the rest of them wait for their turn
VARIANT = "llm"
PIN = "pin"  # as `Item.source` begins where a rule chose the place

ANSWERS = counter("llm_answers", "Answers that a language model was to order, by outcome.", ["outcome"])
SECONDS = histogram("llm_call_seconds", "Calls to the language model, the waiting for their turn not counted.")
TOKENS = counter("llm_tokens", "Tokens as the endpoint counts them, of questions and of answers.", ["of"])
REASONS = counter("llm_reasons", "Sentences of the language model, shown or refused.", ["verdict"])


# The outcome as `ANSWERS` counts it, and the verdict where there is one.
Outcome = tuple[str, Verdict | None]


class Chat(Protocol):
    """What is needed of `serving.llm_client.ChatClient`."""

    async def complete(self, question: Question) -> Completion: ...

    async def close(self) -> None: ...


class Reranker:
    """Orders answers through one endpoint, in one event loop, until closed."""

    def __init__(
        self, settings: LlmSettings, chat: Chat, clock: Clock, *, seconds: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings = settings
        self._chat = chat
        self._clock = clock
        self._breaker = Breaker(settings.pause_after, settings.pause_ms / 1e3, seconds)
        self._kept: Kept[Verdict] = Kept(settings.cache_answers, settings.cache_ttl_ms / 1e3, seconds)
        self._slots = asyncio.Semaphore(settings.concurrency)
        self._calls: dict[bytes, asyncio.Task[Outcome]] = {}
        self._closed = False

    def wants(self, request: RecommendationRequest) -> bool:
        """Whether the answer to this request is to be ordered here."""
        return request.rerank == "llm" or (request.rerank is None and self._settings.rerank == "always")

    async def rerank(
        self,
        request: RecommendationRequest,
        answer: Recommendations,
        loaded: Loaded,
        state: CustomerState | None,
        *,
        wait_ms: float,
    ) -> Recommendations:
        """The answer with its own items in another order, or as it was with a note why.

        wait_ms: how long the answer can wait, beside the setting of this name. Never raises.
        """
        started = time.perf_counter()
        places = movable(answer.items)[: self._settings.top_n]
        if answer.error is not None or len(places) < 2:
            return answer
        items = [answer.items[place] for place in places]
        try:
            now = to_micros(self._clock.now())
            question = ask(loaded, items, state, now, budget=self._settings.prompt_tokens)
        except Exception:  # whatever stands in catalogue or state, the answer goes out
            logger.exception("no question could be made for request %s", request.request_id)
            ANSWERS.labels("failed").inc()
            return noted(answer, "llm_failed")
        said, verdict = await self._verdict(question, min(wait_ms, self._settings.wait_ms) / 1e3)
        ANSWERS.labels(said).inc()
        answer = noted(answer, f"llm_{said}") if verdict is None else retold(reordered(answer, places, verdict))
        if request.explain:
            ms = round((time.perf_counter() - started) * 1e3, 3)
            asked = 0 if question is None else question.count
            answer = msgspec.structs.replace(
                answer, trace=[*answer.trace, {"stage": "llm", "outcome": said, "asked": asked, "ms": ms}]
            )
        return answer

    async def close(self) -> None:
        """End what still runs and the connections."""
        self._closed = True
        calls = list(self._calls.values())
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        await self._chat.close()

    async def _verdict(self, question: Question | None, wait_s: float) -> Outcome:
        if question is None:
            return "budget", None
        # All that a verdict can depend on: what state and articles say, not which version of them says it.
        key = hashlib.sha256(question.data.encode()).digest()
        kept = self._kept.get(key)
        if kept is not None:
            return "cached", kept
        call = self._calls.get(key) or self._begin(key, question, wait_s)
        if isinstance(call, str):
            return call, None
        done, _ = await asyncio.wait({call}, timeout=max(0.0, wait_s))
        if not done:
            return "late", None
        return ("off", None) if call.cancelled() else call.result()

    def _begin(self, key: bytes, question: Question, wait_s: float) -> asyncio.Task[Outcome] | str:
        """A call, or why none is made."""
        if self._closed:
            return "off"
        if wait_s <= 0:
            return "late"
        if len(self._calls) >= self._settings.concurrency * WAITING:
            return "busy"
        if not self._breaker.admits():
            return "paused"
        call = asyncio.create_task(self._call(key, question), name="llm-call")
        self._calls[key] = call
        call.add_done_callback(lambda _: self._calls.pop(key, None))
        return call

    async def _call(self, key: bytes, question: Question) -> Outcome:
        began: float | None = None
        try:
            async with asyncio.timeout(self._settings.deadline_ms / 1e3), self._slots:
                began = time.perf_counter()
                completion = await self._chat.complete(question)
            TOKENS.labels("question").inc(completion.prompt_tokens)
            TOKENS.labels("answer").inc(completion.answer_tokens)
            verdict = read_verdict(completion.content, question)
        except TimeoutError:
            if began is None:
                self._breaker.abandoned()
                return "busy", None
            return self._failed("late", f"no answer within {self._settings.deadline_ms} ms")
        except CallFailed as error:
            return self._failed("failed", str(error), error.retry_after_s)
        except BadVerdict as error:
            return self._failed("invalid", str(error))
        except Exception as error:  # a bug here or in a library must not cost the answer
            logger.exception("a call to the language model broke")
            return self._failed("failed", type(error).__name__)
        except asyncio.CancelledError:
            self._breaker.abandoned()
            raise
        finally:
            if began is not None:
                SECONDS.observe(time.perf_counter() - began)
        self._breaker.succeeded()
        self._kept.put(key, verdict)
        REASONS.labels("shown").inc(sum(reason is not None for reason in verdict.reasons))
        REASONS.labels("refused").inc(sum(reason is None for reason in verdict.reasons))
        return "reranked", verdict

    def _failed(self, said: str, why: str, pause_s: float | None = None) -> Outcome:
        pause = self._breaker.failed(pause_s)
        if pause is None:
            logger.info("the language model: %s", why)
        else:
            logger.warning("the language model is left alone for %.0f s: %s", pause, why)
        return said, None


def open_reranker(settings: LlmSettings, clock: Clock) -> Reranker | None:
    """None where no endpoint is configured. Makes no connection yet: an endpoint that is away ends no process.

    Raises:
        ConfigurationError: the file of the key cannot be read.
    """
    return None if settings.url is None else Reranker(settings, ChatClient(settings), clock)


def movable(items: Sequence[Item]) -> list[int]:
    """Places of the items that may change theirs: all but those that a rule has put where they are."""
    return [place for place, item in enumerate(items) if item.source.partition("+")[0] != PIN]


def reordered(answer: Recommendations, places: Sequence[int], verdict: Verdict) -> Recommendations:
    """The items at the first of `places` in the verdict's order, every place with its own rank; all others stay."""
    items = list(answer.items)
    for place, chosen in zip(places, verdict.order, strict=False):
        item = answer.items[places[chosen]]
        reason = verdict.reasons[chosen] or item.reason
        items[place] = msgspec.structs.replace(item, rank=answer.items[place].rank, reason=reason)
    return msgspec.structs.replace(answer, items=items, variant=VARIANT)


def retold(answer: Recommendations) -> Recommendations:
    """With a trace that says of each item the rank and the reason that it has now, in the order of now."""
    told = {entry["article_id"]: entry for entry in answer.trace if entry.get("stage") == "item"}
    if not told:
        return answer
    now = iter([_told(told[item.article_id], item) for item in answer.items if item.article_id in told])
    trace = [next(now, entry) if entry.get("stage") == "item" else entry for entry in answer.trace]
    return msgspec.structs.replace(answer, trace=trace)


def _told(entry: dict[str, str | int | float], item: Item) -> dict[str, str | int | float]:
    reason: dict[str, str | int | float] = {} if item.reason is None else {"reason": item.reason}
    return {**entry, "rank": item.rank, **reason}


def noted(answer: Recommendations, why: str) -> Recommendations:
    """The same with one reason more why it is less than it should be."""
    return msgspec.structs.replace(answer, degraded=[*answer.degraded, why])
