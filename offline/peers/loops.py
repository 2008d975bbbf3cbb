"""Plain consumer loops, as one would write them without a framework: read a batch, apply it, commit."""

from __future__ import annotations

from aiokafka import AIOKafkaConsumer

from infra.kafka_security import bootstrap_servers
from infra.settings import Settings
from offline.peers.work import Work, open_processor
from streams.processor import RawMessage
from streams.topics import TRANSACTIONS


async def aiokafka_loop(settings: Settings) -> None:
    """`getmany` with the worker's fetch settings; the next batch is read when this one is applied."""
    processor = await open_processor(settings)
    consumer = AIOKafkaConsumer(
        TRANSACTIONS,
        bootstrap_servers=bootstrap_servers(settings.kafka.url),
        group_id=settings.worker.group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=settings.kafka.fetch_wait_ms,
        max_poll_records=settings.worker.batch_size,
    )
    await consumer.start()
    while True:
        records = await consumer.getmany(timeout_ms=200, max_records=settings.worker.batch_size)
        if records:
            await processor.process(
                [RawMessage(r.topic, r.partition, r.offset, r.key, r.value) for part in records.values() for r in part]
            )
            await consumer.commit()


def confluent_loop(settings: Settings, work: Work) -> None:
    """librdkafka reads ahead in its own threads; commits are sent without waiting for the answer."""
    from confluent_kafka import Consumer

    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap_servers(settings.kafka.url),
            "group.id": settings.worker.group,
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "fetch.wait.max.ms": settings.kafka.fetch_wait_ms,
        }
    )
    consumer.subscribe([TRANSACTIONS])
    while True:
        found = consumer.consume(settings.worker.batch_size, timeout=0.2)
        messages = [
            RawMessage(m.topic() or "", m.partition() or 0, m.offset() or 0, m.key(), m.value())
            for m in found
            if m.error() is None
        ]
        if messages:
            work(messages)
            consumer.commit(asynchronous=True)
