"""Who wants a new list whenever something happened: subscriptions, and the word that something did.

A subscription stands on the compacted topic `subscriptions` under its customer's id, or under EVERYBODY; a message
without a value ends it. The worker reads them and, once the store has a subscribed customer's events, says so on
`customer-updates`; who answers, answers from a state that has them.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec

from infra.compacted import CompactedTable
from infra.errors import InvalidMessage
from infra.settings import KafkaSettings
from streams.events import AwareTime, Id
from streams.topics import SUBSCRIPTIONS
from streams.versions import Reader, first_major

SCHEMA_VERSION = 1  # of both messages
EVERYBODY = "*"
MAX_SUBSCRIPTION_BYTES = 4_096


class Subscription(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`k` articles by `strategy` after each burst of events: `debounce_ms` after its last one, or ten times that after
    its first. `until`: the shop's time at which it ends by itself."""

    customer_id: Id
    k: Annotated[int, msgspec.Meta(ge=1, le=200)] = 12
    strategy: Annotated[str, msgspec.Meta(min_length=1, max_length=32)] = "full"
    debounce_ms: Annotated[int, msgspec.Meta(ge=0, le=60_000)] = 500
    until: AwareTime | None = None
    schema_version: int = msgspec.field(default_factory=first_major)


class CustomerUpdate(msgspec.Struct, frozen=True, kw_only=True):
    """The store has events of this customer. event: where the newest of them stood, topic-partition-offset; told again
    after a crash, it is the same."""

    customer_id: Id
    event: Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
    schema_version: int = msgspec.field(default_factory=first_major)


_read_subscription = Reader(Subscription, "a subscription", SCHEMA_VERSION, MAX_SUBSCRIPTION_BYTES)
_read_update = Reader(CustomerUpdate, "a customer update", SCHEMA_VERSION)
_encoder = msgspec.json.Encoder()


def parse_subscription(key: bytes | None, value: bytes | None) -> Subscription | None:
    """What a message subscribes to, None where it ends the subscription.

    Raises:
        InvalidMessage: not a subscription, or under another's key.
    """
    if not key:
        raise InvalidMessage("the message has no key; subscriptions are keyed by their customer_id")
    if not value:
        return None
    subscription = _read_subscription(value)
    if subscription.customer_id.encode() != key:
        raise InvalidMessage(
            f"customer_id {subscription.customer_id!r} under another's key; they must be equal", column="customer_id"
        )
    return subscription


def parse_update(value: bytes | None) -> CustomerUpdate:
    """Raises:
    InvalidMessage: not an update.
    """
    return _read_update(value or b"")


def encode_subscription(subscription: Subscription) -> bytes:
    return _encoder.encode(subscription)


def encode_update(update: CustomerUpdate) -> bytes:
    return _encoder.encode(update)


class Subscriptions:
    """All subscriptions, followed between `start` and `stop`."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._table = CompactedTable(settings, SUBSCRIPTIONS, _accepts, lambda _: None)

    async def start(self) -> None:
        await self._table.start()

    async def stop(self) -> None:
        await self._table.stop()

    def __bool__(self) -> bool:
        """Whether anybody is subscribed."""
        return bool(self._table.table)

    def of(self, customer_id: str, now: datetime) -> Subscription | None:
        """A customer's own subscription, else that of everybody; None where there is none, or it has ended."""
        for key in (customer_id.encode(), EVERYBODY.encode()):
            value = self._table.table.get(key)
            if value is not None:
                found = _read_subscription(value)
                if found.until is None or now < found.until:
                    return found
        return None


def _accepts(key: bytes | None, value: bytes | None) -> bool:
    try:
        parse_subscription(key, value)
    except InvalidMessage:
        return False
    return True
