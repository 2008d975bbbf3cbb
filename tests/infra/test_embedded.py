"""The servers of the first minute start, answer, keep to this machine, and say what is wrong."""

from __future__ import annotations

import io
import os
import socket
from pathlib import Path

import pytest

from infra.apache_kafka import apache_kafka, available, kafka_classpath
from infra.embedded import claim_port, listener, tansu, valkey
from infra.errors import ConfigurationError, PortTaken
from infra.kafka import TopicSpec, ensure_topics, list_topics
from infra.redis_client import connect_sync
from infra.settings import KafkaSettings, RedisSettings
from infra.supervisor import Supervisor
from tests.support.servers import running

pytestmark = pytest.mark.timeout(120)


@pytest.mark.broker
async def test_tansu_serves_topics_and_says_what_it_is_not(tmp_path: Path) -> None:
    server = tansu()
    assert "in memory, gone on restart" in server.notice
    with running(server, tmp_path / "log") as url:
        settings = KafkaSettings(url=url)
        assert await ensure_topics(settings, [TopicSpec("colours", 3)]) == ["colours"]
        assert await list_topics(settings) == {"colours": 3}


def test_valkey_keeps_values_in_memory_refuses_when_full_and_writes_no_file(tmp_path: Path) -> None:
    before = sorted(Path.cwd().iterdir())
    with running(valkey(maxmemory="64mb"), tmp_path / "log") as url:
        client = connect_sync(RedisSettings(url=url))
        client.set("colour", "green")
        assert client.get("colour") == b"green"
        assert client.config_get("save") == {"save": ""}
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert client.config_get("maxmemory") == {"maxmemory": str(64 * 1024 * 1024)}
        assert client.config_get("bind") == {"bind": "127.0.0.1"}
        client.close()
    assert sorted(Path.cwd().iterdir()) == before


@pytest.mark.broker
@pytest.mark.slow
async def test_apache_kafka_keeps_its_topics_over_a_restart(tmp_path: Path) -> None:
    reason = available()
    if reason is not None:
        pytest.skip(reason)
    for created in (["colours"], []):
        with running(apache_kafka(tmp_path / "kafka"), tmp_path / "log") as url:
            assert await ensure_topics(KafkaSettings(url=url), [TopicSpec("colours", 3)]) == created
            assert await list_topics(KafkaSettings(url=url)) == {"colours": 3}


def test_a_taken_port_says_who_has_it() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(PortTaken) as caught:
            tansu(port=port)
        assert f"the embedded broker cannot listen on 127.0.0.1:{port}" in str(caught.value)
        assert "--kafka-port 0" in str(caught.value)
        if Path("/proc/net/tcp").exists():
            assert f"(pid {os.getpid()}) listens there already" in str(caught.value)
        with pytest.raises(PortTaken, match="embedded Redis server"):
            valkey(port=port)
    assert claim_port(port, what="it", remedy="none") == port
    assert listener(port) is None


def test_an_address_that_is_not_ours_is_a_configuration_error() -> None:
    with pytest.raises(ConfigurationError, match=r"192\.0\.2\.1:0"):
        claim_port(0, what="it", remedy="MODISTE_HTTP__HOST=127.0.0.1", host="192.0.2.1")


def test_a_kafka_home_without_kafka_says_what_belongs_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"no libs/kafka_2\.13-\*\.jar"):
        kafka_classpath(env={"KAFKA_HOME": str(tmp_path)})


def test_kafka_home_wins_over_the_cache(tmp_path: Path) -> None:
    (tmp_path / "libs").mkdir()
    (tmp_path / "libs" / "kafka_2.13-4.1.0.jar").touch()
    assert kafka_classpath(env={"KAFKA_HOME": str(tmp_path)}) == f"{tmp_path}/libs/*"


def test_without_maven_and_jars_the_ways_out_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigurationError, match=r"set KAFKA_HOME .*or leave out --kafka apache.*MODISTE_KAFKA__URL"):
        kafka_classpath(cache=tmp_path, env={})
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(ConfigurationError, match="needs Java 17 or newer: no java on PATH"):
        apache_kafka(tmp_path / "kafka", cache=tmp_path, env={})


def test_a_failed_fetch_leaves_no_half_filled_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    maven = tmp_path / "bin" / "mvn"
    maven.parent.mkdir()
    maven.write_text("#!/bin/sh\necho 'no such artifact'\nexit 1\n")
    maven.chmod(0o755)
    monkeypatch.setenv("PATH", f"{maven.parent}:/usr/bin:/bin")
    cache = tmp_path / "cache"
    with pytest.raises(ConfigurationError, match="Maven ended with code 1:\n    no such artifact"):
        kafka_classpath(cache=cache, env={})
    assert list(cache.iterdir()) == []


def test_a_second_server_on_a_running_ones_port_is_refused(tmp_path: Path) -> None:
    first = valkey()
    with Supervisor([first.spec], out=io.StringIO()) as supervisor:
        supervisor.start()
        with pytest.raises(PortTaken, match="valkey-server"):
            valkey(port=int(first.url.rpartition(":")[2].removesuffix("/0")))
