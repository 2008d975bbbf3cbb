"""How the HTTP gateway says no: application/problem+json (RFC 9457), which says what was given and what is allowed."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from infra.errors import BundleNotFound, InvalidMessage, ModisteError, Unavailable

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"


class Problem(Exception):
    """An answer that is an error; `more` adds members to the problem document."""

    def __init__(self, status: int, detail: str, **more: object) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.more = more


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None, /, **more: object) -> JSONResponse:
    """The answer: type, title, status, detail, and what was given or allowed."""
    body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail, **more}
    given = dict(headers or {})
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        given.setdefault("retry-after", "1")
    return JSONResponse(body, status_code=status, headers=given, media_type=MEDIA_TYPE)


async def _on_problem(_: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, Problem):
        raise error
    return problem(error.status, error.detail, None, **error.more)


async def _on_modiste(_: Request, error: Exception) -> JSONResponse:
    if isinstance(error, InvalidMessage):
        status = HTTPStatus.UNPROCESSABLE_ENTITY
    elif isinstance(error, Unavailable | BundleNotFound):  # a bundle may still come
        status = HTTPStatus.SERVICE_UNAVAILABLE
    else:
        log.error("request failed: %s", error)
        status = HTTPStatus.INTERNAL_SERVER_ERROR
    return problem(status, str(error), retryable=status == HTTPStatus.SERVICE_UNAVAILABLE)


async def _on_http(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, HTTPException):
        raise error
    detail, path = str(error.detail), request.url.path
    if detail == HTTPStatus.METHOD_NOT_ALLOWED.phrase:
        detail = f"{request.method} is not allowed on {path}; the header Allow says what is"
    elif detail == HTTPStatus.NOT_FOUND.phrase:
        detail = f"there is nothing at {path}; /openapi.json lists what there is"
    return problem(error.status_code, detail, error.headers)


async def _on_validation(_: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, RequestValidationError):
        raise error
    found = [
        {"at": ".".join(map(str, e["loc"])), "given": repr(e.get("input"))[:200], "message": e["msg"]}
        for e in error.errors()
    ]
    detail = "; ".join(f"{e['at']} = {e['given']}: {e['message']}" for e in found)
    return problem(HTTPStatus.UNPROCESSABLE_ENTITY, detail, errors=found)


async def _on_crash(_: Request, error: Exception) -> JSONResponse:
    # The traceback is in the log (the server writes it); the client learns nothing of our insides.
    return problem(HTTPStatus.INTERNAL_SERVER_ERROR, f"the gateway failed: {type(error).__name__}")


def install_problems(app: FastAPI) -> None:
    """Make every error of `app` a problem document."""
    app.add_exception_handler(Problem, _on_problem)
    app.add_exception_handler(ModisteError, _on_modiste)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(RequestValidationError, _on_validation)
    app.add_exception_handler(Exception, _on_crash)
