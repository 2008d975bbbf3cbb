"""Telling running processes that a channel has moved, on the topic `bundles`.

The registry is the truth and every process looks at it every two seconds; the message only wakes them sooner. So an
announcement that cannot be made is a warning, never an error.
"""

from __future__ import annotations

import asyncio
import logging

import msgspec

from infra.errors import ModisteError
from infra.kafka import Producer
from infra.registry import ChannelPointer
from infra.settings import Settings

BUNDLES = "bundles"
TIMEOUT_S = 3.0

log = logging.getLogger(__name__)


class Announcement(msgspec.Struct, frozen=True, kw_only=True):
    """Value on the topic `bundles`; the key is the channel, and the topic keeps the last one of each.

    It carries no hash: a bundle's id is one of its content, and whoever opens it checks every file.
    """

    channel: str
    bundle_id: str
    uri: str
    schema_version: int = 1


def announcement(settings: Settings, pointer: ChannelPointer) -> tuple[str, bytes, bytes]:
    """Topic, key and value of the message that says where the channel points."""
    said = Announcement(channel=pointer.channel, bundle_id=pointer.bundle_id, uri=settings.registry.url)
    return BUNDLES, said.channel.encode(), msgspec.json.encode(said)


async def announce(settings: Settings, pointer: ChannelPointer) -> bool:
    """Say that the channel points there now; False, with a warning, where no broker takes it in time."""
    if settings.kafka.url.startswith("embedded://"):
        return False  # none is configured: it runs inside `modiste up`, which tells its URL
    try:
        async with asyncio.timeout(TIMEOUT_S), Producer(settings.kafka) as producer:
            await producer.send(*announcement(settings, pointer))
    except (ModisteError, TimeoutError) as error:
        reason = str(error) if isinstance(error, ModisteError) else f"no answer within {TIMEOUT_S:g} s"
        log.warning("not announced, processes will see it by themselves: %s", reason)
        return False
    return True
