"""Servers that let in whom they know, over TLS: Apache Kafka from its jars, Valkey behind a front."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis
from pydantic import SecretStr

from infra.apache_kafka import apache_kafka
from infra.embedded import HOST, claim_port, valkey
from infra.settings import KafkaSettings, RedisSettings
from tests.support.certificates import Authority
from tests.support.servers import running
from tests.support.tls_front import tls_front

USER = "modiste"
KAFKA_PASSWORD = "between-us-and-kafka"
REDIS_PASSWORD = "between-us-and-redis"
MAY_NOTHING = "guest"

_LOGIN = "org.apache.kafka.common.security"


@dataclass(frozen=True)
class SecuredBroker:
    """Listeners by protocol (PLAINTEXT, SSL with client certificates, SASL_PLAINTEXT, SASL_SSL) and who signed them."""

    ports: dict[str, int]
    authority: Authority

    def settings(self, protocol: str = "SASL_SSL", *, port: int | None = None, **given: Any) -> KafkaSettings:
        """Settings that are let in, and what is given over them (None takes a setting away)."""
        fitting: dict[str, Any] = {}
        if protocol.startswith("SASL"):
            fitting |= {"username": USER, "password": SecretStr(KAFKA_PASSWORD)}
        if protocol.endswith("SSL"):
            fitting["ca_file"] = self.authority.ca_file
        return KafkaSettings(
            url=f"kafka://{HOST}:{port or self.ports[protocol]}",
            security_protocol=protocol,
            session_timeout_ms=6_000,
            request_timeout_ms=5_000,
            **{**fitting, **given},
        )


@contextlib.contextmanager
def secured_broker(directory: Path) -> Iterator[SecuredBroker]:
    """SCRAM and PLAIN; the user may all, MAY_NOTHING nothing, and who is not asked (plaintext) all."""
    authority = Authority(directory)
    certificate, key = authority.issue("broker")
    keystore = directory / "keystore.pem"
    keystore.write_bytes(key.read_bytes() + certificate.read_bytes())
    names = ("SSL", "SASL_PLAINTEXT", "SASL_SSL")
    ports = {name: claim_port(0, what="the secured broker", remedy="free a port") for name in names}
    properties = {
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(keystore),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(authority.ca_file),
        "listener.name.ssl.ssl.client.auth": "required",
        "sasl.enabled.mechanisms": "SCRAM-SHA-256,SCRAM-SHA-512,PLAIN",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": f"User:ANONYMOUS;User:{USER};User:CN=client",
    }
    for listener in ("sasl_plaintext", "sasl_ssl"):
        for mechanism in ("scram-sha-256", "scram-sha-512"):
            properties[f"listener.name.{listener}.{mechanism}.sasl.jaas.config"] = (
                f"{_LOGIN}.scram.ScramLoginModule required;"
            )
        properties[f"listener.name.{listener}.plain.sasl.jaas.config"] = (
            f'{_LOGIN}.plain.PlainLoginModule required user_{USER}="{KAFKA_PASSWORD}";'
        )
    scram = [f"{name}=[name={USER},password={KAFKA_PASSWORD}]" for name in ("SCRAM-SHA-256", "SCRAM-SHA-512")]
    scram.append(f"SCRAM-SHA-512=[name={MAY_NOTHING},password={MAY_NOTHING}]")
    server = apache_kafka(directory / "kafka", listeners=ports, properties=properties, scram=scram, heap_mb=256)
    plaintext = int(server.url.rpartition(":")[2])
    with running(server, directory / "kafka.log"):
        yield SecuredBroker({"PLAINTEXT": plaintext, **ports}, authority)


@dataclass(frozen=True)
class SecuredStore:
    """A server whose user USER has the rights of the example file and no others; `plain` has no TLS."""

    plain: int
    tls: int
    authority: Authority

    def settings(self, scheme: str = "rediss", *, port: int | None = None, **given: Any) -> RedisSettings:
        fitting: dict[str, Any] = {"username": USER, "password": SecretStr(REDIS_PASSWORD)}
        if scheme == "rediss":
            fitting["ca_file"] = self.authority.ca_file
        port = port or (self.tls if scheme == "rediss" else self.plain)
        return RedisSettings(url=f"{scheme}://{HOST}:{port}/0", **{**fitting, **given})


@contextlib.contextmanager
def secured_store(directory: Path, acl: str) -> Iterator[SecuredStore]:
    """`acl`: the rules of the user, as `ACL SETUSER modiste` takes them, `>PASSWORD` among them."""
    authority = Authority(directory, "store-authority")
    certificate, key = authority.issue("store")
    with running(valkey(), directory / "redis.log") as url:
        plain = int(url.rpartition(":")[2].partition("/")[0])
        with redis.Redis(port=plain) as admin:
            rules = [f">{REDIS_PASSWORD}" if rule == ">PASSWORD" else rule for rule in acl.split()]
            admin.execute_command("ACL", "SETUSER", USER, *rules)
            admin.execute_command("ACL", "SETUSER", "default", "off")
        with tls_front(plain, certificate, key) as tls:
            yield SecuredStore(plain, tls, authority)
