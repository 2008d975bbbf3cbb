"""Events onto the topic: keyed by customer, checked before they are sent."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

import msgspec
import pytest

from infra.errors import InvalidMessage
from streams.events import Event, parse_event
from streams.publisher import EventPublisher

HAT = Event(
    event_id="1",
    type="purchase",
    occurred_at=datetime(2017, 3, 1, tzinfo=UTC),
    customer_id="ärger",
    article_id="hat",
)


class Tray:
    """Keeps what is sent."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, bytes | None, bytes]] = []

    async def send_many(self, messages: Iterable[tuple[str, bytes | None, bytes]]) -> int:
        new = list(messages)
        self.messages += new
        return len(new)


async def test_message_is_the_event_under_its_customer() -> None:
    tray = Tray()
    await EventPublisher(tray).publish(HAT)
    ((topic, key, value),) = tray.messages
    assert (topic, key) == ("transactions", "ärger".encode())
    assert parse_event(value) == HAT


async def test_many_keep_their_order() -> None:
    tray = Tray()
    events = [msgspec.structs.replace(HAT, event_id=str(n)) for n in range(5)]
    assert await EventPublisher(tray, "elsewhere").publish_many(events) == 5
    assert [parse_event(value).event_id for _, _, value in tray.messages] == ["0", "1", "2", "3", "4"]
    assert {topic for topic, _, _ in tray.messages} == {"elsewhere"}


async def test_event_the_worker_would_refuse_is_not_sent() -> None:
    tray = Tray()
    with pytest.raises(InvalidMessage, match="type 'return'"):
        await EventPublisher(tray).publish(msgspec.structs.replace(HAT, type="return"))
    assert tray.messages == []
