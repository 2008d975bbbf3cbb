"""A compacted topic as a table: what was said before, what is said now, what is taken back."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Collection

import pytest

from infra.compacted import CompactedTable
from infra.kafka import Producer, TopicSpec, ensure_topics
from infra.settings import KafkaSettings

pytestmark = pytest.mark.broker


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(2_000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("not within 20 s")


async def test_a_table_holds_the_last_accepted_message_of_every_key(kafka_url: str) -> None:
    settings = KafkaSettings(url=kafka_url)
    topic = f"table-{uuid.uuid4().hex[:8]}"
    await ensure_topics(settings, [TopicSpec(topic, 3, compacted=True)])
    heard: list[Collection[bytes] | None] = []
    table = CompactedTable(settings, topic, lambda _, value: value != b"bad", heard.append)
    async with Producer(settings) as producer:
        for value in (b"1", b"2", b"bad"):
            await producer.send(topic, b"a", value)
        await producer.send_many([(topic, b"b", b"1"), (topic, b"gone", b"1"), (topic, b"gone", None)])
        await table.start()
        try:
            assert table.complete
            assert dict(table.table) == {b"a": b"2", b"b": b"1"}
            assert heard == [None]
            await producer.send_many([(topic, b"b", None), (topic, b"c", b"1"), (topic, b"a", b"bad")])
            await until(lambda: dict(table.table) == {b"a": b"2", b"c": b"1"})
            assert {key for keys in heard[1:] for key in keys or ()} == {b"b", b"c"}
        finally:
            await table.stop()


async def test_an_empty_topic_is_complete(kafka_url: str) -> None:
    settings = KafkaSettings(url=kafka_url)
    topic = f"table-{uuid.uuid4().hex[:8]}"
    await ensure_topics(settings, [TopicSpec(topic, 2, compacted=True)])
    table = CompactedTable(settings, topic, lambda *_: True, lambda _: None)
    await table.start(wait_s=20)
    try:
        assert table.complete
        assert not table.table
    finally:
        await table.stop()


async def test_a_broker_that_is_away_is_waited_for_and_not_for_ever(caplog: pytest.LogCaptureFixture) -> None:
    settings = KafkaSettings(url="kafka://127.0.0.1:1", request_timeout_ms=500)
    table = CompactedTable(settings, "away", lambda *_: True, lambda _: None)
    await table.start(wait_s=0.2)
    try:
        assert not table.complete
        assert "going on without it" in caplog.text
    finally:
        await table.stop()
