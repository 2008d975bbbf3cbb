"""The standing feed on a real broker: a consumer that stalls without an error is replaced, and nobody is forgotten."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from infra.clock import SystemClock
from infra.kafka import Producer, TopicSpec, ensure_topics
from infra.settings import KafkaSettings, ResponderSettings, Settings
from streams.intake import REPLACED
from streams.subscriptions import encode_update
from tests.serving.test_feed import Shop, update

pytestmark = pytest.mark.broker

STALL_S = 1.0


async def eventually(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.05)


async def test_a_feed_whose_consumer_stalls_reads_on_with_another(
    kafka_url: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"g-{uuid.uuid4().hex[:8]}"
    kafka = KafkaSettings(url=kafka_url, session_timeout_ms=6_000, stall_timeout_ms=int(STALL_S * 1_000))
    topic = f"updates-{uuid.uuid4().hex[:8]}"
    monkeypatch.setattr("serving.feed.CUSTOMER_UPDATES", topic)
    await ensure_topics(kafka, [TopicSpec(topic, 2)])
    replaced = REPLACED._value.get()
    shop = Shop(Settings(kafka=kafka, responder=ResponderSettings(group=name)), wall=SystemClock())

    def told(number: int) -> bool:
        return any(row["request_id"] == f"feed-transactions-0-{number}" for row in shop.link.on("recommendations"))

    async with Producer(kafka) as producer:

        async def buys(number: int) -> None:
            await producer.send(topic, b"bert", encode_update(update("bert", number)))

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
            assert REPLACED._value.get() == replaced + 1
            assert "the feed's consumer has stalled: nothing was read for" in caplog.text
        finally:
            await shop.feed.stop()


async def test_a_consumer_that_does_not_close_is_cut_off(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One whose coordination hangs is just the one that stalls."""
    monkeypatch.setattr("serving.feed.CLOSE_S", 0.05)
    made: list[Hanging] = []

    class Hanging:
        def __init__(self, *_: Any, **__: Any) -> None:
            made.append(self)

        async def start(self) -> None:
            if len(made) > 1:
                await asyncio.Event().wait()

        async def stop(self) -> None:
            await asyncio.Event().wait()

        async def positions(self) -> dict[Any, int]:
            return {}

        async def getmany(self, timeout_ms: int) -> dict[Any, Any]:
            raise RuntimeError("coordination has ended")

    monkeypatch.setattr("serving.feed.GroupConsumer", Hanging)
    shop = Shop(wall=SystemClock())
    await shop.feed.start()
    await eventually(lambda: len(made) == 2)
    await asyncio.wait_for(shop.feed.stop(), 10.0)
    assert "did not close within 0 s and was cut off" in caplog.text
