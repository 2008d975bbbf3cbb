"""Messages nobody could use: kept on a topic of their own with the reason and the raw bytes.

`streams.letter_desk` reads them, sends them again and exports them.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable

import msgspec

from infra.kafka import Producer
from streams.processor import RawMessage
from streams.topics import DEAD_LETTERS
from streams.versions import Reader, first_major

# Base64 and the frame around it must stay below the megabyte that brokers take by default: a letter that can never be
# sent would hold up its partition for good.
MAX_RAW_BYTES = 524_288
LETTER_VERSION = 1
MAX_KEY_BYTES = 1_024
MAX_ERROR_CHARS = 2_000


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Value on the topic `dead-letters`; the key is the refused message's own.

    reason: short and stable, for counting (`rejected`, `state_unreadable`). error: what was wrong, for people. raw:
    base64 of the value, "" for a message without one; of a value beyond MAX_RAW_BYTES its beginning, and `size` is then
    that of the whole. topic, partition, offset: where it stood. requeued: how often it had come back from here.
    schema_version: major of this letter's form, not of the message in it.
    """

    reason: str
    error: str
    topic: str
    partition: int
    offset: int
    raw: str
    size: int | None = None
    requeued: int = 0
    schema_version: int = msgspec.field(default_factory=first_major)

    @property
    def raw_bytes(self) -> bytes:
        return base64.b64decode(self.raw)


_encoder = msgspec.json.Encoder()
_read = Reader(DeadLetter, "a dead letter", LETTER_VERSION)


def encode_dead_letter(message: RawMessage, *, reason: str, error: str) -> bytes:
    """The value to send for a refused message."""
    value = message.value or b""
    error = error[:MAX_ERROR_CHARS]
    if len(value) > MAX_RAW_BYTES:
        error += f" (the first {MAX_RAW_BYTES} of {len(value)} bytes are kept here)"
    raw = base64.b64encode(value[:MAX_RAW_BYTES]).decode("ascii")
    return _encoder.encode(
        DeadLetter(
            reason=reason,
            error=error,
            topic=message.topic,
            partition=message.partition,
            offset=message.offset,
            raw=raw,
            size=len(value) if len(value) > MAX_RAW_BYTES else None,
            requeued=message.requeued,
        )
    )


def letter_key(message: RawMessage) -> bytes | None:
    """The refused message's own key; none where it is too large to be sent along."""
    return message.key if message.key is None or len(message.key) <= MAX_KEY_BYTES else None


def decode_dead_letter(value: bytes) -> DeadLetter:
    """Inverse of `encode_dead_letter`.

    Raises:
        InvalidMessage: not a dead letter, or one of a newer major.
    """
    return _read(value)


async def send_dead_letters(producer: Producer, refused: Iterable[tuple[RawMessage, str, str]]) -> int:
    """Send each (message, reason, error) to `dead-letters` under its own key; returns how many when the broker has
    all.

    Raises:
        BrokerUnavailable: not all were acknowledged; sending all again only repeats some.
    """
    return await producer.send_many(
        (DEAD_LETTERS, letter_key(message), encode_dead_letter(message, reason=reason, error=error))
        for message, reason, error in refused
    )
