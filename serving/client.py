"""A typed client of the HTTP gateway, in a blocking and an asyncio form; needs the extra `modiste[client]` (httpx).

    with Client("http://127.0.0.1:8000", key=os.environ["MODISTE_KEY"]) as shop:
        answer = shop.recommend_user("1228", top_k=5)
        shop.send([Event(event_id="order-17-1", type="purchase", occurred_at=datetime.now(UTC),
                         customer_id="1228", article_id=answer.items[0].article_id, request_id=answer.request_id)])

Whatever can be sent again is, after a pause, when nobody answers or the gateway says that this can help: events carry
their own ids, so one that arrives twice counts once. Errors are those of `serving.client_errors`.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Self, TypeVar

import httpx
import msgspec
from pydantic import ValidationError

from infra.errors import InvalidMessage
from serving import client_calls as calls
from serving.answers import Explanation, Similar
from serving.api_schemas import Accepted, ArticleView, BundleView, CustomerView, History, Ready
from serving.client_calls import Call
from serving.client_errors import ApiError, UnexpectedAnswer, Unreachable, error_of
from serving.messages import RecommendationRequest, Recommendations
from streams.events import Event

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Retry:
    """How often a call is sent, and how long it waits between: `pause_s`, twice as long each time, shortened at random
    by up to a half so that many clients do not come back together. Asked to wait longer than `longest_s`, it gives up.
    """

    attempts: int = 3
    pause_s: float = 0.2
    longest_s: float = 10.0

    def wait_s(self, attempt: int, error: ApiError) -> float | None:
        """Before the next attempt after `attempt` of them; None to give up."""
        if not error.retryable or attempt >= self.attempts:
            return None
        pause = self.pause_s * 2 ** (attempt - 1) * random.uniform(0.5, 1.0)
        wait = max(pause, error.retry_after_s or 0.0)
        return None if wait > self.longest_s else wait


def _headers(key: str | None) -> dict[str, str]:
    named = {"user-agent": "modiste-client"}
    return named if key is None else named | {"authorization": f"Bearer {key}"}


def _request(http: httpx.Client | httpx.AsyncClient, call: Call[T]) -> httpx.Request:
    headers = {} if call.body is None else {"content-type": "application/json"}
    return http.build_request(call.method, call.path, params=call.params, content=call.body, headers=headers)


def _read(call: Call[T], response: httpx.Response) -> T:
    """The answer.

    Raises:
        ApiError: it is none.
    """
    if not response.is_success and response.status_code not in call.good:
        raise error_of(response.status_code, response.headers, response.content)
    try:
        return call.read(response.content)
    except (ValidationError, InvalidMessage, msgspec.DecodeError) as error:
        said = response.content[:80].decode(errors="replace")
        raise UnexpectedAnswer(
            f"{call.method} {call.path} was answered by something else: {said!r}", status=response.status_code
        ) from error


def _unreachable(call: Call[T], error: httpx.TransportError) -> Unreachable:
    return Unreachable(f"{call.method} {call.path}: {error or type(error).__name__}")


class Client:
    """Blocking; for one thread or many. All methods may raise ApiError.

    Args:
        url: of the gateway, without a path. key: as `modiste serving keys new` prints it. timeout_s: of one attempt.
    """

    def __init__(self, url: str, *, key: str | None = None, timeout_s: float = 5.0, retry: Retry | None = None) -> None:
        self._http = httpx.Client(base_url=url, headers=_headers(key), timeout=timeout_s)
        self._retry = retry or Retry()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def recommend(self, request: RecommendationRequest) -> Recommendations:
        """Everything that can be asked of a recommendation; sent again it has the same request_id."""
        return self._run(calls.recommend(request))

    def recommend_user(
        self, customer_id: str, *, top_k: int = 12, strategy: str = "full", explain: bool = False
    ) -> Recommendations:
        return self._run(calls.recommend_user(customer_id, top_k, strategy, explain))

    def explain(self, request_id: str) -> Explanation:
        """Why an answer was what it was; NotFound when it is not kept any more."""
        return self._run(calls.explain(request_id))

    def similar(self, article_id: str, *, by: str = "content", top_k: int = 12, variants: bool = True) -> Similar:
        return self._run(calls.similar(article_id, by, top_k, variants))

    def article(self, article_id: str) -> ArticleView:
        return self._run(calls.article(article_id))

    def send(self, events: Sequence[Event]) -> Accepted:
        """Up to 1000 events; returns when the broker has all of them."""
        return self._run(calls.send(events))

    def customers(self, limit: int = 30) -> list[str]:
        return self._run(calls.customers(limit)).customer_ids

    def customer(self, customer_id: str, *, limit: int = 50) -> CustomerView:
        return self._run(calls.customer(customer_id, limit))

    def history(
        self, customer_id: str, *, limit: int = 50, type: str | None = None, before: datetime | None = None
    ) -> History:
        return self._run(calls.history(customer_id, limit, type, before))

    def bundle(self) -> BundleView:
        return self._run(calls.bundle())

    def ready(self) -> Ready:
        """Also when something is not there: `checks` says what."""
        return self._run(calls.ready())

    def _run(self, call: Call[T]) -> T:
        attempt = 0
        while True:
            attempt += 1
            try:
                return _read(call, self._http.send(_request(self._http, call)))
            except httpx.TransportError as error:
                failure: ApiError = _unreachable(call, error)
                failure.__cause__ = error
            except ApiError as error:
                failure = error
            wait = self._retry.wait_s(attempt, failure)
            if wait is None:
                raise failure
            time.sleep(wait)


class AsyncClient:
    """As Client, for asyncio; its methods are those of Client, to be awaited."""

    def __init__(self, url: str, *, key: str | None = None, timeout_s: float = 5.0, retry: Retry | None = None) -> None:
        self._http = httpx.AsyncClient(base_url=url, headers=_headers(key), timeout=timeout_s)
        self._retry = retry or Retry()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.aclose()

    async def recommend(self, request: RecommendationRequest) -> Recommendations:
        return await self._run(calls.recommend(request))

    async def recommend_user(
        self, customer_id: str, *, top_k: int = 12, strategy: str = "full", explain: bool = False
    ) -> Recommendations:
        return await self._run(calls.recommend_user(customer_id, top_k, strategy, explain))

    async def explain(self, request_id: str) -> Explanation:
        return await self._run(calls.explain(request_id))

    async def similar(self, article_id: str, *, by: str = "content", top_k: int = 12, variants: bool = True) -> Similar:
        return await self._run(calls.similar(article_id, by, top_k, variants))

    async def article(self, article_id: str) -> ArticleView:
        return await self._run(calls.article(article_id))

    async def send(self, events: Sequence[Event]) -> Accepted:
        return await self._run(calls.send(events))

    async def customers(self, limit: int = 30) -> list[str]:
        return (await self._run(calls.customers(limit))).customer_ids

    async def customer(self, customer_id: str, *, limit: int = 50) -> CustomerView:
        return await self._run(calls.customer(customer_id, limit))

    async def history(
        self, customer_id: str, *, limit: int = 50, type: str | None = None, before: datetime | None = None
    ) -> History:
        return await self._run(calls.history(customer_id, limit, type, before))

    async def bundle(self) -> BundleView:
        return await self._run(calls.bundle())

    async def ready(self) -> Ready:
        return await self._run(calls.ready())

    async def _run(self, call: Call[T]) -> T:
        attempt = 0
        while True:
            attempt += 1
            try:
                return _read(call, await self._http.send(_request(self._http, call)))
            except httpx.TransportError as error:
                failure: ApiError = _unreachable(call, error)
                failure.__cause__ = error
            except ApiError as error:
                failure = error
            wait = self._retry.wait_s(attempt, failure)
            if wait is None:
                raise failure
            await asyncio.sleep(wait)
