"""Faust as its documentation has it: an agent on the topic that takes batches from its stream."""

from __future__ import annotations

import asyncio
from typing import Any

import faust

from infra.kafka_security import bootstrap_servers
from infra.settings import Settings
from offline.peers.work import open_processor
from streams.processor import Processor, RawMessage
from streams.topics import TRANSACTIONS

TAKE_S = 0.2


def run_faust_take(settings: Settings, loop: asyncio.AbstractEventLoop) -> None:
    """`stream.take(n, within)`: every message passes Faust's own path before it is one of a batch."""
    app = faust.App(
        settings.worker.group,
        broker=[f"kafka://{server}" for server in bootstrap_servers(settings.kafka.url).split(",")],
        store="memory://",
        datadir=str(settings.data_dir / settings.worker.group),
        value_serializer="raw",
        key_serializer="raw",
        web_enabled=False,
        topic_disable_leader=True,
        topic_allow_declare=False,
        consumer_auto_offset_reset="earliest",
        stream_buffer_maxsize=2 * settings.worker.batch_size,
    )
    opened: list[Processor] = []

    @app.agent(app.topic(TRANSACTIONS, value_serializer="raw"))
    async def fold(stream: Any) -> None:
        async for values in stream.take(settings.worker.batch_size, within=TAKE_S):
            if not opened:
                opened.append(await open_processor(settings))
            await opened[0].process([RawMessage(TRANSACTIONS, 0, 0, None, value) for value in values])

    faust.Worker(app, loop=loop, loglevel="WARNING", quiet=True).execute_from_commandline()
