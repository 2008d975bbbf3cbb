"""Passwords, keys, certificates and what a server says to them, for every client alike (Kafka, Redis, LLM).

A refusal is a ConfigurationError that names the setting to look at: trying again cannot help. No text made here holds
a password, and a password that stands in a file is read when a client is made, so a new one needs no new settings.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

from infra.errors import ConfigurationError
from infra.settings import KafkaSettings, LlmSettings, RedisSettings

PROBE_S = 2.0
_TLS_RECORDS = (b"\x15", b"\x16")  # an alert, or what goes on with the handshake (RFC 8446, 5.1)

# Of OpenSSL's verify codes.
_NOT_YET_VALID, _EXPIRED = 9, 10
_OTHER_NAME = (62, 64)


Credentials = KafkaSettings | RedisSettings


def password_of(section: str, settings: Credentials) -> str | None:
    """The password, from the settings or from its file (a line end there is not part of it); None without one.

    Raises:
        ConfigurationError: the file cannot be read, or is empty.
    """
    if settings.password is not None:
        return settings.password.get_secret_value()
    if settings.password_file is None:
        return None
    return _held_in(settings.password_file, f"{section}.password_file", "the password")


def api_key_of(settings: LlmSettings) -> str | None:
    """The key of the language model's endpoint, from the settings or from its file; None without one.

    Raises:
        ConfigurationError: the file cannot be read, or is empty; or the key cannot stand in a header.
    """
    if settings.api_key is not None:
        place, key = "llm.api_key", settings.api_key.get_secret_value()
    elif settings.api_key_file is not None:
        place, key = "llm.api_key_file", _held_in(settings.api_key_file, "llm.api_key_file", "the key")
    else:
        return None
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigurationError(f"{place}: a key is printable ASCII without blanks; check what was pasted there")
    return key


def _held_in(file: Path, setting: str, what: str) -> str:
    """The text of a file that holds a secret and nothing else."""
    place = f"{setting} = {file}"
    try:
        secret = file.read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as error:
        raise ConfigurationError(f"{place} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        raise ConfigurationError(f"{place} is not UTF-8 text; write {what} and nothing else") from None
    if not secret:
        raise ConfigurationError(f"{place} is empty; write {what} and nothing else")
    return secret


def tls_context(section: str, settings: Credentials) -> ssl.SSLContext:
    """Checks the server's certificate and name, against `ca_file` or else the system's authorities.

    Raises:
        ConfigurationError: a file is missing, is not PEM, or the key is not the certificate's; names the setting.
    """
    try:
        context = ssl.create_default_context(cafile=settings.ca_file)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise ConfigurationError(
            f"{section}.ca_file = {settings.ca_file}: {_why(error)}; give certificates in PEM form"
        ) from error
    if settings.cert_file is not None:
        files = f"{section}.cert_file = {settings.cert_file}"
        if settings.key_file is not None:
            files += f" with {section}.key_file = {settings.key_file}"
        try:
            context.load_cert_chain(settings.cert_file, settings.key_file, password=_no_passphrase)
        except (OSError, ValueError) as error:
            raise ConfigurationError(
                f"{files}: {_why(error)}; give the client's certificate and its own key in PEM form, not encrypted"
            ) from error
    return context


def _no_passphrase() -> str:
    """Instead of a question on the terminal."""
    raise ValueError("the key is encrypted")


def _why(error: BaseException) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or "no PEM in it").lower().replace("_", " ")
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def tls_refusal(section: str, place: str, error: BaseException) -> ConfigurationError | None:
    """What `error`, or one behind it, says about certificates; None when it is about something else."""
    for cause in _chain(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return ConfigurationError(f"{place}: {_verification(section, cause)}")
        if isinstance(cause, ssl.SSLError) and cause.reason is not None:
            if "ALERT" in cause.reason:
                return ConfigurationError(
                    f"{place} ends the TLS handshake ({cause.reason.lower().replace('_', ' ')}); if it asks for a "
                    f"client's certificate, check {section}.cert_file and {section}.key_file"
                )
            if cause.reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG"):
                return no_tls(section, place)
    return None


def _verification(section: str, error: ssl.SSLCertVerificationError) -> str:
    said = error.verify_message
    if error.verify_code == _EXPIRED:
        return f"the server's certificate is not valid any more ({said}); renew it there, {section}.ca_file may stay"
    if error.verify_code == _NOT_YET_VALID:
        return f"the server's certificate is not valid yet ({said}); compare the clocks of the two machines"
    if error.verify_code in _OTHER_NAME:
        return f"the server's certificate is of another name ({said}); write its name in {section}.url"
    return f"the server's certificate is not trusted ({said}); {section}.ca_file must hold the authority that signed it"


def no_tls(section: str, place: str) -> ConfigurationError:
    """The server speaks plaintext where TLS is set."""
    remedy = {
        "kafka": "take its TLS port in kafka.url, or set kafka.security_protocol to PLAINTEXT or SASL_PLAINTEXT",
        "redis": "take its TLS port in redis.url, or write redis:// there",
    }
    return ConfigurationError(f"{place} does not speak TLS; {remedy[section]}")


def only_tls(section: str, place: str) -> ConfigurationError:
    """The server speaks TLS where plaintext is set."""
    remedy = {"kafka": "set kafka.security_protocol to SSL or SASL_SSL", "redis": "write rediss:// in redis.url"}
    return ConfigurationError(f"{place} speaks TLS; {remedy[section]}, or take its plaintext port")


def speaks_tls(host: str, port: int, wait_s: float = PROBE_S) -> bool:
    """True when the first byte of an answer to the beginning of a TLS handshake is one of TLS, whatever comes after it.
    Blocks until it is there or the server hangs up, at most `wait_s` to connect and as long for the byte."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # nothing is sent on this connection
    hello = ssl.MemoryBIO()
    try:
        handshake = context.wrap_bio(ssl.MemoryBIO(), hello, server_hostname=host)
        with contextlib.suppress(ssl.SSLWantReadError):
            handshake.do_handshake()
        with socket.create_connection((host, port), timeout=wait_s) as connection:
            connection.sendall(hello.read())
            return connection.recv(1) in _TLS_RECORDS
    except (OSError, ValueError):
        return False


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and those it came from, each once."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__
