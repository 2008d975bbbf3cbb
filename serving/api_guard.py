"""Who may ask the HTTP gateway for what, and how often: keys, scopes, limits, and pages of other origins."""

from __future__ import annotations

import base64
import ipaddress
import math
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.api_envelope import headers_added
from serving.api_keys import ADMIN, READ, WRITE, ApiKey, ApiKeys
from serving.api_problems import problem
from serving.rate_limits import Allowance, Buckets

OPEN = ("/healthz", "/readyz", "/favicon.ico")
OPEN_BELOW = "/static/"
HARMLESS = ("GET", "HEAD", "OPTIONS")
# What a page of another origin may read of our headers.
LIMIT_HEADERS = ("x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset", "retry-after")


def scope_needed(method: str, path: str) -> str | None:
    """The scope that a request needs, None where everybody may ask. What is not named here needs READ, so that a new
    route is never open by mistake. A newline at the end counts for nothing: the patterns of the routes end in `$`,
    which matches before it too."""
    path = path.removesuffix("\n")
    if path in OPEN or path.startswith(OPEN_BELOW):
        return None
    if path == "/metrics":
        return ADMIN
    return WRITE if path == "/v1/events" and method not in HARMLESS else READ


def presented(headers: Headers) -> str | None:
    """The key that came along: as `Authorization: Bearer`, as `X-API-Key`, or as the password of `Authorization: Basic`
    (which is how a browser asks a person for it). Empty where the header is none of these."""
    if "x-api-key" in headers:
        return headers["x-api-key"]
    if "authorization" not in headers:
        return None
    scheme, _, value = headers["authorization"].partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).decode().partition(":")[2]
        except ValueError:  # no base64, or no text in it
            return ""
    return ""


def address_of(scope: Scope) -> str:
    """Whom a limit counts for where there is no key: the IPv4 address, or the IPv6 network that one household has."""
    host = scope["client"][0] if scope.get("client") else "unknown"
    try:
        address = ipaddress.ip_address(host)
    except ValueError:  # a Unix socket, say
        return f"address {host}"
    if address.version == 6:
        return f"address {ipaddress.ip_network((address, 64), strict=False)}"
    return f"address {address}"


class Guard:
    """ASGI middleware: lets through who may, before anything of the body is read.

    Args:
        keys: none of them lets everybody in.
        per_s: requests a second of one caller; None for no limit but those that keys have of their own.
        burst: how many of them at once.
        origins: of pages elsewhere that may send what changes something.
    """

    def __init__(self, app: ASGIApp, keys: ApiKeys, per_s: float | None, burst: int, origins: frozenset[str]) -> None:
        self._app = app
        self._keys = keys
        self._per_s = per_s
        self._buckets = Buckets(burst)
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        needed = scope_needed(scope["method"], scope["path"]) if scope["type"] == "http" else None
        if needed is None:
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = presented(headers) if self._keys else None
        key = None if given is None else self._keys.find(given)
        allowance = self._allowance(scope, key)
        if allowance is not None:
            send = headers_added(send, _limits(allowance))
            if not allowance.allowed:
                await _too_often(allowance)(scope, receive, send)
                return
        refusal = self._refusal(scope, headers, given, key, needed)
        if refusal is not None:
            await refusal(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _allowance(self, scope: Scope, key: ApiKey | None) -> Allowance | None:
        """Wrong keys count for the address, so that guessing has a limit too."""
        per_s = key.per_s if key and key.per_s else self._per_s
        if per_s is None:
            return None
        return self._buckets.take(f"key {key.name}" if key else address_of(scope), per_s)

    def _refusal(
        self, scope: Scope, headers: Headers, given: str | None, key: ApiKey | None, needed: str
    ) -> Response | None:
        origin = headers.get("origin")
        if origin and scope["method"] not in HARMLESS and not self._at_home(origin, headers.get("host", "")):
            # A browser sends what a page of anywhere tells it to, with the credentials that it keeps for us.
            return problem(403, f"a page of {origin} may not send this; api.cors_origins names those that may")
        if not self._keys:
            return None
        if key is None:
            said = "the key is none of ours" if given else "a key is needed"
            html = "text/html" in headers.get("accept", "")
            challenge = 'Basic realm="modiste", charset="UTF-8"' if html else 'Bearer realm="modiste"'
            return problem(
                401,
                f"{said}; send it as `Authorization: Bearer KEY` or `X-API-Key: KEY`",
                {"www-authenticate": challenge},
            )
        if not key.may(needed):
            return problem(
                403,
                f"the key {key.name!r} has the scopes {', '.join(sorted(key.scopes))}; this needs {needed}",
                needed_scope=needed,
            )
        return None

    def _at_home(self, origin: str, host: str) -> bool:
        """Whether a page is one of ours. Without keys a host with a dot in its name has to be among the origins: a page
        of anywhere can let its own name point at us, and then it is of the same origin."""
        if origin in self._origins:
            return True
        return origin.partition("://")[2] == host and (bool(self._keys) or not _anybodys(host))


def _anybodys(host: str) -> bool:
    """Whether the host, with its port, is a name that somebody may have registered: neither an address nor local."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:  # no host at all
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return "." in name and not name.endswith(".localhost")
    return False


def _limits(allowance: Allowance) -> dict[str, str]:
    return {
        "x-ratelimit-limit": str(allowance.limit),
        "x-ratelimit-remaining": str(allowance.remaining),
        "x-ratelimit-reset": str(math.ceil(allowance.full_s)),
    }


def _too_often(allowance: Allowance) -> Response:
    wait_s = math.ceil(allowance.wait_s)
    return problem(
        429,
        f"too many requests; {allowance.limit} at once are allowed, the next one in {wait_s} s",
        {"retry-after": str(wait_s)},
        retryable=True,
    )
