"""A moved channel is told on the topic; without a broker the move stands all the same."""

from __future__ import annotations

import json
import logging
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from infra.announce import BUNDLES, announce
from infra.bundles_cli import bundles
from infra.embedded import HOST, claim_port
from infra.kafka import TopicSpec, ensure_topics
from infra.kafka_consumer import BatchConsumer
from infra.registry import ChannelPointer, Registry
from infra.settings import KafkaSettings, Settings
from tests.support.toy_bundles import toy_bundle

pytestmark = pytest.mark.broker


def pointer(channel: str) -> ChannelPointer:
    return ChannelPointer(
        channel=channel,
        bundle_id="20261105T031200Z-8f3c1a9",
        previous=None,
        activated_at=datetime(2026, 11, 5, tzinfo=UTC),
        by="test",
    )


async def told(kafka: KafkaSettings, channel: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    async with BatchConsumer(kafka, [BUNDLES], batch_size=100) as consumer:
        for _ in range(100):
            for records in (await consumer.getmany(100)).values():
                found += [json.loads(r.value) for r in records if r.key == channel.encode() and r.value]
            if found:
                break
    return found


async def test_a_move_is_told_under_its_channel(kafka_url: str) -> None:
    settings = Settings(kafka=KafkaSettings(url=kafka_url))
    await ensure_topics(settings.kafka, [TopicSpec(BUNDLES, 1, compacted=True)])
    channel = f"c-{uuid.uuid4().hex[:8]}"
    assert await announce(settings, pointer(channel)) is True
    assert await told(settings.kafka, channel) == [
        {
            "channel": channel,
            "bundle_id": "20261105T031200Z-8f3c1a9",
            "uri": settings.registry.url,
            "schema_version": 1,
        }
    ]


async def test_without_a_broker_it_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    assert await announce(Settings(), pointer("production")) is False
    assert caplog.text == ""  # none is configured
    url = f"kafka://{HOST}:{claim_port(0, what='nothing', remedy='none')}"
    with caplog.at_level(logging.WARNING):
        assert await announce(Settings(kafka=KafkaSettings(url=url)), pointer("production")) is False
    assert "not announced" in caplog.text


def test_activate_and_rollback_tell_it(kafka_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncio

    channel = f"c-{uuid.uuid4().hex[:8]}"
    monkeypatch.setenv("MODISTE_KAFKA__URL", kafka_url)
    monkeypatch.setenv("MODISTE_REGISTRY__URL", f"file://{tmp_path / 'registry'}")
    monkeypatch.setenv("MODISTE_REGISTRY__CHANNEL", channel)
    kafka = KafkaSettings(url=kafka_url)
    asyncio.run(ensure_topics(kafka, [TopicSpec(BUNDLES, 1, compacted=True)]))
    registry = Registry(f"file://{tmp_path / 'registry'}")
    red, green = (toy_bundle(tmp_path / words, words) for words in ("red", "green"))
    for words in ("red", "green"):
        registry.publish(tmp_path / words)
    for words in (["activate", red], ["activate", green], ["rollback"]):
        assert CliRunner().invoke(bundles, [*words, "--unchecked"], catch_exceptions=False).exit_code == 0
    found = asyncio.run(told(kafka, channel))
    # A compacted topic may have dropped all but the last one.
    assert [message["bundle_id"] for message in found][-1] == red
