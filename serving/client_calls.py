"""The calls of the HTTP gateway as values: what is sent, and how the answer is read. Knows nothing of sockets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic, TypeVar
from urllib.parse import quote

import msgspec
from pydantic import BaseModel

from serving.answers import Explanation, Similar
from serving.api_schemas import Accepted, ArticleView, BundleView, Customers, CustomerView, History, Ready
from serving.messages import RecommendationRequest, Recommendations, parse_recommendations
from streams.events import Event

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True)
class Call(Generic[T]):
    """One request, safe to send again: what it changes is told apart by the ids that stand in it.

    read: the body of a good answer, whose status is a 2xx or one of `good`.
    """

    method: str
    path: str
    read: Callable[[bytes], T]
    params: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    good: tuple[int, ...] = ()


def recommend(request: RecommendationRequest) -> Call[Recommendations]:
    return Call("POST", "/v1/recommendations", parse_recommendations, body=msgspec.json.encode(request))


def recommend_user(customer_id: str, top_k: int, strategy: str, explain: bool) -> Call[Recommendations]:
    params = {"top_k": str(top_k), "strategy": strategy, "explain": str(explain).lower()}
    return Call("GET", f"/v1/recommend/user/{_part(customer_id)}", parse_recommendations, params)


def explain(request_id: str) -> Call[Explanation]:
    return Call("GET", f"/v1/explain/{_part(request_id)}", msgspec.json.Decoder(Explanation).decode)


def similar(article_id: str, by: str, top_k: int, variants: bool) -> Call[Similar]:
    params = {"by": by, "top_k": str(top_k), "variants": str(variants).lower()}
    return Call("GET", f"/v1/articles/{_part(article_id)}/similar", msgspec.json.Decoder(Similar).decode, params)


def article(article_id: str) -> Call[ArticleView]:
    return Call("GET", f"/v1/articles/{_part(article_id)}", _model(ArticleView))


def send(events: Sequence[Event]) -> Call[Accepted]:
    return Call("POST", "/v1/events", _model(Accepted), body=msgspec.json.encode(list(events)))


def customers(limit: int) -> Call[Customers]:
    return Call("GET", "/v1/customers", _model(Customers), {"limit": str(limit)})


def customer(customer_id: str, limit: int) -> Call[CustomerView]:
    return Call("GET", f"/v1/customers/{_part(customer_id)}", _model(CustomerView), {"limit": str(limit)})


def history(customer_id: str, limit: int, type: str | None, before: datetime | None) -> Call[History]:
    params = {"limit": str(limit)}
    if type is not None:
        params["type"] = type
    if before is not None:
        params["before"] = before.isoformat()
    return Call("GET", f"/v1/customers/{_part(customer_id)}/history", _model(History), params)


def bundle() -> Call[BundleView]:
    return Call("GET", "/v1/bundle", _model(BundleView))


def ready() -> Call[Ready]:
    return Call("GET", "/readyz", _model(Ready), good=(503,))


def _part(given: str) -> str:
    """An id as one part of a path."""
    return quote(given, safe="")


def _model(kind: type[M]) -> Callable[[bytes], M]:
    return kind.model_validate_json
