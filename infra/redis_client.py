"""Connections to the Redis-protocol server, and its errors in our words."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from infra.credentials import PROBE_S, no_tls, only_tls, password_of, speaks_tls, tls_context, tls_refusal
from infra.errors import ConfigurationError, ModisteError, StoreUnavailable
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
    place = _place(settings)
    try:
        yield
    except redis.exceptions.AuthenticationError as error:
        raise ConfigurationError(
            f"{place} refuses us ({error}); check redis.username and redis.password (or redis.password_file), or user "
            "and password in redis.url"
        ) from error
    except redis.exceptions.NoPermissionError as error:
        raise ConfigurationError(
            f"{place} does not allow our user this ({error}); widen its ACL, or check redis.username and redis.prefix"
        ) from error
    except redis.exceptions.TimeoutError as error:
        raise StoreUnavailable(f"{place} did not answer within {settings.timeout_ms} ms") from error
    except (
        redis.exceptions.ConnectionError,
        redis.exceptions.ReadOnlyError,
        redis.exceptions.OutOfMemoryError,
        redis.exceptions.TryAgainError,
        redis.exceptions.ClusterDownError,
        redis.exceptions.MasterDownError,
        redis.exceptions.InvalidResponse,
        OSError,
    ) as error:
        refused = tls_refusal("redis", place, error)
        if refused is not None:
            raise refused from error
        raise StoreUnavailable(f"{place} does not serve: {mask_secrets(str(error))}") from error


async def connect(settings: RedisSettings) -> redis.asyncio.Redis:
    """A client (values as bytes) that has had its first answer; close it with `await client.aclose()`.

    Raises:
        ConfigurationError: the URL names no server to connect to, or the server refuses our credentials.
        StoreUnavailable: no answer, each of RETRIES + 1 times within `timeout_ms`.
    """
    # Whether we may come in is asked with blocking sockets, which are closed when it is refused: asyncio lets a TLS
    # connection that it gave up live until the other side agrees, and says so only once the loop is gone.
    await asyncio.to_thread(_knock, settings)
    retry = AsyncRetry(ConstantBackoff(RETRY_AFTER_S), RETRIES)
    client = redis.asyncio.Redis.from_url(_server(settings), retry=retry, **_options(settings))
    try:
        with store_errors(settings):
            await client.ping()
    except BaseException:
        await client.aclose()
        await asyncio.sleep(0)  # a transport that was given up closes its socket in the loop's next turn
        raise
    return client


def _knock(settings: RedisSettings) -> None:
    connect_sync(settings).close()


def connect_sync(settings: RedisSettings) -> redis.Redis:
    """As `connect`, for code without an event loop; close it with `client.close()`."""
    retry = Retry(ConstantBackoff(RETRY_AFTER_S), RETRIES)
    client = redis.Redis.from_url(_server(settings), retry=retry, **_options(settings))
    try:
        try:
            with store_errors(settings):
                client.ping()
        except StoreUnavailable as error:
            raise _why_away(settings, error) from error
    except BaseException:
        client.close()
        raise
    return client


def _options(settings: RedisSettings) -> dict[str, Any]:
    """How to connect; what the URL says wins.

    Raises:
        ConfigurationError: a certificate, its key or the password file cannot be used; names the setting.
    """
    seconds = settings.timeout_ms / 1_000
    options: dict[str, Any] = {
        "socket_timeout": seconds,
        "socket_connect_timeout": seconds,
        "client_name": "modiste",
        "username": settings.username,
        "password": password_of("redis", settings),
    }
    if settings.url.startswith("rediss:"):
        tls_context("redis", settings)  # the library reads the files again, and asks on the terminal for passphrases
        files = {"ssl_ca_certs": settings.ca_file, "ssl_certfile": settings.cert_file}
        files["ssl_keyfile"] = settings.key_file or settings.cert_file
        options |= {name: str(path) for name, path in files.items() if path is not None}
    return options


def _place(settings: RedisSettings) -> str:
    return f"the server at {mask_secrets(settings.url)}"


def _why_away(settings: RedisSettings, error: StoreUnavailable) -> ModisteError:
    """The error to raise when the first question got no answer: the library may not say why, so ask again.

    Returns:
        ConfigurationError where the server is of the other protocol or asks for a certificate; else `error`.
    """
    scheme, _, _ = settings.url.partition("://")
    if scheme not in ("redis", "rediss"):
        return error
    parts = urlsplit(settings.url)
    host, port = parts.hostname or "", parts.port or 6_379
    if scheme == "redis":
        return only_tls("redis", _place(settings)) if speaks_tls(host, port) else error
    if _speaks_plaintext(host, port):
        return no_tls("redis", _place(settings))
    try:
        with (
            socket.create_connection((host, port), timeout=PROBE_S) as plain,
            tls_context("redis", settings).wrap_socket(plain, server_hostname=host) as connection,
        ):
            # Nothing is sent: a server that closes with something unread resets the connection, and its reason is lost.
            connection.recv(1)
    except OSError as problem:  # a server that misses our certificate says so after the handshake
        return tls_refusal("redis", _place(settings), problem) or error
    return error


def _ping(connection: socket.socket) -> bool:
    """True when PING gets an answer; any will do, also that a password is asked for."""
    connection.sendall(b"PING\r\n")
    return connection.recv(1) in (b"+", b"-")


def _speaks_plaintext(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=PROBE_S) as connection:
            return _ping(connection)
    except OSError:
        return False


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
