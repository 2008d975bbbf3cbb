"""Events onto the topic, keyed by customer so that one customer's events keep their order."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from streams.events import Event, check_event, encode_event
from streams.topics import TRANSACTIONS


class Outlet(Protocol):
    """What the publisher needs of `infra.kafka.Producer`."""

    async def send_many(self, messages: Iterable[tuple[str, bytes | None, bytes]]) -> int: ...


def message_of(event: Event) -> tuple[bytes, bytes]:
    """Key and value of an event on the wire.

    Raises:
        InvalidMessage: the worker would refuse the event.
    """
    return event.customer_id.encode(), encode_event(check_event(event))


class EventPublisher:
    """Publishes checked events. The producer is the caller's: start it before and stop it after."""

    def __init__(self, producer: Outlet, topic: str = TRANSACTIONS) -> None:
        self._producer = producer
        self._topic = topic

    async def publish(self, event: Event) -> None:
        """Send one event and wait until the broker has it.

        Raises:
            InvalidMessage: the worker would refuse the event. BrokerUnavailable: no acknowledgement.
        """
        await self.publish_many([event])

    async def publish_many(self, events: Iterable[Event]) -> int:
        """Send events in order, in constant memory, and wait until the broker has all; returns how many.

        Raises:
            InvalidMessage: the worker would refuse an event; those before it may have been sent.
            BrokerUnavailable: at least one was not acknowledged.
        """
        return await self._producer.send_many((self._topic, *message_of(event)) for event in events)
