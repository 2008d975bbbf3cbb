"""HTTP routes of events: what happened goes in, and the newest of it can be seen."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Annotated, Any, cast

import msgspec
from fastapi import APIRouter, Query, Request

from infra.errors import InvalidMessage
from serving.api_problems import Problem
from serving.api_routes import ASKED, PROBLEMS, Needs, body, decode, reference
from serving.api_schemas import Accepted, ActivityRow, Recent
from streams.events import EVENT_TYPES, Event
from streams.processor import MAX_AHEAD, admitted

MAX_EVENTS_A_CALL = 1_000

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
EVENTS_SCHEMA = {
    "oneOf": [
        reference("Event"),
        {"type": "array", "minItems": 1, "maxItems": MAX_EVENTS_A_CALL, "items": reference("Event")},
    ]
}

router = APIRouter(tags=["events"])


@router.post(
    "/v1/events",
    summary="Say that something happened",
    status_code=202,
    responses=PROBLEMS,
    openapi_extra=body(EVENTS_SCHEMA, EVENT_EXAMPLES),
)
async def events(request: Request, gateway: Needs) -> Accepted:
    """One event or a list of up to 1000; 202 after the broker has acknowledged all. All or none are taken. An event
    that comes again under its `event_id` changes nothing."""
    given = decode(await request.body())
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
    """Events, and what was refused with its place. Missing ids and times are filled in before parsing. What the worker
    would not take is refused here too."""
    latest = now + MAX_AHEAD
    parsed: list[Event] = []
    refused: list[dict[str, object]] = []
    for index, row in enumerate(rows):
        try:
            if not isinstance(row, dict):
                raise InvalidMessage(f"expected an object, given {type(row).__name__}")
            filled = {"event_id": str(uuid.uuid4()), "occurred_at": now, **row}
            parsed.append(admitted(msgspec.json.encode(filled), latest))
        except InvalidMessage as error:
            refused.append({"index": index, "message": str(error)})
    return parsed, refused


@router.get("/v1/activity", summary="What happened last, anywhere in the shop", responses=ASKED)
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
