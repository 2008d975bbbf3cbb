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
from serving.client_errors import InvalidRequest
from serving.messages import ATTRIBUTES, Filters, RecommendationRequest, Recommendations, parse_recommendations
from serving.search_messages import SearchResults
from streams.events import Event

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)
Params = dict[str, str | list[str]]


@dataclass(frozen=True)
class Call(Generic[T]):
    """One request, safe to send again: what it changes is told apart by the ids that stand in it.

    read: the body of a good answer, whose status is a 2xx or one of `good`.
    """

    method: str
    path: str
    read: Callable[[bytes], T]
    params: Params = field(default_factory=dict)
    body: bytes | None = None
    kind: str = "application/json"
    good: tuple[int, ...] = ()


def recommend(request: RecommendationRequest) -> Call[Recommendations]:
    return Call("POST", "/v1/recommendations", parse_recommendations, body=msgspec.json.encode(request))


def recommend_user(customer_id: str, top_k: int, strategy: str, explain: bool) -> Call[Recommendations]:
    params: Params = {"top_k": str(top_k), "strategy": strategy, "explain": str(explain).lower()}
    return Call("GET", f"/v1/recommend/user/{_part(customer_id)}", parse_recommendations, params)


def explain(request_id: str) -> Call[Explanation]:
    return Call("GET", f"/v1/explain/{_part(request_id)}", msgspec.json.Decoder(Explanation).decode)


def similar(article_id: str, by: str, top_k: int, variants: bool) -> Call[Similar]:
    params: Params = {"by": by, "top_k": str(top_k), "variants": str(variants).lower()}
    return Call("GET", f"/v1/articles/{_part(article_id)}/similar", msgspec.json.Decoder(Similar).decode, params)


def article(article_id: str) -> Call[ArticleView]:
    return Call("GET", f"/v1/articles/{_part(article_id)}", _model(ArticleView))


def search_text(query: str, customer_id: str | None, k: int, filters: Filters) -> Call[SearchResults]:
    params: Params = {"q": query, "k": str(k), **_narrowed(customer_id, filters)}
    return Call("GET", "/v1/search/text", msgspec.json.Decoder(SearchResults).decode, params)


def search_image(photo: bytes, customer_id: str | None, scope: str, k: int, filters: Filters) -> Call[SearchResults]:
    params: Params = {"scope": scope, "k": str(k), **_narrowed(customer_id, filters)}
    read = msgspec.json.Decoder(SearchResults).decode
    return Call("POST", "/v1/search/image", read, params, photo, "application/octet-stream")


def _narrowed(customer_id: str | None, filters: Filters) -> Params:
    """Whose taste counts, and the filters, as they stand in the address of a search.

    Raises:
        InvalidRequest: an attribute that no article has.
    """
    unknown = [name for name in filters.attributes if name not in ATTRIBUTES]
    if unknown:
        raise InvalidRequest(f"filters.attributes: {unknown[0]!r}; allowed: {', '.join(ATTRIBUTES)}")
    params: Params = {**filters.attributes}
    if customer_id is not None:
        params["customer_id"] = customer_id
    if filters.exclude_bought:
        params["exclude_bought"] = "true"
    for name, price in (("min_price", filters.min_price), ("max_price", filters.max_price)):
        if price is not None:
            params[name] = str(price)
    return params


def send(events: Sequence[Event]) -> Call[Accepted]:
    return Call("POST", "/v1/events", _model(Accepted), body=msgspec.json.encode(list(events)))


def customers(limit: int) -> Call[Customers]:
    return Call("GET", "/v1/customers", _model(Customers), {"limit": str(limit)})


def customer(customer_id: str, limit: int) -> Call[CustomerView]:
    return Call("GET", f"/v1/customers/{_part(customer_id)}", _model(CustomerView), {"limit": str(limit)})


def history(customer_id: str, limit: int, type: str | None, before: datetime | None) -> Call[History]:
    params: Params = {"limit": str(limit)}
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
