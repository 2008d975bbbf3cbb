"""What stands around every answer of the HTTP gateway: counting, security headers, and a bound on what is read."""

from __future__ import annotations

import time
from collections.abc import Mapping

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from infra.telemetry import counter, histogram
from serving.api_problems import problem

# The page brings everything itself: no inline code, nothing from elsewhere, in nobody's frame.
SECURITY_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
# What is known of a customer belongs in no cache on the way.
PRIVATE = {"cache-control": "no-store"}


def headers_added(send: Send, headers: dict[str, str]) -> Send:
    """A `send` that adds those of `headers` that the answer does not have."""

    async def added(message: Message) -> None:
        if message["type"] == "http.response.start":
            present = {name for name, _ in message["headers"]}
            more = [(k.encode(), v.encode()) for k, v in headers.items() if k.encode() not in present]
            message["headers"] = [*message["headers"], *more]
        await send(message)

    return added


class Counted:
    """ASGI middleware: each answer counted by route and status and timed, also those that never reach a route."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._requests = counter("http_requests", "HTTP requests answered", ("route", "status"))
        self._seconds = histogram("http_request_seconds", "Time to answer an HTTP request", ("route",))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        answered = False

        def count(status: int) -> None:
            nonlocal answered
            answered = True
            # The route's pattern, not the path: an id in a label would make a series for every customer.
            route = getattr(scope.get("route"), "path", "none")
            self._requests.labels(route, str(status)).inc()
            self._seconds.labels(route).observe(time.perf_counter() - started)

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                count(message["status"])
            await send(message)

        try:
            await self._app(scope, receive, counted)
        except Exception:
            if not answered:
                count(500)  # which the server's own handler outside of here will say
            raise


class Headers:
    """ASGI middleware: security headers on every answer, and answers of /v1 in no cache."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            send = headers_added(send, SECURITY_HEADERS | (PRIVATE if scope["path"].startswith("/v1/") else {}))
        await self._app(scope, receive, send)


class BoundedBody:
    """ASGI middleware: a body over the limit is refused (413) as soon as that is known, and never held whole.
    larger: limits of paths that take more, by path."""

    def __init__(self, app: ASGIApp, max_bytes: int, larger: Mapping[str, int] | None = None) -> None:
        self._app = app
        self._limit = max_bytes
        self._larger = larger or {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = max(self._limit, self._larger.get(scope["path"], 0))
        declared = next((v for k, v in scope["headers"] if k == b"content-length"), b"0")
        if declared.isdigit() and int(declared) > limit:
            await self._refuse(int(declared), limit, scope, receive, send)
            return
        # A chunked body declares no length, so it is counted; it is small enough to be held while it is.
        chunks: list[Message] = []
        total = 0
        while True:
            message = await receive()
            chunks.append(message)
            total += len(message.get("body", b""))
            if total > limit:
                await self._refuse(total, limit, scope, receive, send)
                return
            if not message.get("more_body", False):
                break
        chunks.reverse()

        async def replay() -> Message:
            return chunks.pop() if chunks else await receive()

        await self._app(scope, replay, send)

    async def _refuse(self, given: int, limit: int, scope: Scope, receive: Receive, send: Send) -> None:
        # The rest of the body is never read, so this connection cannot serve another request.
        answer = problem(
            413,
            f"body of {given} bytes or more; at most {limit} are allowed",
            {"connection": "close"},
            given_bytes=given,
            allowed_bytes=limit,
        )
        await answer(scope, receive, send)
