"""The JSON half of the gateway: events in, recommendations out, what is known of a customer, health."""

from __future__ import annotations

import uuid
from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any, cast

import msgspec
from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi import Path as PathParam
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel

from infra.errors import InvalidMessage
from serving.api_gateway import HISTORY_SHOWN, SAMPLE_MAX, Gateway
from serving.api_problems import MAX_BODY_BYTES, Problem
from serving.messages import STRATEGIES, encode_recommendations, parse_request
from streams.events import EVENT_TYPES, Event, parse_event

MAX_EVENTS_A_CALL = 1_000

STATUS_OF_ERROR = {
    "deadline_exceeded": HTTPStatus.SERVICE_UNAVAILABLE,
    "not_ready": HTTPStatus.SERVICE_UNAVAILABLE,
    "internal": HTTPStatus.INTERNAL_SERVER_ERROR,
}

REQUEST_EXAMPLES = {
    "short": {"summary": "Twelve articles for a customer", "value": {"customer_id": "1228"}},
    "filtered": {
        "summary": "Five articles not bought before, at most 10 each, with the trace",
        "value": {
            "request_id": "r-1",
            "customer_id": "1228",
            "k": 5,
            "strategy": "full",
            "filters": {"exclude_bought": True, "max_price": 10.0},
            "explain": True,
        },
    },
}
EVENT_EXAMPLES = {
    "purchase": {
        "summary": "One purchase, now",
        "value": {"type": "purchase", "customer_id": "1228", "article_id": "1082185", "price": 1.99},
    },
    "many": {
        "summary": "Several at once, with their own ids and times",
        "value": [
            {
                "event_id": "e-1",
                "type": "view",
                "occurred_at": "2017-12-24T10:00:00Z",
                "customer_id": "1228",
                "article_id": "1082185",
            },
            {
                "event_id": "e-2",
                "type": "purchase",
                "occurred_at": "2017-12-24T10:01:00Z",
                "customer_id": "1228",
                "article_id": "1082185",
                "quantity": 2,
            },
        ],
    },
}

EVENT_SCHEMA = {
    "type": "object",
    "required": ["type", "customer_id", "article_id"],
    "properties": {
        "event_id": {"type": "string", "description": "made up when missing"},
        "type": {"type": "string", "enum": list(EVENT_TYPES)},
        "occurred_at": {"type": "string", "format": "date-time", "description": "now when missing"},
        "customer_id": {"type": "string"},
        "article_id": {"type": "string"},
        "price": {"type": "number", "minimum": 0},
        "quantity": {"type": "integer", "minimum": 1, "default": 1},
        "request_id": {"type": "string", "description": "of the answer that showed the article"},
    },
}

router = APIRouter()


class Accepted(BaseModel):
    """The broker has these events."""

    event_ids: list[str]
    occurred_at: datetime


class HistoryRow(BaseModel):
    """One event of a customer; `price` is what was paid, or the list price where that is unknown."""

    article_id: str
    title: str | None
    category: str | None
    department: str | None
    price: float | None
    type: str
    quantity: int
    occurred_at: datetime


class TypeTotals(BaseModel):
    """Events of one type; `spent` is the sum of the prices that are known."""

    events: int
    pieces: int
    spent: float


class TotalsView(BaseModel):
    """All events of a customer, also those too old to be listed; `first` is the time of the oldest."""

    events: int
    first: datetime | None
    types: dict[str, TypeTotals]


class CustomerView(BaseModel):
    """What is known of a customer: totals, and the `events` newest ones, newest first. `as_of` is null and
    `known` false for an id never seen.
    """

    customer_id: str
    known: bool
    as_of: datetime | None
    events: int
    totals: TotalsView
    history: list[HistoryRow]


class Customers(BaseModel):
    customer_ids: list[str]


class Ready(BaseModel):
    ready: bool
    checks: dict[str, str]
    bundle_id: str | None = None
    refused: str | None = None


