"""The work that every peer does with a batch: ours, so that only the consumers differ."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from infra.clock import SystemClock
from infra.registry import Registry
from infra.settings import Settings
from streams.encoder import load_query_encoder
from streams.processor import Processor, RawMessage
from streams.redis_store import open_store

Work = Callable[[Sequence[RawMessage]], None]


async def open_processor(settings: Settings) -> Processor:
    """Store, clock and the encoder of the channel's bundle, as the worker has them."""
    registry = Registry(settings.registry.url)
    bundle = registry.open(registry.pointer(settings.registry.channel).bundle_id)
    return Processor(await open_store(settings.redis), SystemClock(), load_query_encoder(bundle))


def open_work(settings: Settings, loop: asyncio.AbstractEventLoop) -> Work:
    """The same for consumers without an event loop: returns when the batch is in the store."""
    processor = loop.run_until_complete(open_processor(settings))

    def work(messages: Sequence[RawMessage]) -> None:
        loop.run_until_complete(processor.process(messages))

    return work
