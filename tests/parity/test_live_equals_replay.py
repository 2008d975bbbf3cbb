"""Live = replay: the same events through broker, worker and store end in the bytes that replay gives."""

from __future__ import annotations

import random
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from infra.kafka import Producer, ensure_topics
from infra.settings import KafkaSettings, RedisSettings
from streams.events import EVENT_TYPES, Event
from streams.publisher import EventPublisher
from streams.redis_store import open_store
from streams.replay import replay_states
from streams.state import MAX_EVENTS
from streams.state_format import encode_state
from streams.topics import topic_specs
from tests.support.worker_process import WorkerProcess

pytestmark = [pytest.mark.broker, pytest.mark.slow]

START = datetime(2017, 3, 1, tzinfo=UTC)


def history(prefix: str) -> list[Event]:
    """One customer beyond the window, thirty small ones; prices unknown here and there, times shared."""
    dice = random.Random(7)
    customers = [f"{prefix}-big"] * (MAX_EVENTS + 200)
    customers += [f"{prefix}-{dice.randrange(30)}" for _ in range(1_500)]
    return [
        Event(
            event_id=f"{prefix}-{n}",
            type=dice.choice(EVENT_TYPES),
            occurred_at=START + timedelta(seconds=dice.randrange(2_000), microseconds=dice.randrange(3)),
            customer_id=customer,
            article_id=f"a{dice.randrange(50)}",
            price=None if dice.random() < 0.2 else dice.random() * 100,
            quantity=dice.randint(1, 9),
        )
        for n, customer in enumerate(customers)
    ]


def columns(events: list[Event]) -> pa.Table:
    return pa.table(
        {
            "event_id": [e.event_id for e in events],
            "type": [e.type for e in events],
            "occurred_at": pa.array([e.occurred_at for e in events], pa.timestamp("us", "UTC")),
            "customer_id": [e.customer_id for e in events],
            "article_id": [e.article_id for e in events],
            "price": pa.array([e.price for e in events], pa.float64()),
            "quantity": pa.array([e.quantity for e in events], pa.int32()),
        }
    )


async def test_live_states_equal_replayed_states_byte_for_byte(kafka_url: str, redis_url: str, tmp_path: Path) -> None:
    prefix = uuid.uuid4().hex[:8]
    events = history(prefix)
    expected = {name: encode_state(state) for name, state in replay_states([columns(events)]).items()}
    # Live has it harder: any order, and one message in ten twice.
    dice = random.Random(8)
    live = events + dice.sample(events, len(events) // 10)
    dice.shuffle(live)

    kafka = KafkaSettings(url=kafka_url, session_timeout_ms=6_000)
    await ensure_topics(kafka, topic_specs(kafka))
    async with Producer(kafka) as producer:
        await EventPublisher(producer).publish_many(live)

    redis = RedisSettings(url=redis_url, prefix=f"test-{prefix}")
    store = await open_store(redis)
    env = {
        "MODISTE_KAFKA__URL": kafka_url,
        "MODISTE_KAFKA__SESSION_TIMEOUT_MS": "6000",
        "MODISTE_REDIS__URL": redis_url,
        "MODISTE_REDIS__PREFIX": redis.prefix,
        "MODISTE_WORKER__GROUP": f"worker-{prefix}",
        "MODISTE_WORKER__BATCH_SIZE": "150",
        "MODISTE_REGISTRY__URL": f"file://{tmp_path}/registry",
    }
    try:
        with WorkerProcess(tmp_path, env) as worker:

            async def stored() -> dict[str, bytes]:
                found = await store.load(list(expected))
                return {f.state.customer_id: encode_state(f.state) for f in found if f is not None}

            async def equal() -> bool:
                return await stored() == expected

            await worker.until(equal)
            assert worker.terminate() == 0
        assert await stored() == expected  # and nothing came after
        assert len(expected) == 31
    finally:
        await store.close()
