"""What stands around every answer of the HTTP gateway: counting, security headers, and bounds on what is read."""

from __future__ import annotations

import asyncio
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
# 320 MB of photos.
MOST_LARGER = 32
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
    """ASGI middleware: a body over the limit is refused (413) as soon as that is known, and never held whole; one that
    is not there after a time is refused too (408), however it trickles in.

    Args:
        timeout_s: from the headers to the end of the body.
        larger: limits of paths that take more, by path.
        most_larger: bodies of those paths that are held at once; the next is refused (503) before it is read.
    """

    def __init__(
        self,
        app: ASGIApp,
        max_bytes: int,
        timeout_s: float,
        larger: Mapping[str, int] | None = None,
        most_larger: int = MOST_LARGER,
    ) -> None:
        self._app = app
        self._limit = max_bytes
        self._timeout_s = timeout_s
        self._larger = larger or {}
        self._most_larger = most_larger
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif scope["path"] not in self._larger:
            await self._read(self._limit, scope, receive, send)
        elif self._held >= self._most_larger:
            await self._too_many(scope, receive, send)
        else:
            self._held += 1
            try:
                await self._read(max(self._limit, self._larger[scope["path"]]), scope, receive, send)
            finally:
                self._held -= 1

    async def _read(self, limit: int, scope: Scope, receive: Receive, send: Send) -> None:
        declared = next((v for k, v in scope["headers"] if k == b"content-length"), b"0")
        if declared.isdigit() and int(declared) > limit:
            await self._refuse(int(declared), limit, scope, receive, send)
            return
        # A chunked body declares no length, so it is counted; it is small enough to be held while it is.
        body = bytearray()
        try:
            async with asyncio.timeout(self._timeout_s):
                while len(body) <= limit:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return  # nobody is there to be answered
                    body += message.get("body", b"")
                    if not message.get("more_body", False):
                        break
        except TimeoutError:
            await self._too_slow(len(body), scope, receive, send)
            return
        if len(body) > limit:
            await self._refuse(len(body), limit, scope, receive, send)
            return
        whole: list[Message] = [{"type": "http.request", "body": bytes(body), "more_body": False}]
        body.clear()

        async def replay() -> Message:
            return whole.pop() if whole else await receive()

        await self._app(scope, replay, send)

    async def _too_slow(self, given: int, scope: Scope, receive: Receive, send: Send) -> None:
        answer = problem(
            408,
            f"after {self._timeout_s:g} s {given} bytes of the body had come, and not its end; send it again, faster "
            "or smaller",
            {"connection": "close"},
            retryable=True,
            given_bytes=given,
            allowed_s=self._timeout_s,
        )
        await answer(scope, receive, send)

    async def _too_many(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = problem(
            503,
            f"{self._most_larger} large uploads are being handled already; try again in a moment",
            {"connection": "close"},
            retryable=True,
            allowed=self._most_larger,
        )
        await answer(scope, receive, send)

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
