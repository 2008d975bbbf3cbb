"""What a call to the HTTP gateway can end in, as classes.

    ApiError                  status, detail, problem: what the gateway said (None where it said nothing)
    ├── InvalidRequest        400, 422: mend the request
    ├── Unauthorized          401: no key, or none of theirs
    ├── Forbidden             403: the key lacks the scope
    ├── NotFound              404: no such thing, or not any more
    ├── TooLarge              413
    ├── RateLimited           429: again in `retry_after_s`
    ├── NotOffered            501: the bundle in use carries nothing for this
    ├── Away                  502, 503, 504: the gateway, or what it needs, is not there; trying again can help
    ├── Unreachable           no answer at all in time, or 408: the body took too long on its way; trying again can help
    └── UnexpectedAnswer      anything else: another program answers there, or it failed

`retryable` says whether the same again can help; the client has tried again already when it raises such an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from infra.errors import ModisteError

SHOWN = 200


class ApiError(ModisteError):
    """Base of all; see the module."""

    exit_code = 1

    def __init__(self, message: str, *, status: int | None = None, problem: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.problem = problem
        self.retry_after_s: float | None = None

    @property
    def detail(self) -> str:
        return str(self.problem["detail"]) if self.problem and "detail" in self.problem else str(self)


class InvalidRequest(ApiError):
    """The request cannot be understood; `problem["errors"]` names the fields where it can."""


class Unauthorized(ApiError):
    """A key is needed, or the one given is none of theirs."""


class Forbidden(ApiError):
    """The key may not do this."""


class NotFound(ApiError):
    """No such thing, or not any more."""


class TooLarge(ApiError):
    """The body is larger than the gateway takes."""


class RateLimited(ApiError):
    """Too many requests; `retry_after_s` says when the next one is allowed."""

    retryable = True


class NotOffered(ApiError):
    """The bundle in use carries nothing for this."""


class Away(ApiError):
    """The gateway, or what it needs, is not there just now."""

    retryable = True


class Unreachable(ApiError):
    """The request did not arrive in time, or its answer did not."""

    retryable = True


class UnexpectedAnswer(ApiError):
    """The gateway failed, or this is no gateway of ours."""


OF_STATUS: Mapping[int, type[ApiError]] = {
    400: InvalidRequest,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    408: Unreachable,
    413: TooLarge,
    422: InvalidRequest,
    429: RateLimited,
    501: NotOffered,
    502: Away,
    503: Away,
    504: Away,
}


def error_of(status: int, headers: Mapping[str, str], content: bytes) -> ApiError:
    """The error of an answer, with what the gateway said where it said something that can be read."""
    try:
        problem = msgspec.json.decode(content, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        problem = None
    said = problem["detail"] if problem and "detail" in problem else content[:SHOWN].decode(errors="replace")
    error = OF_STATUS.get(status, UnexpectedAnswer)(f"{status}: {said}", status=status, problem=problem)
    after = headers.get("retry-after", "")
    error.retry_after_s = float(after) if after.isascii() and after.isdigit() else None
    return error
