"""Sections `kafka` and `redis`: where the servers are, and who we are to them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from infra.settings_section import Milliseconds, Name, Secret, Section, User, check_scheme

KAFKA_SCHEMES = ("embedded", "kafka")
REDIS_SCHEMES = ("embedded", "redis", "rediss", "unix", "memory")


def _kafka_url(url: str) -> str:
    if check_scheme(url, KAFKA_SCHEMES) == "kafka":
        if "@" in url:
            raise ValueError("a user and password have no place in it; set kafka.username and kafka.password")
        for server in url.removeprefix("kafka://").split(","):
            host, _, port = server.rpartition(":")
            if not host or not port.isdigit() or not 0 < int(port) <= 65_535:
                raise ValueError(f"{server!r} is not host:port; write kafka://host:port[,host:port]")
    return url


def _redis_url(url: str) -> str:
    if check_scheme(url, REDIS_SCHEMES) in ("redis", "rediss"):
        try:
            parts = urlsplit(url)
            sound = bool(parts.hostname) and parts.port != 0
        except ValueError:
            sound = False
        if not sound:
            raise ValueError(
                "write redis://[user:password@]host[:port][/db], port 1 to 65535, "
                "signs such as '/' or '@' in a password as %2F or %40"
            )
    return url


def _check_pairs(section: KafkaSettings | RedisSettings) -> None:
    if section.password is not None and section.password_file is not None:
        raise ValueError("give password or password_file, not both")
    if section.key_file and not section.cert_file:
        raise ValueError("key_file needs cert_file, the certificate it belongs to")


class KafkaSettings(Section):
    """The broker, how clients show who they are (`infra.kafka_security`), and how they wait for it."""

    url: Annotated[str, AfterValidator(_kafka_url)] = Field(default="embedded://", repr=False)
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    username: User | None = None
    password: Secret | None = None
    password_file: Path | None = None
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    session_timeout_ms: Milliseconds = 30_000
    request_timeout_ms: Milliseconds = 40_000
    fetch_wait_ms: Milliseconds = 10
    stall_timeout_ms: Milliseconds = 20_000
    partitions: Annotated[int, Field(ge=1, le=10_000)] = 4

    @property
    def uses_tls(self) -> bool:
        return self.security_protocol in ("SSL", "SASL_SSL")

    @property
    def uses_sasl(self) -> bool:
        return self.security_protocol in ("SASL_PLAINTEXT", "SASL_SSL")

    @model_validator(mode="after")
    def _credentials_fit(self) -> Self:
        _check_pairs(self)
        given = self.password is not None or self.password_file is not None
        if self.uses_sasl and not (self.username and given):
            raise ValueError(
                f"security_protocol {self.security_protocol} needs username and password (or password_file)"
            )
        if not self.uses_sasl and (self.username or given):
            raise ValueError("a username or password is used by security_protocol SASL_SSL or SASL_PLAINTEXT only")
        if not self.uses_tls and (self.ca_file or self.cert_file):
            raise ValueError("ca_file and cert_file are used by security_protocol SSL or SASL_SSL only")
        if self.security_protocol != "PLAINTEXT" and self.url.startswith("embedded:"):
            raise ValueError("the embedded broker knows no security_protocol but PLAINTEXT; name another in url")
        return self


class RedisSettings(Section):
    """The state store and who we are to it (TLS by `rediss://`); every key in it begins with `prefix`."""

    url: Annotated[str, AfterValidator(_redis_url)] = Field(default="embedded://", repr=False)
    username: User | None = None
    password: Secret | None = None
    password_file: Path | None = None
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    timeout_ms: Milliseconds = 1_000
    prefix: Name = "modiste"

    @model_validator(mode="after")
    def _credentials_fit(self) -> Self:
        _check_pairs(self)
        given = self.password is not None or self.password_file is not None
        if self.username and not given:
            raise ValueError("username needs password or password_file")
        if given and self.url.startswith(("embedded:", "memory:")):
            raise ValueError("an embedded server asks for no password; name another in url")
        if given and "@" in self.url:
            raise ValueError("url holds a user or password already; give them in one of the two places")
        if (self.ca_file or self.cert_file) and not self.url.startswith("rediss:"):
            raise ValueError("ca_file and cert_file are used with a rediss:// url only")
        return self
