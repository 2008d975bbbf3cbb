"""Keys of the HTTP gateway: who holds one may do what its scopes say. Only hashes are known here.

A key is 32 random bytes, so one round of SHA-256 is enough: there is nothing to guess that a slow hash would protect.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field

from infra.errors import ConfigurationError

READ, WRITE, ADMIN = "read", "write", "admin"
SCOPES = {
    READ: "recommendations, search, articles, customers",
    WRITE: "events",
    ADMIN: "everything, and /metrics",
}
PREFIX = "modiste_"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_HASH = re.compile(r"[0-9a-f]{64}")
_FORM = "write NAME:SCOPES:SHA256 or NAME:SCOPES:SHA256:PER_SECOND, as `modiste serving keys new` prints it"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """per_s: requests a second that this key may make, None for the limit of all."""

    name: str
    scopes: frozenset[str]
    digest: bytes = field(repr=False)
    per_s: float | None = None

    def may(self, scope: str) -> bool:
        return scope in self.scopes or ADMIN in self.scopes


class ApiKeys:
    """The keys that are known; false when there are none, which lets everybody in."""

    def __init__(self, keys: Iterable[ApiKey]) -> None:
        self._keys = tuple(keys)

    def __bool__(self) -> bool:
        return bool(self._keys)

    @property
    def limited(self) -> bool:
        """Whether one of them has a rate of its own."""
        return any(key.per_s is not None for key in self._keys)

    def find(self, given: str) -> ApiKey | None:
        """The key that was given, compared with every known one in the same time whatever it is."""
        digest = _digest(given)
        found = None
        for key in self._keys:
            if hmac.compare_digest(key.digest, digest):
                found = key
        return found


def parse_keys(text: str) -> ApiKeys:
    """What the setting `api.keys` says.

    Raises:
        ConfigurationError: an entry of another form, a scope that is none, a name or key that stands twice.
    """
    keys: list[ApiKey] = []
    for entry in re.split(r"[\s,]+", text.strip()):
        if entry:
            key = _parse(entry)
            if any(key.name == other.name or key.digest == other.digest for other in keys):
                raise ConfigurationError(f"api.keys: the name or the key of {key.name!r} stands there twice")
            keys.append(key)
    return ApiKeys(keys)


def _parse(entry: str) -> ApiKey:
    name, *rest = entry.split(":")
    # What stands for a name may be a key that someone put there by mistake, so it is never repeated in full.
    shown = f"api.keys: the entry {name[:8] + '...' if len(name) > 8 else name!r}"
    if not _NAME.fullmatch(name) or len(rest) not in (2, 3) or not _HASH.fullmatch(rest[1]):
        raise ConfigurationError(f"{shown} is not a key's; {_FORM}")
    scopes = frozenset(rest[0].split("+"))
    unknown = sorted(scopes - SCOPES.keys())
    if unknown:
        raise ConfigurationError(f"{shown} has the scope {unknown[0]!r}; allowed, joined by +: {', '.join(SCOPES)}")
    return ApiKey(name, scopes, bytes.fromhex(rest[1]), _rate(rest[2], shown) if len(rest) == 3 else None)


def _rate(text: str, shown: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate <= 1e6:
        raise ConfigurationError(f"{shown} allows {text!r} requests a second; a number above 0, at most 1000000")
    return rate


def new_key() -> str:
    """A key that nobody has had before."""
    return PREFIX + secrets.token_urlsafe(32)


def entry_of(name: str, scopes: Iterable[str], key: str) -> str:
    """What `api.keys` has to hold for this key.

    Raises:
        ConfigurationError: no name or scopes for a key.
    """
    entry = f"{name}:{'+'.join(scopes)}:{_digest(key).hex()}"
    _parse(entry)
    return entry


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
