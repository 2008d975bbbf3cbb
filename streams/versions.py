"""The version that every message on the wire carries: `schema_version`, one whole number, the major.

Within a major, optional fields are added freely and readers ignore those they do not know, so old code reads new
messages and new code reads the oldest. A field that goes, or changes its name or meaning, makes the next major. A
message without the field is of major 1, for ever. A reader refuses a newer major by name rather than misread it; what
it may misread is a dead letter.
"""

from __future__ import annotations

import msgspec

from infra.errors import InvalidMessage


def first_major() -> int:
    """Default of `schema_version` (as a default factory, so that it is written even where defaults are left out)."""
    return 1


class _Versioned(msgspec.Struct):
    schema_version: int = 1


_decoder = msgspec.json.Decoder(_Versioned)


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


def not_a(what: str, raw: bytes, known: int, error: Exception) -> InvalidMessage:
    """Why bytes that do not decode are refused: for their version where it is newer, for then all else may differ."""
    try:
        check_version(_decoder.decode(raw).schema_version, known)
    except InvalidMessage as newer:
        return newer
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    return InvalidMessage(f"not {what}: {error}")
