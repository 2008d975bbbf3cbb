"""What is told of a message that nobody can use: an answer to who sent it, and a dead letter."""

from __future__ import annotations

from typing import TypeGuard

import msgspec

from infra.errors import InvalidMessage
from serving.messages import Recommendations, RequestError
from streams.dead_letters import encode_dead_letter, letter_key
from streams.processor import RawMessage
from streams.topics import DEAD_LETTERS

MAX_ID_CHARS = 128  # as the type of ids says


class _Given(msgspec.Struct):
    """What can be told of a request that is not one."""

    request_id: object = None
    customer_id: object = None


def refusal(message: RawMessage, error: InvalidMessage) -> Recommendations:
    """An answer to something that is not a request, under its own id where one can be found."""
    try:
        given = msgspec.json.decode(message.value or b"", type=_Given)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        given = _Given()
    derived = f"invalid-{message.topic}-{message.partition}-{message.offset}"
    key = (letter_key(message) or b"").decode(errors="replace")
    return Recommendations(
        request_id=given.request_id if _is_id(given.request_id) else derived,
        customer_id=given.customer_id if _is_id(given.customer_id) else key,
        error=RequestError(code="invalid_request", message=str(error), retryable=False),
    )


def letter(message: RawMessage, error: InvalidMessage) -> tuple[str, bytes | None, bytes]:
    """Its dead letter, as topic, key and value."""
    return DEAD_LETTERS, letter_key(message), encode_dead_letter(message, reason="rejected", error=str(error))


def _is_id(given: object) -> TypeGuard[str]:
    """Only what could have been an id is echoed: an answer must always fit into a message."""
    return isinstance(given, str) and 0 < len(given) <= MAX_ID_CHARS
