"""What happens in the shop, told to open pages as it happens: one stream of server-sent events a page.

    acts   {count, rows}: the newest of what happened since the last one, at most twice a second
    feed   {event_id, ms}: the state of the page's customer has this event, so that a new answer knows it; `ms` after
           the event was read from the topic
    beat   {count}: nothing happened for a while, but the line is alive

Nothing is queued for a page: each reads the ring of the last events for itself, so one that is slow misses some and
holds up nobody. A browser that lost the line comes back by itself and says in `Last-Event-ID` how far it had read.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Header, Query
from fastapi.responses import StreamingResponse

from infra.errors import Unavailable
from serving.activity import Activity
from serving.api_front import Front, Fronts, picture_url
from serving.api_gateway import Gateway
from serving.api_routes import Needs
from serving.known import until_known
from serving.page_view import named

SHOWN = 12
PACE_S = 0.5
BEAT_S = 10.0
RETRY_MS = 2_000
# A browser opens a new line at once; one that nobody reads any more does not stay for ever.
MAX_LINE_S = 3_600.0

Looking = asyncio.Task[Activity | None]  # for an event in the state of the page's customer, one at a time

router = APIRouter(include_in_schema=False)


def _message(event: str, count: int, data: object) -> bytes:
    return b"event: %s\nid: %d\ndata: %s\n\n" % (event.encode(), count, msgspec.json.encode(data))


def _row(gateway: Gateway, front: Front, seen: Activity) -> dict[str, object]:
    article = front.article(gateway, seen.article_id)
    return {
        "event_id": seen.event_id,
        "type": seen.type,
        "customer_id": seen.customer_id,
        "name": named(seen.customer_id),
        "title": article.title,
        "tone": article.tone,
        "initial": article.initial,
        "picture": picture_url(article),
    }


async def follow(
    gateway: Gateway, front: Front, customer_id: str, after: int | None, drawn: int | None = None
) -> AsyncIterator[bytes]:
    """The messages of one line.

    Args:
        after: the count that was read last, None for a new line: that one tells what came just before it too.
        drawn: the count when the page's list was made; what came until then is no news to a new line.
    """
    ring = gateway.activity
    began = told = time.monotonic()
    after, drawn = (count if count is not None and count <= ring.count else None for count in (after, drawn))
    read = max(0, ring.count - SHOWN) if after is None else after
    news = next(count for count in (after, drawn, ring.count) if count is not None)
    waiting: list[Activity] = []
    mine: list[Activity] = []
    looking: Looking | None = None
    yield b"retry: %d\n\n" % RETRY_MS + _message("beat", ring.count, {"count": ring.count})
    try:
        while time.monotonic() - began < MAX_LINE_S:
            patience = max(0.0, told + PACE_S - time.monotonic()) if waiting else BEAT_S
            await _either(ring.wait(read, patience), looking)
            new = ring.since(read)
            mine = [*mine, *(seen for seen in new if seen.customer_id == customer_id and seen.number > news)][-1:]
            read, waiting = ring.count, [*waiting, *new][-SHOWN:]
            if looking is not None and looking.done():
                seen, looking = looking.result(), None
                if seen is not None:
                    ms = round((time.monotonic() - seen.seen_at) * 1e3, 1)
                    yield _message("feed", read, {"event_id": seen.event_id, "ms": ms})
            if looking is None and mine:
                looking = asyncio.create_task(_once_known(gateway, mine.pop()), name="known")
            now = time.monotonic()
            if waiting and now - told >= PACE_S:
                rows = [_row(gateway, front, seen) for seen in reversed(waiting)]
                yield _message("acts", read, {"count": read, "rows": rows})
                told, waiting = now, []
            elif not waiting and now - told >= BEAT_S:
                yield _message("beat", read, {"count": read})
                told = now
    finally:
        if looking is not None:
            looking.cancel()


async def _either(news: Coroutine[Any, Any, None], looking: Looking | None) -> None:
    """Return when there is news, or what is looked for was found or given up."""
    if looking is None:
        await news
        return
    coming = asyncio.ensure_future(news)
    try:
        await asyncio.wait({coming, looking}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        coming.cancel()


async def _once_known(gateway: Gateway, seen: Activity) -> Activity | None:
    """The same once the customer's state has it; None where it does not come to have it, as with one that came late."""
    return seen if await _known(gateway, seen) else None


async def _known(gateway: Gateway, seen: Activity) -> bool:
    try:
        return await until_known(gateway.store, seen.customer_id, seen.event_id)
    except Unavailable:
        return False


@router.get("/live")
async def live(
    gateway: Needs,
    front: Fronts,
    customer: Annotated[str, Query(max_length=128)] = "",
    drawn: Annotated[int | None, Query(ge=0)] = None,
    last_event_id: Annotated[str, Header(max_length=20)] = "",
) -> StreamingResponse:
    """A line of server-sent events for a page that shows `customer` and was `drawn` at that count.

    Raises:
        Problem: too many lines are open already.
    """
    front.check_room()
    after = int(last_event_id) if last_event_id.isascii() and last_event_id.isdigit() else None
    return StreamingResponse(
        front.line(follow(gateway, front, customer.strip(), after, drawn)),
        media_type="text/event-stream",
        headers={"cache-control": "no-store", "x-accel-buffering": "no"},
    )
