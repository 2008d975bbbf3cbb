"""How every Kafka client connects (`client_arguments`), and why a broker would not have it (`why_away`)."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from aiokafka.conn import collect_hosts, create_conn
from aiokafka.errors import (
    AuthenticationFailedError,
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    IllegalSaslStateError,
    KafkaError,
    SaslAuthenticationFailed,
    TopicAuthorizationFailedError,
    UnsupportedSaslMechanismError,
)
from aiokafka.protocol.metadata import MetadataRequest

from infra.credentials import no_tls, only_tls, password_of, speaks_tls, tls_context, tls_refusal
from infra.errors import BrokerUnavailable, ConfigurationError, ModisteError
from infra.settings import KafkaSettings

SCHEME = "kafka://"
# For one answer. Servers that will not have us hang up long before; one with much to do may take seconds to say so.
PROBE_MS = 10_000
_FORBIDDEN = (TopicAuthorizationFailedError, GroupAuthorizationFailedError, ClusterAuthorizationFailedError)


class _NoSecrets(logging.Filter):
    """At level DEBUG the library logs its requests, and that of SASL PLAIN holds the password."""

    def filter(self, record: logging.LogRecord) -> bool:
        arguments = record.args if isinstance(record.args, tuple) else ()
        return not any(type(argument).__name__.startswith("SaslAuthenticate") for argument in arguments)


_no_secrets = _NoSecrets()


def bootstrap_servers(url: str) -> str:
    """`kafka://a:9092,b:9092` -> `a:9092,b:9092`.

    Raises:
        ConfigurationError: the URL names no server to connect to.
    """
    if url.startswith("embedded://"):
        raise ConfigurationError(
            "kafka.url is embedded://, a broker that runs only inside `modiste up` or `modiste demo`; "
            "set MODISTE_KAFKA__URL=kafka://host:port to name a running one"
        )
    if not url.startswith(SCHEME) or not url.removeprefix(SCHEME):
        raise ConfigurationError(f"kafka.url = {url!r}; write kafka://host:port[,host:port]")
    return url.removeprefix(SCHEME)


def client_arguments(settings: KafkaSettings) -> dict[str, Any]:
    """What every aiokafka client is given: where the servers are, and how to show who we are.

    Raises:
        ConfigurationError: the URL names no server; a certificate or the password file cannot be read.
    """
    arguments: dict[str, Any] = {
        "bootstrap_servers": bootstrap_servers(settings.url),
        "security_protocol": settings.security_protocol,
    }
    if settings.uses_tls:
        arguments["ssl_context"] = tls_context("kafka", settings)
    if settings.uses_sasl:
        logging.getLogger("aiokafka.conn").addFilter(_no_secrets)  # added once, however often
        arguments["sasl_mechanism"] = settings.sasl_mechanism
        arguments["sasl_plain_username"] = settings.username
        arguments["sasl_plain_password"] = password_of("kafka", settings)
    return arguments


def refusal(settings: KafkaSettings, error: BaseException) -> ConfigurationError | None:
    """What the broker has against our credentials or rights, by its own words; None when it is not that."""
    place = f"the broker at {settings.url}"
    if isinstance(error, AuthenticationFailedError | SaslAuthenticationFailed):
        return ConfigurationError(
            f"{place} refuses user {settings.username!r} by {settings.sasl_mechanism}; check kafka.username and "
            "kafka.password (or kafka.password_file)"
        )
    if isinstance(error, UnsupportedSaslMechanismError):
        return ConfigurationError(f"{place} does not take {settings.sasl_mechanism}; check kafka.sasl_mechanism")
    if isinstance(error, IllegalSaslStateError):
        protocol = "SSL" if settings.uses_tls else "PLAINTEXT"
        return ConfigurationError(f"{place} asks for no user; set kafka.security_protocol to {protocol}")
    if isinstance(
        error, TopicAuthorizationFailedError | GroupAuthorizationFailedError | ClusterAuthorizationFailedError
    ):
        return ConfigurationError(
            f"{place} does not allow user {settings.username or 'ANONYMOUS'!r} this ({error}); "
            "grant it there, or check kafka.username"
        )
    return tls_refusal("kafka", place, error)


async def why_away(settings: KafkaSettings, error: BaseException) -> ModisteError:
    """The error to raise when a client could not connect: the library only says that it could not, so ask again.

    Returns:
        ConfigurationError where the servers answer and will not have us as the settings are; else BrokerUnavailable.
    """
    found = refusal(settings, error)
    if found is not None:
        return found
    arguments = client_arguments(settings)
    for host, port, _ in collect_hosts(arguments.pop("bootstrap_servers")):
        found = await _ask(settings, host, port, arguments)
        if found is not None:
            return found
    return BrokerUnavailable(f"the broker at {settings.url} does not serve: {str(error) or type(error).__name__}")


async def _ask(settings: KafkaSettings, host: str, port: int, arguments: dict[str, Any]) -> ConfigurationError | None:
    """Connect to one server, as the settings say; when it only hangs up, see whether it speaks another protocol."""
    place = f"the broker at {settings.url}"
    try:
        connection = await create_conn(host, port, request_timeout_ms=PROBE_MS, **arguments)
    except (OSError, EOFError, KafkaError, TimeoutError) as problem:
        found = refusal(settings, problem)
        if found is not None or isinstance(problem, ConnectionRefusedError | TimeoutError):
            return found  # nobody is there, or nobody hung up
        if not settings.uses_tls:
            tls = await asyncio.to_thread(speaks_tls, host, port, PROBE_MS / 1e3)
            return only_tls("kafka", place) if tls else None
        return no_tls("kafka", place) if await _speaks_plaintext(host, port) else None
    try:
        await connection.send(MetadataRequest([]))
    except (OSError, EOFError, KafkaError, TimeoutError):
        if not settings.uses_sasl:
            protocol = "SASL_SSL" if settings.uses_tls else "SASL_PLAINTEXT"
            return ConfigurationError(
                f"{place} answers and hangs up at the first question: it asks for a user; set kafka.security_protocol "
                f"to {protocol}, kafka.sasl_mechanism, kafka.username and kafka.password"
            )
        return None
    finally:
        await connection.close()
    return None


async def _speaks_plaintext(host: str, port: int) -> bool:
    try:
        connection = await create_conn(host, port, request_timeout_ms=PROBE_MS)
    except (OSError, EOFError, KafkaError, TimeoutError):
        return False
    await connection.close()
    return True
