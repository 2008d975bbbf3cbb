"""How the HTTP gateway says no (application/problem+json, RFC 9457), and what it puts around every answer."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from infra.errors import InvalidMessage, ModisteError, Unavailable

log = logging.getLogger(__name__)

MAX_BODY_BYTES = 1_000_000

# The page brings everything itself: no inline code, nothing from elsewhere, in nobody's frame.
SECURITY_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}


class Problem(Exception):
    """An answer that is an error; `more` adds members to the problem document."""

    def __init__(self, status: int, detail: str, **more: object) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.more = more


def problem_body(status: int, detail: str, **more: object) -> dict[str, Any]:
    """The problem document: type, title, status, detail, and what was given or allowed."""
    return {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        **more,
    }


def _respond(status: int, detail: str, **more: object) -> JSONResponse:
    headers = {"retry-after": "1"} if status == HTTPStatus.SERVICE_UNAVAILABLE else None
    return JSONResponse(
        problem_body(status, detail, **more),
        status_code=status,
        headers=headers,
        media_type="application/problem+json",
    )


async def _on_problem(_: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, Problem):
        raise error
    return _respond(error.status, error.detail, **error.more)


async def _on_modiste(_: Request, error: Exception) -> JSONResponse:
    if isinstance(error, InvalidMessage):
        status = HTTPStatus.UNPROCESSABLE_ENTITY
    elif isinstance(error, Unavailable):
        status = HTTPStatus.SERVICE_UNAVAILABLE
    else:
        log.error("request failed: %s", error)
        status = HTTPStatus.INTERNAL_SERVER_ERROR
    retryable = isinstance(error, ModisteError) and error.retryable
    return _respond(status, str(error), retryable=retryable)


async def _on_http(_: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, HTTPException):
        raise error
    return _respond(error.status_code, str(error.detail))


async def _on_validation(_: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, RequestValidationError):
        raise error
    found = [
        {"at": ".".join(map(str, e["loc"])), "given": repr(e.get("input"))[:200], "message": e["msg"]}
        for e in error.errors()
    ]
    detail = "; ".join(f"{e['at']} = {e['given']}: {e['message']}" for e in found)
    return _respond(HTTPStatus.UNPROCESSABLE_ENTITY, detail, errors=found)


async def _on_crash(_: Request, error: Exception) -> JSONResponse:
    # The traceback is in the log (the server writes it); the client learns nothing of our insides.
    return _respond(HTTPStatus.INTERNAL_SERVER_ERROR, f"the gateway failed: {type(error).__name__}")


def install_problems(app: FastAPI) -> None:
    """Make every error of `app` a problem document."""
    app.add_exception_handler(Problem, _on_problem)
    app.add_exception_handler(ModisteError, _on_modiste)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(RequestValidationError, _on_validation)
    app.add_exception_handler(Exception, _on_crash)


class Envelope:
    """ASGI middleware: security headers on every answer; a body over the limit is refused (413) before it is
    read. `larger`: limits of paths that take more.
    """

    def __init__(
        self, app: ASGIApp, max_body_bytes: int = MAX_BODY_BYTES, larger: Mapping[str, int] | None = None
    ) -> None:
        self._app = app
        self._limit = max_body_bytes
        self._larger = dict(larger or {})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                present = {name for name, _ in message["headers"]}
                message["headers"] = [
                    *message["headers"],
                    *((k.encode(), v.encode()) for k, v in SECURITY_HEADERS.items() if k.encode() not in present),
                ]
            await send(message)

        limit = self._larger.get(scope["path"], self._limit)
        declared = next((v for k, v in scope["headers"] if k == b"content-length"), b"0")
        if declared.isdigit() and int(declared) > limit:
            await self._refuse(int(declared), limit, send_with_headers)
            return
        # A chunked body declares no length, so it is counted; it is small enough to be held while it is.
        chunks: list[Message] = []
        total = 0
        while True:
            message = await receive()
            chunks.append(message)
            total += len(message.get("body", b""))
            if total > limit:
                await self._refuse(total, limit, send_with_headers)
                return
            if not message.get("more_body", False):
                break
        chunks.reverse()

        async def replay() -> Message:
            return chunks.pop() if chunks else await receive()

        await self._app(scope, replay, send_with_headers)

    async def _refuse(self, given: int, limit: int, send: Send) -> None:
        detail = f"body of {given} bytes or more; at most {limit} are allowed"
        body = json.dumps(problem_body(413, detail, given_bytes=given, allowed_bytes=limit)).encode()
        headers = [
            (b"content-type", b"application/problem+json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        await send({"type": "http.response.start", "status": 413, "headers": headers})
        await send({"type": "http.response.body", "body": body})
