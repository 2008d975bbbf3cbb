"""Subscriptions on the wire, and which one counts."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

import pytest

from infra.errors import InvalidMessage
from infra.kafka import Producer, TopicSpec, ensure_topics
from infra.settings import KafkaSettings
from streams.subscriptions import (
    EVERYBODY,
    CustomerUpdate,
    Subscription,
    Subscriptions,
    encode_subscription,
    encode_update,
    parse_subscription,
    parse_update,
)

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def test_what_is_written_is_read_and_unknown_fields_pass() -> None:
    given = Subscription(customer_id="anna", k=5, strategy="hybrid", debounce_ms=20, until=NOW)
    assert parse_subscription(b"anna", encode_subscription(given)) == given
    assert parse_subscription(b"anna", b'{"customer_id":"anna","why":"app"}') == Subscription(customer_id="anna")
    assert parse_subscription(b"anna", None) is None
    update = CustomerUpdate(customer_id="anna", event="transactions-0-1")
    assert parse_update(encode_update(update)) == update


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        (b"anna", b"{", "not a subscription"),
        (b"anna", b'{"customer_id":"anna","k":0}', "k"),
        (b"anna", b'{"customer_id":"anna","debounce_ms":60001}', "debounce_ms"),
        (b"anna", b'{"customer_id":"anna","until":"2026-11-21T12:00:00"}', "until"),
        (b"bert", b'{"customer_id":"anna"}', "another's key"),
        (None, b'{"customer_id":"anna"}', "no key"),
        (b"anna", b'{"customer_id":"anna","why":"' + b"x" * 5_000 + b'"}', "at most 4096"),
    ],
)
def test_what_is_no_subscription_is_refused(key: bytes | None, value: bytes, says: str) -> None:
    with pytest.raises(InvalidMessage, match=says):
        parse_subscription(key, value)
    with pytest.raises(InvalidMessage, match="not a customer update"):
        parse_update(b"{}")


@pytest.mark.broker
async def test_ones_own_subscription_goes_before_that_of_everybody(
    kafka_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = KafkaSettings(url=kafka_url)
    topic = f"subscriptions-{uuid.uuid4().hex[:8]}"
    monkeypatch.setattr("streams.subscriptions.SUBSCRIPTIONS", topic)
    await ensure_topics(settings, [TopicSpec(topic, 2, compacted=True)])
    given = (
        Subscription(customer_id=EVERYBODY, k=3),
        Subscription(customer_id="anna", k=5),
        Subscription(customer_id="bert", k=7, until=NOW + timedelta(hours=1)),
    )
    async with Producer(settings) as producer:
        await producer.send_many((topic, s.customer_id.encode(), encode_subscription(s)) for s in given)
        await producer.send(topic, b"anna", b"{rubbish")
    subscriptions = Subscriptions(settings)
    assert not subscriptions
    await subscriptions.start()
    try:
        assert subscriptions
        later = NOW + timedelta(hours=1)
        found = [subscriptions.of("anna", NOW), subscriptions.of("bert", NOW), subscriptions.of("bert", later)]
        assert [s.k for s in found if s is not None] == [5, 7, 3]
        assert subscriptions.of("carl", NOW) == given[0]
    finally:
        await subscriptions.stop()
