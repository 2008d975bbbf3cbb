"""Requests made to break the reader: each is answered with an error that fits into a message."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from infra.clock import ManualClock
from infra.errors import BundleNotFound
from serving.reload import Loaded
from serving.responder import Responder
from streams.processor import RawMessage
from streams.store import MemoryStore

MESSAGE_LIMIT = 1_000_000


class NoBundle:
    @property
    def current(self) -> Loaded:
        raise BundleNotFound("none")


class Outbox:
    def __init__(self) -> None:
        self.sent: list[tuple[str, bytes | None, bytes]] = []

    async def send_many(self, messages: Sequence[tuple[str, bytes | None, bytes]]) -> object:
        self.sent += messages
        return len(messages)


@pytest.mark.parametrize(
    "value",
    [
        b'{"request_id":"r","customer_id":"anna","x":' + b"[" * 50_000,
        b'{"request_id":"r","customer_id":"anna","strategy":"' + b"s" * MESSAGE_LIMIT + b'"}',
        b'{"request_id":"' + b"r" * MESSAGE_LIMIT + b'"}',
    ],
    ids=["deep", "large", "large-id"],
)
async def test_a_poisonous_request_is_answered_in_small_messages(value: bytes) -> None:
    outbox = Outbox()
    responder = Responder(NoBundle(), MemoryStore(), outbox, ManualClock(datetime(2017, 1, 1, tzinfo=UTC)))
    (answer,) = await responder.handle([RawMessage("recommendation-requests", 0, 3, b"k" * MESSAGE_LIMIT, value)])
    assert answer.error is not None
    assert answer.error.code == "invalid_request"
    assert [topic for topic, _, _ in outbox.sent] == ["recommendations", "dead-letters"]
    assert max(len(key or b"") + len(text) for _, key, text in outbox.sent) < MESSAGE_LIMIT
