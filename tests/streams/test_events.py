"""What the parser of events refuses, and that it never raises anything but InvalidMessage."""

from __future__ import annotations

import pytest

from infra.errors import InvalidMessage
from streams.events import MAX_EVENT_BYTES, parse_event

BODY = (
    '{"event_id":"e","type":"purchase","occurred_at":"2020-01-01T00:00:00Z","customer_id":"anna","article_id":"hat",%s}'
)


def test_a_price_is_read() -> None:
    assert parse_event((BODY % '"price":12.5').encode()).price == 12.5


@pytest.mark.parametrize(
    ("more", "said"),
    [
        # beyond float32 it would stand as infinite in the state, and turn every feature of the customer into nan
        ('"price":1e39', "price 1e.39; at most 1000000000000"),
        ('"price":-1', ">= 0"),
        ('"schema_version":2', "is newer than version 1, which this code reads"),
        # skipped fields are parsed by recursion
        ('"x":' + "[" * (MAX_EVENT_BYTES - 200), "not an event"),
        ('"x":"' + "a" * MAX_EVENT_BYTES + '"', f"at most {MAX_EVENT_BYTES}"),
    ],
)
def test_a_bad_event_is_refused(more: str, said: str) -> None:
    with pytest.raises(InvalidMessage, match=said):
        parse_event((BODY % more).encode())