class ActivityRow(BaseModel):
    number: int
    type: str
    customer_id: str
    article_id: str
    title: str | None
    occurred_at: datetime


class Recent(BaseModel):
    count: int
    recent: list[ActivityRow]


def get_gateway(request: Request) -> Gateway:
    """The gateway that the lifespan opened."""
    return cast(Gateway, request.state.gateway)


Needs = Annotated[Gateway, Depends(get_gateway)]
CustomerId = Annotated[str, PathParam(min_length=1, max_length=128, examples=["1228"])]


def _body(examples: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    content = {"application/json": {"schema": schema, "examples": examples}}
    return {"requestBody": {"required": True, "content": content}}


def _problem(description: str) -> dict[str, Any]:
    schema = {
        "type": "object",
        "properties": {
            "type": {"type": "string"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
        },
    }
    return {"description": description, "content": {"application/problem+json": {"schema": schema}}}


PROBLEMS: dict[int | str, dict[str, Any]] = {
    400: _problem("The body is not JSON."),
    413: _problem(f"The body is over {MAX_BODY_BYTES} bytes."),
    422: _problem("A field is missing, misspelt or out of range; `detail` says what is allowed."),
    503: _problem("Store, broker or bundle is away; trying again can help."),
}


def _decode(body: bytes) -> object:
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Problem(400, f"the body is not JSON: {error}", given=body[:80].decode(errors="replace")) from error


@router.post(
    "/v1/recommendations",
    summary="Recommend articles for a customer",
    tags=["recommendations"],
    responses={
        200: {"description": "A `Recommendations` message, as on the topic of that name."},
        **PROBLEMS,
    },
    openapi_extra=_body(
        REQUEST_EXAMPLES,
        {
            "type": "object",
            "required": ["customer_id"],
            "properties": {
                "request_id": {"type": "string"},
                "customer_id": {"type": "string"},
                "k": {"type": "integer", "minimum": 1, "maximum": 200, "default": 12},
                "strategy": {"type": "string", "enum": list(STRATEGIES)},
                "filters": {"type": "object"},
                "exclude": {"type": "array", "items": {"type": "string"}},
                "deadline_ms": {"type": "integer", "minimum": 1},
                "explain": {"type": "boolean"},
            },
        },
    ),
)
async def recommend(request: Request, gateway: Needs) -> Response:
    """The request as on the topic; without `request_id` one is made up."""
    given = _decode(await request.body())
    if not isinstance(given, dict):
        raise Problem(422, f"expected one request object, given {type(given).__name__}")
    given.setdefault("request_id", str(uuid.uuid4()))
    answer = await gateway.recommend(parse_request(msgspec.json.encode(given)))
    if answer.error is not None:
        raise Problem(
            STATUS_OF_ERROR.get(answer.error.code, HTTPStatus.INTERNAL_SERVER_ERROR),
            answer.error.message,
            code=answer.error.code,
            retryable=answer.error.retryable,
            request_id=answer.request_id,
        )
    return Response(encode_recommendations(answer), media_type="application/json")


@router.post(
    "/v1/events",
    summary="Say that something happened",
    tags=["events"],
    status_code=202,
    responses=PROBLEMS,
    openapi_extra=_body(
        EVENT_EXAMPLES,
        {
            "oneOf": [
                EVENT_SCHEMA,
                {"type": "array", "minItems": 1, "maxItems": MAX_EVENTS_A_CALL, "items": EVENT_SCHEMA},
            ]
        },
    ),
)
async def events(request: Request, gateway: Needs) -> Accepted:
    """One event or a list of up to 1000; 202 after the broker has acknowledged all. All or none are taken."""
    given = _decode(await request.body())
    rows = given if isinstance(given, list) else [given]
    if not 1 <= len(rows) <= MAX_EVENTS_A_CALL:
        raise Problem(
            422,
            f"{len(rows)} events given; 1 to {MAX_EVENTS_A_CALL} are allowed in one call",
            given=len(rows),
            allowed=MAX_EVENTS_A_CALL,
        )
    now = gateway.clock.now()
    parsed, refused = _parse_events(rows, now)
    if refused:
        first = refused[0]
        raise Problem(
            422,
            f"{len(refused)} of {len(rows)} events refused, none taken; event {first['index']}: {first['message']}",
            errors=refused[:20],
            allowed_types=list(EVENT_TYPES),
        )
    await gateway.produce(parsed)
    return Accepted(
        event_ids=[event.event_id for event in parsed],
        occurred_at=max(event.occurred_at for event in parsed),
    )


def _parse_events(rows: list[Any], now: datetime) -> tuple[list[Event], list[dict[str, object]]]:
    """Events, and what was refused with its place. Missing ids and times are filled in before parsing."""
    parsed: list[Event] = []
    refused: list[dict[str, object]] = []
    for index, row in enumerate(rows):
        try:
            if not isinstance(row, dict):
                raise InvalidMessage(f"expected an object, given {type(row).__name__}")
            filled = {"event_id": str(uuid.uuid4()), "occurred_at": now, **row}
            parsed.append(parse_event(msgspec.json.encode(filled)))
        except InvalidMessage as error:
            refused.append({"index": index, "message": str(error)})
    return parsed, refused


@router.get("/v1/customers", summary="Some customers that are known", tags=["customers"], responses=PROBLEMS)
async def customers(gateway: Needs, limit: Annotated[int, Query(ge=1, le=SAMPLE_MAX)] = 30) -> Customers:
    """Ids in no particular order."""
    return Customers(customer_ids=await gateway.store.customer_ids(limit))


@router.get(
    "/v1/customers/{customer_id}",
    summary="What is known of a customer",
    tags=["customers"],
    responses=PROBLEMS,
)
async def customer(
    customer_id: CustomerId, gateway: Needs, limit: Annotated[int, Query(ge=0, le=1_000)] = HISTORY_SHOWN
) -> CustomerView:
    """Recent history with titles. Any id is answered: a customer never seen has no history yet."""
    return CustomerView.model_validate(await gateway.customer(customer_id, limit))


@router.get("/v1/activity", summary="What happened last, anywhere in the shop", tags=["customers"])
async def activity(gateway: Needs, limit: Annotated[int, Query(ge=1, le=50)] = 12) -> Recent:
    """Newest first; `count` is the number of events this process has seen on the topic."""
    rows = [
        ActivityRow(
            number=seen.number,
            type=seen.type,
            customer_id=seen.customer_id,
            article_id=seen.article_id,
            title=cast("str | None", gateway.describe(seen.article_id)["title"]),
            occurred_at=seen.occurred_at,
        )
        for seen in gateway.activity.recent(limit)
    ]
    return Recent(count=gateway.activity.count, recent=rows)


@router.get("/healthz", summary="The process runs", tags=["health"])
async def healthz() -> dict[str, str]:
    """Says nothing of what it needs; see /readyz."""
    return {"status": "ok"}


@router.get("/readyz", summary="Everything needed is there", tags=["health"], responses={503: {"model": Ready}})
async def readyz(gateway: Needs, response: Response) -> Ready:
    """Store, broker and bundle, each by name; 503 when one is not there."""
    checks = await gateway.checks()
    ready = all(value == "ok" for value in checks.values())
    if not ready:
        response.status_code = 503
    refusal = gateway.holder.refusal
    return Ready(
        ready=ready,
        checks=checks,
        bundle_id=gateway.holder.current.bundle_id if checks["bundle"] == "ok" else None,
        refused=f"{refusal.bundle_id}: {refusal.reason}" if refusal else None,
    )


@router.get("/metrics", summary="Prometheus metrics", tags=["health"])
async def metrics() -> Response:
    """Text format of the Prometheus client."""
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
