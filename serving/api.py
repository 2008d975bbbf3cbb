"""The HTTP gateway beside the topics, and the shop page: the same parsers, the same responder, other
doors.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import cache
from typing import Any, TypedDict

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from infra.errors import ConfigurationError
from infra.kafka import Producer
from infra.settings import ApiSettings, Settings, make_clock
from serving import api_articles, api_customers, api_events, api_health, api_recommend, api_search
from serving.activity import ActivityRing
from serving.api_document import document
from serving.api_envelope import BoundedBody, Counted, Headers
from serving.api_gateway import Gateway, PatientLink
from serving.api_guard import LIMIT_HEADERS, Guard
from serving.api_keys import parse_keys
from serving.api_page import install_page
from serving.api_problems import install_problems
from serving.api_routes import STRICT
from serving.live import LiveRuntime
from serving.llm import open_reranker
from serving.redis_explanations import open_explanations
from serving.responder import Responder
from streams.redis_store import open_store

ROUTERS = tuple(part.router for part in (api_recommend, api_search, api_articles, api_events, api_customers))


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
    explanations = await open_explanations(settings)
    link = PatientLink(Producer(settings.kafka))
    llm = open_reranker(settings.llm, clock)
    responder = Responder(
        holder,
        store,
        link,
        clock,
        deadline_ms=settings.responder.deadline_ms,
        store_timeout_ms=settings.redis.timeout_ms,
        llm=llm,
    )
    gateway = Gateway(holder, store, link, responder, ActivityRing(settings.kafka), clock, explanations)
    try:
        await gateway.start()
        yield gateway
    finally:
        if llm is not None:
            await llm.close()
        await gateway.stop()


def build_api(
    settings: Settings,
    opened: Callable[[Settings], AbstractAsyncContextManager[Gateway]] = open_gateway,
) -> FastAPI:
    """The application; `opened` makes its gateway, once, when the server starts."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[Mapping[str, object]]:
        app.openapi()  # made now and not while somebody waits: `only_known` asks for it
        async with opened(settings) as gateway:
            yield State(gateway=gateway)

    # No /docs: what it shows is loaded from elsewhere, which our pages never do.
    app = FastAPI(
        title="Modiste",
        version="1",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
    )
    install_problems(app)
    for router in ROUTERS:
        app.include_router(router, dependencies=STRICT)
    app.include_router(api_health.router)
    if settings.page.enabled:
        install_page(app, settings.page)
    _install_guard(app, settings.api)
    return app


def _install_guard(app: FastAPI, settings: ApiSettings) -> None:
    """What stands before the routes, innermost first, and the document that tells of it.

    Raises:
        ConfigurationError: api.keys or api.cors_origins.
    """
    keys = parse_keys(settings.keys)
    limits = settings.requests_per_s is not None or keys.limited
    origins = parse_origins(settings.cors_origins)
    app.add_middleware(
        BoundedBody,
        max_bytes=settings.max_body_bytes,
        timeout_s=settings.body_timeout_ms / 1e3,
        larger=api_search.LARGER,
    )
    app.add_middleware(Guard, keys=keys, per_s=settings.requests_per_s, burst=settings.burst, origins=origins)
    if origins:
        # Outside the guard: a browser asks whether it may call us before it shows a key.
        app.add_middleware(
            CORSMiddleware,
            allow_origins=sorted(origins),
            allow_methods=["GET", "POST"],
            allow_headers=["authorization", "content-type", "x-api-key"],
            expose_headers=LIMIT_HEADERS,
        )
    app.add_middleware(Headers)
    app.add_middleware(Counted)

    @cache
    def openapi() -> dict[str, Any]:
        return document(app, keys=bool(keys), limits=limits)

    app.openapi = openapi  # type: ignore[method-assign]


def parse_origins(text: str) -> frozenset[str]:
    """What the setting `api.cors_origins` says.

    Raises:
        ConfigurationError: an entry that is no origin, such as `*` or one with a path.
    """
    origins = frozenset(text.replace(",", " ").split())
    for origin in sorted(origins):
        scheme, _, host = origin.partition("://")
        if scheme not in ("http", "https") or not host or "/" in host or "*" in host:
            raise ConfigurationError(
                f"api.cors_origins: {origin!r} is no origin; write https://HOST or https://HOST:PORT without a path"
            )
    return origins
