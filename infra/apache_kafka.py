"""Apache Kafka itself, without Docker: one KRaft node from its jars, described as a `Server`.

The jars come from KAFKA_HOME where set, else Maven fetches them from its repository into a cache directory,
once. Data lives in a directory and survives a restart; topics are created on purpose, never by mention.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from infra.embedded import HOST, Server, broker_answers, claim_port
from infra.errors import ConfigurationError
from infra.supervisor import ProcessSpec

KAFKA_VERSION = "4.3.0"
SLF4J_VERSION = "1.7.36"  # the slf4j-api that this Kafka is built against

NOTICE = "Apache Kafka, one KRaft node on this machine, no replication"

_REMEDY = "or leave out --kafka apache (embedded broker), or set MODISTE_KAFKA__URL=kafka://HOST:PORT"
_CLUSTER_ID = "bW9kaXN0ZS1sb2NhbC1vbg"  # any 16 bytes in url-safe base64
_MAVEN_TIMEOUT_S = 300
_FORMAT_TIMEOUT_S = 60

_POM = """<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>modiste</groupId><artifactId>kafka-jars</artifactId><version>1</version>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{kafka}</version></dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>{slf4j}</version></dependency>
  </dependencies>
</project>
"""


def apache_kafka(
    data_dir: Path,
    *,
    port: int = 0,
    heap_mb: int = 512,
    listeners: Mapping[str, int] | None = None,
    properties: Mapping[str, str] | None = None,
    scram: Sequence[str] = (),
    cache: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> Server:
    """One combined broker and controller with its data under `data_dir`. Port 0 picks a free one.

    Args:
        listeners: ports beside the plaintext one, by security protocol (SSL, SASL_PLAINTEXT, SASL_SSL).
        properties: laid over ours; what those listeners need.
        scram: users to begin with, as StorageTool's `--add-scram` takes them. They show in its command line, so not
            for production.

    Fetches the jars when they are not there yet (about 45 MB) and formats the data directory the first
    time, so the first call may take a minute. Raises PortTaken, and ConfigurationError when Java, the jars
    or Maven are missing or say no.
    """
    java = _java()
    classpath = kafka_classpath(cache=cache, env=env)
    port = claim_port(port, what="Apache Kafka", remedy="--kafka-port 0 takes any free one")
    controller = claim_port(0, what="Apache Kafka's controller", remedy="free a port")
    data_dir = data_dir.absolute()
    data_dir.mkdir(parents=True, exist_ok=True)
    file = data_dir / "server.properties"
    values = {**_properties(port, controller, data_dir / "logs", listeners or {}), **(properties or {})}
    file.write_text("".join(f"{key}={value}\n" for key, value in values.items()))
    run = [java, f"-Xmx{heap_mb}m", f"-Xms{heap_mb}m", "-XX:+UseG1GC", "-Djava.awt.headless=true"]
    run += ["-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", classpath]
    if not (data_dir / "logs" / "meta.properties").exists():
        _format([java, "-Xmx128m", "-cp", classpath], file, scram)
    spec = ProcessSpec(
        "kafka",
        [*run, "kafka.Kafka", str(file)],
        ready=lambda: broker_answers(port),
        ready_timeout_s=90.0,
    )
    return Server(f"kafka://{HOST}:{port}", spec, NOTICE)


def kafka_classpath(*, cache: Path | None = None, env: Mapping[str, str] | None = None) -> str:
    """The Java class path of Apache Kafka: $KAFKA_HOME/libs, else the cache, else fetched into the cache."""
    home = (os.environ if env is None else env).get("KAFKA_HOME")
    if home:
        libs = Path(home) / "libs"
        if not any(libs.glob("kafka_2.13-*.jar")):
            raise ConfigurationError(
                f"KAFKA_HOME={home}: no libs/kafka_2.13-*.jar there. Point it at an unpacked Apache Kafka "
                "4.x, or unset it and Maven fetches the jars."
            )
        return str(libs / "*")
    libs = _cache_directory(cache) / f"kafka-{KAFKA_VERSION}"
    if not libs.is_dir():
        _fetch(libs)
    return str(libs / "*")


def available(*, cache: Path | None = None, env: Mapping[str, str] | None = None) -> str | None:
    """None when apache_kafka() can be expected to start, else the reason why not. Fetches nothing."""
    try:
        _java()
    except ConfigurationError as error:
        return str(error)
    if (os.environ if env is None else env).get("KAFKA_HOME"):
        return None
    if (_cache_directory(cache) / f"kafka-{KAFKA_VERSION}").is_dir() or shutil.which("mvn"):
        return None
    return "neither KAFKA_HOME nor Maven (mvn) is there to bring the jars"


def _cache_directory(cache: Path | None) -> Path:
    if cache is not None:
        return cache
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "modiste"


def _java() -> str:
    home = os.environ.get("JAVA_HOME")
    java = str(Path(home) / "bin" / "java") if home else shutil.which("java")
    if java is None or shutil.which(java) is None:
        where = f"JAVA_HOME={home} has no bin/java" if home else "no java on PATH"
        raise ConfigurationError(f"Apache Kafka needs Java 17 or newer: {where}. Install one, {_REMEDY}.")
    said = _run([java, "-version"], timeout_s=30, what="java -version")
    version = re.search(r'version "(\d+)', said)
    if version is None or int(version[1]) < 17:
        first = said.strip().splitlines()[0] if said.strip() else "nothing"
        raise ConfigurationError(f"Apache Kafka needs Java 17 or newer, {java} says: {first}. {_REMEDY}.")
    return java


def _fetch(libs: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise ConfigurationError(
            f"Apache Kafka's jars are not here and Maven (mvn) is not on PATH to fetch them: set KAFKA_HOME "
            f"to an unpacked Apache Kafka 4.x, install Maven, {_REMEDY}."
        )
    libs.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=libs.parent, prefix="kafka-fetch-") as aside:
        pom = Path(aside) / "pom.xml"
        pom.write_text(_POM.format(kafka=KAFKA_VERSION, slf4j=SLF4J_VERSION))
        goal = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={aside}/libs"]
        _run([maven, "-B", "-q", "-f", str(pom), *goal], timeout_s=_MAVEN_TIMEOUT_S, what="Maven")
        try:
            (Path(aside) / "libs").rename(libs)  # whole or not at all
        except OSError:
            if not libs.is_dir():  # otherwise somebody else was faster
                raise


def _format(java: Sequence[str], properties: Path, scram: Sequence[str]) -> None:
    tool = ["kafka.tools.StorageTool", "format", "--cluster-id", _CLUSTER_ID, "--config", str(properties)]
    users = [word for user in scram for word in ("--add-scram", user)]
    _run([*java, *tool, *users], timeout_s=_FORMAT_TIMEOUT_S, what="Apache Kafka's StorageTool format")


def _run(argv: Sequence[str], *, timeout_s: float, what: str) -> str:
    """Runs to the end and returns what it said; its failure is a ConfigurationError with its last lines."""
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise ConfigurationError(f"{what} did not end within {timeout_s:g} s. Try again, {_REMEDY}.") from error
    said = done.stdout + done.stderr
    if done.returncode != 0:
        last = "\n    ".join(said.strip().splitlines()[-8:])
        raise ConfigurationError(f"{what} ended with code {done.returncode}:\n    {last}\n  Mend that, {_REMEDY}.")
    return said


def _properties(port: int, controller_port: int, logs: Path, more: Mapping[str, int]) -> dict[str, str]:
    ours = {"PLAINTEXT": port, **more}
    advertised = ",".join(f"{protocol}://{HOST}:{number}" for protocol, number in ours.items())
    return {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@{HOST}:{controller_port}",
        "controller.listener.names": "CONTROLLER",
        "listeners": f"{advertised},CONTROLLER://{HOST}:{controller_port}",
        "advertised.listeners": advertised,
        "inter.broker.listener.name": "PLAINTEXT",
        "listener.security.protocol.map": ",".join(["CONTROLLER:PLAINTEXT", *(f"{name}:{name}" for name in ours)]),
        "log.dirs": str(logs),
        # A topic exists because somebody declared it; a mistyped name is an error, not a new topic.
        "auto.create.topics.enable": "false",
        # One node: nothing to replicate to, nobody to wait for.
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "8",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "2",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        "share.coordinator.state.topic.num.partitions": "2",
        "group.initial.rebalance.delay.ms": "0",
        "num.recovery.threads.per.data.dir": "1",
    }
