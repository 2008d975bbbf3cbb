"""The standing feed on a real broker: a consumer that stalls without an error is replaced, and nobody is forgotten."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Callable

import pytest

from infra.clock import SystemClock
from infra.kafka import Producer, ensure_topics
from infra.settings import KafkaSettings, ResponderSettings, Settings
from streams.subscriptions import encode_update
from streams.topics import CUSTOMER_UPDATES, topic_specs
from tests.serving.test_feed import Shop, update

pytestmark = pytest.mark.broker

STALL_S = 1.0


async def eventually(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.05)


async def test_a_feed_whose_consumer_stalls_reads_on_with_another(
    kafka_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    name = f"g-{uuid.uuid4().hex[:8]}"
    kafka = KafkaSettings(url=kafka_url, session_timeout_ms=6_000, stall_timeout_ms=int(STALL_S * 1_000))
    await ensure_topics(kafka, topic_specs(kafka))
    shop = Shop(Settings(kafka=kafka, responder=ResponderSettings(group=name)), wall=SystemClock())

    def told(number: int) -> bool:
        return any(f"-{number}" in row["request_id"] for row in shop.link.on("recommendations"))

    async with Producer(kafka) as producer:

        async def buys(number: int) -> None:
            await producer.send(CUSTOMER_UPDATES, b"bert", encode_update(update("bert", number)))

        await shop.feed.start()
        try:
            await buys(1)
            await eventually(lambda: told(1))
            first = shop.feed._consumer
            assert first is not None
            await asyncio.sleep(3 * STALL_S)
            assert shop.feed._consumer is first  # that nothing comes is no stall
            reader = first._reader._consumer
            assert reader is not None
            reader.pause(*reader.assignment())
            await asyncio.sleep(0.3)  # a fetch that is out still brings what it finds
            with caplog.at_level(logging.ERROR):
                await buys(2)
                await eventually(lambda: told(2))
            assert shop.feed._consumer is not first
            assert "the feed's consumer has stalled: nothing was read for" in caplog.text
        finally:
            await shop.feed.stop()
