"""The version that every message on the wire carries: `schema_version`, one whole number, the major.

Within a major, optional fields are added freely and readers ignore those they do not know, so old code reads new
messages and new code reads the oldest. A field that goes, or changes its name or meaning, makes the next major. A
message without the field is of major 1, for ever. A reader refuses a newer major by name rather than misread it; what
it may misread is a dead letter.
"""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar

import msgspec

from infra.errors import InvalidMessage

UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def first_major() -> int:
    """Default of `schema_version` (as a default factory, so that it is written even where defaults are left out)."""
    return 1


class _Versioned(msgspec.Struct):
    schema_version: int = 1


class Readable(Protocol):
    @property
    def schema_version(self) -> int: ...


Message = TypeVar("Message", bound=Readable)


class Reader(Generic[Message]):
    """Reads JSON messages of one kind.

    Args:
        name: as it is called in "not an event: ..." and "event of 70000 bytes".
        version: the newest major that is read.
        limit: most bytes; None where what comes before has bounded them.
    """

    def __init__(self, kind: type[Message], name: str, version: int, limit: int | None = None) -> None:
        self._article, _, self._noun = name.partition(" ")
        self._decode = msgspec.json.Decoder(kind).decode
        self._version = version
        self._limit = limit

    def __call__(self, raw: bytes) -> Message:
        """Decode one.

        Raises:
            InvalidMessage: not JSON, too large, a field missing or out of range, a newer major.
        """
        if self._limit is not None and len(raw) > self._limit:
            raise InvalidMessage(f"{self._noun} of {len(raw)} bytes; at most {self._limit} are allowed")
        try:
            message = self._decode(raw)
        except UNDECODABLE as error:
            raise self._refusal(raw, error) from error
        check_version(message.schema_version, self._version)
        return message

    def _refusal(self, raw: bytes, error: Exception) -> InvalidMessage:
        """For its version where that is newer, for then all else may differ."""
        try:
            check_version(_any_kind.decode(raw).schema_version, self._version)
        except InvalidMessage as newer:
            return newer
        except UNDECODABLE:
            pass
        return InvalidMessage(f"not {self._article} {self._noun}: {error}")


_any_kind = msgspec.json.Decoder(_Versioned)


def check_version(given: int, known: int) -> None:
    """Refuse what this code cannot know.

    Raises:
        InvalidMessage: a newer major than `known`, or none that ever was.
    """
    if 1 <= given <= known:
        return
    if given > known:
        reason = f"newer than version {known}, which this code reads; update this side, or send version {known}"
    else:
        reason = f"none that ever was; this code reads version {known}"
    raise InvalidMessage(f"schema_version {given} is {reason}", column="schema_version")
