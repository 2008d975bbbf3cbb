"""Connections to the Redis-protocol server, and its errors in our words."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from infra.errors import ConfigurationError, StoreUnavailable
from infra.settings import RedisSettings, mask_secrets

# One more try covers a connection the server closed while idle; longer back-off is the caller's decision.
RETRIES = 1
RETRY_AFTER_S = 0.05


@contextlib.contextmanager
def store_errors(settings: RedisSettings) -> Iterator[None]:
    """Turn the library's errors into ours, inside `with`.

    Raises:
        ConfigurationError: the server refuses our credentials or this user's commands.
        StoreUnavailable: no answer in time, still loading, read-only or out of memory; trying again can help.
    """
    place = mask_secrets(settings.url)
    try:
        yield
    except (redis.exceptions.AuthenticationError, redis.exceptions.NoPermissionError) as error:
        raise ConfigurationError(
            f"the server at {place} refuses us ({error}); check user and password in redis.url (MODISTE_REDIS__URL)"
        ) from error
    except redis.exceptions.TimeoutError as error:
        raise StoreUnavailable(f"the server at {place} did not answer within {settings.timeout_ms} ms") from error
    except (
        redis.exceptions.ConnectionError,
        redis.exceptions.ReadOnlyError,
        redis.exceptions.OutOfMemoryError,
        redis.exceptions.TryAgainError,
        redis.exceptions.ClusterDownError,
        redis.exceptions.MasterDownError,
        OSError,
    ) as error:
        raise StoreUnavailable(f"the server at {place} does not serve: {mask_secrets(str(error))}") from error


async def connect(settings: RedisSettings) -> redis.asyncio.Redis:
    """A client (values as bytes) that has had its first answer; close it with `await client.aclose()`.

    Raises:
        ConfigurationError: the URL names no server to connect to, or the server refuses our credentials.
        StoreUnavailable: no answer within `timeout_ms`.
    """
    retry = AsyncRetry(ConstantBackoff(RETRY_AFTER_S), RETRIES)
    client = redis.asyncio.Redis.from_url(_server(settings), retry=retry, **_options(settings))
    try:
        with store_errors(settings):
            await client.ping()
    except BaseException:
        await client.aclose()
        raise
    return client


def connect_sync(settings: RedisSettings) -> redis.Redis:
    """As `connect`, for code without an event loop; close it with `client.close()`."""
    retry = Retry(ConstantBackoff(RETRY_AFTER_S), RETRIES)
    client = redis.Redis.from_url(_server(settings), retry=retry, **_options(settings))
    try:
        with store_errors(settings):
            client.ping()
    except BaseException:
        client.close()
        raise
    return client


def _options(settings: RedisSettings) -> dict[str, Any]:
    seconds = settings.timeout_ms / 1_000
    return {"socket_timeout": seconds, "socket_connect_timeout": seconds, "client_name": "modiste"}


def _server(settings: RedisSettings) -> str:
    """The URL when it names a server.

    Raises:
        ConfigurationError: `embedded://` (a server only inside `modiste up`) or `memory://` (has none).
    """
    if settings.url.startswith("embedded://"):
        raise ConfigurationError(
            "redis.url is embedded://, a server that runs only inside `modiste up` or `modiste demo`; "
            "set MODISTE_REDIS__URL=redis://host:port to name a running one"
        )
    if settings.url.startswith("memory://"):
        raise ConfigurationError("redis.url is memory://, which has no server; use redis://, rediss:// or unix:// here")
    return settings.url
