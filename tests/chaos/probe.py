"""Is all of it working now? Asked through the front door: an event and a request on every partition, and an answer
that knows the event."""

from __future__ import annotations

import asyncio
import contextlib
import time
from datetime import datetime

import msgspec

from infra.errors import BrokerUnavailable
from infra.kafka_consumer import BatchConsumer
from serving.messages import Recommendations
from streams.events import encode_event
from streams.topics import RECOMMENDATIONS, REQUESTS, TRANSACTIONS
from tests.chaos.traffic import Traffic, customer_of_each_partition
from tests.chaos.world import PARTITIONS, World

ASK_AGAIN_S = 1.0


class Probe:
    """Listens to the answers while it is open; `recovered` may be asked many times."""

    def __init__(self, world: World, traffic: Traffic) -> None:
        self._world = world
        self._traffic = traffic
        self._customers = customer_of_each_partition("probe", PARTITIONS)
        self._newest: dict[str, datetime] = {}
        self._heard: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Probe:
        self._heard = asyncio.create_task(self._listen())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._heard is not None:
            self._heard.cancel()
            await asyncio.gather(self._heard, return_exceptions=True)

    async def recovered(self, limit_s: float) -> float | None:
        """Seconds until every partition has been folded and answered again; None when it took longer than allowed."""
        began = time.monotonic()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                events = [self._traffic.event(customer, on_time=True) for customer in self._customers]
                await self._traffic.send([(TRANSACTIONS, e.customer_id.encode(), encode_event(e)) for e in events])
                missing = {event.customer_id: event.occurred_at for event in events}
                asked_at = 0.0
                while missing:
                    if time.monotonic() - asked_at > ASK_AGAIN_S:
                        asked_at = time.monotonic()
                        await self._ask(missing)
                    await asyncio.sleep(0.05)
                    known = self._newest
                    missing = {name: at for name, at in missing.items() if name not in known or known[name] < at}
                return time.monotonic() - began
        return None

    async def _ask(self, customers: dict[str, datetime]) -> None:
        requests = [self._traffic.request(customer) for customer in customers]
        await self._traffic.send([(REQUESTS, r.customer_id.encode(), msgspec.json.encode(r)) for r in requests])

    async def _listen(self) -> None:
        """Note what each sound answer knows of its customer; a listener that fails is replaced."""
        decoder = msgspec.json.Decoder(Recommendations)
        while True:
            try:
                async with BatchConsumer(self._world.settings.kafka, [RECOMMENDATIONS], batch_size=1_000) as consumer:
                    while True:
                        for records in (await consumer.getmany(100)).values():
                            for answer in (decoder.decode(record.value) for record in records):
                                if answer.as_of is not None and answer.error is None and not answer.degraded:
                                    before = self._newest.get(answer.customer_id, answer.as_of)
                                    self._newest[answer.customer_id] = max(before, answer.as_of)
            except BrokerUnavailable:
                await asyncio.sleep(0.2)
