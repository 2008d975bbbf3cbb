"""Quix Streams: its way to write batches is a sink, flushed whenever it commits."""

from __future__ import annotations

from typing import Any

from quixstreams import Application
from quixstreams.sinks.base import BatchingSink, SinkBatch

from infra.kafka_security import bootstrap_servers
from infra.settings import Settings
from offline.peers.work import Work
from streams.processor import RawMessage
from streams.topics import TRANSACTIONS


class _Fold(BatchingSink):  # type: ignore[misc]
    def __init__(self, work: Work) -> None:
        super().__init__()
        self._work = work

    def write(self, batch: SinkBatch) -> None:
        self._work([RawMessage(batch.topic, batch.partition, item.offset, item.key, item.value) for item in batch])


def quix_app(settings: Settings, work: Work) -> Any:
    """An application that commits, and so writes, after as many messages as the worker's batch has."""
    app = Application(
        bootstrap_servers(settings.kafka.url),
        consumer_group=settings.worker.group,
        auto_offset_reset="earliest",
        commit_every=settings.worker.batch_size,
        commit_interval=1.0,
        auto_create_topics=False,
        state_dir=settings.data_dir / "quixstreams",
        loglevel="WARNING",
        consumer_extra_config={"fetch.wait.max.ms": settings.kafka.fetch_wait_ms},
    )
    topic = app.topic(TRANSACTIONS, key_deserializer="bytes", value_deserializer="bytes")
    app.dataframe(topic).sink(_Fold(work))
    return app
