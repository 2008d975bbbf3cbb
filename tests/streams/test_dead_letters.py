"""A dead letter keeps everything: reason, place, raw bytes."""

from __future__ import annotations

import json

import pytest

from infra.errors import InvalidMessage
from streams.dead_letters import decode_dead_letter, encode_dead_letter, letter_key
from streams.processor import RawMessage


@pytest.mark.parametrize("raw", [b"", b"not json", bytes(range(256))])
def test_raw_bytes_come_back(raw: bytes) -> None:
    message = RawMessage("transactions", 3, 41, b"anna", raw)
    letter = decode_dead_letter(encode_dead_letter(message, reason="rejected", error="not an event"))
    assert letter.raw_bytes == raw
    assert (letter.topic, letter.partition, letter.offset) == ("transactions", 3, 41)
    assert (letter.reason, letter.error) == ("rejected", "not an event")


def test_value_is_plain_json() -> None:
    value = encode_dead_letter(RawMessage("t", 0, 1, None, b"\x00"), reason="rejected", error="e")
    assert json.loads(value) == {
        "reason": "rejected",
        "error": "e",
        "topic": "t",
        "partition": 0,
        "offset": 1,
        "raw": "AA==",
        "schema_version": 1,
    }


def test_message_without_value_is_kept_as_empty() -> None:
    value = encode_dead_letter(RawMessage("t", 0, 1, None, None), reason="rejected", error="e")
    assert decode_dead_letter(value).raw_bytes == b""


def test_something_else_is_refused() -> None:
    with pytest.raises(InvalidMessage, match="not a dead letter"):
        decode_dead_letter(b"{}")


def test_a_letter_of_the_largest_message_still_fits_into_one() -> None:
    message = RawMessage("transactions", 0, 7, b"k" * 500_000, b"\xff" * 1_048_576)
    value = encode_dead_letter(message, reason="rejected", error="x" * 1_000_000)
    assert len(value) < 1_000_000
    assert letter_key(message) is None
    letter = decode_dead_letter(value)
    assert message.value is not None
    assert message.value.startswith(letter.raw_bytes)
    assert "of 1048576 bytes are kept" in letter.error
