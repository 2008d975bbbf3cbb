"""Answers that any process can explain, in the Redis-protocol server: one JSON value each, gone after a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import redis.asyncio

from infra.redis_client import connect, store_errors
from infra.settings import RedisSettings, Settings
from serving.explanations import Explanations


class RedisExplanations:
    """See `serving.explanations.Shared`."""

    def __init__(self, client: redis.asyncio.Redis, settings: RedisSettings, kept_s: int) -> None:
        self._client = client
        self._settings = settings
        self._prefix = f"{settings.prefix}:explanation:"
        self._kept_s = kept_s

    async def put(self, values: Sequence[tuple[str, bytes]]) -> None:
        """All in one round trip.

        Raises:
            StoreUnavailable: no answer in time; some of the values may have been written.
        """
        pipeline = self._client.pipeline(transaction=False)
        for request_id, value in values:
            pipeline.set(self._prefix + request_id, value, ex=self._kept_s)
        with store_errors(self._settings):
            await pipeline.execute()

    async def get(self, request_id: str) -> bytes | None:
        """The value, None where there is none or not any more.

        Raises:
            StoreUnavailable: no answer in time.
        """
        with store_errors(self._settings):
            # MGET, which the users of our ACL may call already.
            (value,) = cast(list[bytes | None], await self._client.mget([self._prefix + request_id]))
        return value

    async def close(self) -> None:
        await self._client.aclose()


async def open_explanations(settings: Settings) -> Explanations:
    """As the settings say; with `memory://` other processes learn of nothing.

    Raises:
        ConfigurationError: the URL names no server. StoreUnavailable: it does not answer.
    """
    kept_s = settings.api.explain_s
    shared = None
    if not settings.redis.url.startswith("memory://"):
        shared = RedisExplanations(await connect(settings.redis), settings.redis, kept_s)
    return Explanations(shared, kept_s=kept_s, max_bytes=settings.api.explain_bytes)
