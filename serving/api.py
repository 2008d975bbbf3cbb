"""The HTTP gateway beside the topics, and the shop page: the same parsers, the same responder, other
doors.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TypedDict

from fastapi import FastAPI, Request, Response

from infra.kafka import Producer
from infra.settings import Settings, make_clock
from infra.telemetry import counter, histogram
from serving.activity import ActivityRing
from serving.api_gateway import Gateway, PatientLink
from serving.api_page import install_page
from serving.api_problems import Envelope, install_problems
from serving.api_routes import router
from serving.live import LiveRuntime
from serving.responder import Responder
from streams.redis_store import open_store

DESCRIPTION = """\
Purchases in, recommendations out. Everything here is also on the Kafka topics `transactions`,
`recommendation-requests` and `recommendations`; the messages are the same. Errors are
`application/problem+json` (RFC 9457) and say what was given and what is allowed.
"""


class State(TypedDict):
    """What the lifespan hands to every request."""

    gateway: Gateway


@asynccontextmanager
async def open_gateway(settings: Settings) -> AsyncIterator[Gateway]:
    """A started gateway. The broker and the bundle may come later; `/readyz` says what is missing.

    Raises:
        StoreUnavailable: the store does not answer at the start.
        ConfigurationError: a URL that names no server.
    """
    clock = make_clock(settings.clock)
    holder = LiveRuntime(settings, clock)
    store = await open_store(settings.redis)
    link = PatientLink(Producer(settings.kafka))
    responder = Responder(
        holder,
        store,
        link,
        clock,
        deadline_ms=settings.responder.deadline_ms,
        store_timeout_ms=settings.redis.timeout_ms,
    )
    gateway = Gateway(holder, store, link, responder, ActivityRing(settings.kafka), clock)
    try:
        await gateway.start()
        yield gateway
    finally:
        await gateway.stop()


def build_api(
    settings: Settings,
    opened: Callable[[Settings], AbstractAsyncContextManager[Gateway]] = open_gateway,
) -> FastAPI:
    """The application; `opened` makes its gateway, once, when the server starts."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[Mapping[str, object]]:
        async with opened(settings) as gateway:
            yield State(gateway=gateway)

    app = FastAPI(title="Modiste", version="1", description=DESCRIPTION, lifespan=lifespan)
    requests = counter("http_requests", "HTTP requests answered", ("route", "status"))
    seconds = histogram("http_request_seconds", "Time to answer an HTTP request", ("route",))

    @app.middleware("http")
    async def count(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        started = time.perf_counter()
        response = await call_next(request)
        # The route's pattern, not the path: an id in a label would make a series for every customer.
        route = getattr(request.scope.get("route"), "path", "none")
        requests.labels(route, str(response.status_code)).inc()
        seconds.labels(route).observe(time.perf_counter() - started)
        return response

    app.add_middleware(Envelope)
    install_problems(app)
    app.include_router(router)
    if settings.page.enabled:
        install_page(app, settings.page)
    return app
