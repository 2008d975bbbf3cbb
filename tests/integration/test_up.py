"""`modiste up` as a user runs it: one command, everything answers, Ctrl-C leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from infra.embedded import listeners
from infra.errors import ConfigurationError, PortTaken
from infra.settings import load_settings
from serving.up import modiste_argv, settings_env, start_stack

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.timeout(180)]


def until(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.1)


def start_up(directory: Path, *words: str, **env: str) -> subprocess.Popen[str]:
    with (directory / "log").open("w") as log:
        return subprocess.Popen(
            modiste_argv("up", "--json", *words),
            cwd=directory,
            env={**os.environ, "MODISTE_HTTP__PORT": "0", **env},
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )


def ready(api_url: str) -> dict[str, Any]:
    try:
        with urllib.request.urlopen(f"{api_url}readyz", timeout=2) as answer:
            return dict(json.load(answer))
    except urllib.error.HTTPError as error:
        with error:
            return dict(json.load(error))


def accepts(url: str) -> bool:
    host, _, port = url.split("://")[1].split("/", maxsplit=1)[0].rpartition(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0


def test_up_starts_everything_and_stops_on_ctrl_c(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with start_up(tmp_path, "--kafka-port", "0", "--redis-port", "0") as process:
        try:
            assert process.stdout is not None
            urls = json.loads(process.stdout.readline())
            assert urls["bundle_id"] is None
            until(lambda: ready(urls["api_url"])["checks"].get("broker") == "ok", 30)
            checks = ready(urls["api_url"])["checks"]
            assert checks["store"] == "ok"
            assert checks["bundle"] != "ok"

            listed = subprocess.run(
                modiste_argv("streams", "topics", "list", "--json"),
                env={**os.environ, "MODISTE_KAFKA__URL": urls["kafka_url"]},
                capture_output=True,
                text=True,
                timeout=60,
                check=True,
            )
            assert json.loads(listed.stdout)["missing"] == []

            assert "in memory, gone on restart" in log.read_text()
            assert "modiste demo" in log.read_text()
            assert "modiste offline run" in log.read_text()
        finally:
            process.send_signal(signal.SIGINT)
            code = process.wait(timeout=60)
        assert code == 0, log.read_text()
        assert not any(accepts(urls[name]) for name in ("kafka_url", "redis_url"))


def test_servers_named_by_url_are_used_and_left_running(kafka_url: str, redis_url: str, tmp_path: Path) -> None:
    given = {
        "MODISTE_KAFKA__URL": kafka_url,
        "MODISTE_REDIS__URL": redis_url,
        "MODISTE_HTTP__PORT": "0",
        "MODISTE_DATA_DIR": str(tmp_path),
    }
    with (tmp_path / "log").open("w") as log:
        with start_stack(load_settings(given), processes=["api"], out=log) as stack:
            assert stack.env["MODISTE_KAFKA__URL"] == kafka_url
            assert stack.env["MODISTE_REDIS__URL"] == redis_url
            assert set(stack.supervisor.pids()) == {"api"}
            assert stack.api_url is not None
            until(lambda: ready(str(stack.api_url))["checks"].get("broker") == "ok", 30)
        assert accepts(kafka_url)
        assert accepts(redis_url)


def test_topics_come_back_with_a_broker_that_was_killed(tmp_path: Path) -> None:
    settings = load_settings({"MODISTE_DATA_DIR": str(tmp_path)})
    with (tmp_path / "log").open("w") as log, start_stack(settings, processes=[], out=log) as stack:
        os.kill(stack.supervisor.pids()["kafka"], signal.SIGKILL)
        until(lambda: "up again" in (tmp_path / "log").read_text(), 20)
        listed = subprocess.run(
            modiste_argv("streams", "topics", "list", "--json"),
            env={**os.environ, **stack.env},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert json.loads(listed.stdout)["missing"] == []


def test_a_taken_page_port_starts_nothing(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with start_up(tmp_path, MODISTE_HTTP__PORT=str(port)) as process:
            assert process.wait(timeout=60) == PortTaken.exit_code == 2
        said = (tmp_path / "log").read_text()
        assert f"error: the HTTP gateway cannot listen on 127.0.0.1:{port}" in said
        assert "MODISTE_HTTP__PORT=0" in said
        assert "Traceback" not in said


def test_a_broker_that_is_named_and_asked_for_is_refused(tmp_path: Path) -> None:
    env = {"MODISTE_KAFKA__URL": "kafka://127.0.0.1:1"}
    with start_up(tmp_path, "--kafka", "apache", **env) as process:
        assert process.wait(timeout=60) == 2
    assert "--kafka apache starts a broker, but kafka.url names one already" in (tmp_path / "log").read_text()


@pytest.mark.parametrize(
    ("given", "options", "message"),
    [
        ({"MODISTE_REDIS__URL": "memory://"}, {}, "each process would have for itself"),
        ({}, {"processes": ["wroker"]}, "unknown process 'wroker'; allowed are worker, responder, api"),
        (
            {},
            {"processes": ["api", "archiver", "worker", "worker", "archiver", "api"]},
            "'archiver' is named more than once; only worker, responder, api may be",
        ),
        ({"MODISTE_HTTP__PORT": "0"}, {"kafka": "red"}, "unknown broker 'red'; allowed are tansu, apache"),
    ],
)
def test_wrong_use_is_refused_before_anything_starts(
    given: dict[str, str], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        start_stack(load_settings(given), **options)


def test_two_gateways_share_a_port_and_both_are_there_when_it_is_up(tmp_path: Path) -> None:
    settings = load_settings({"MODISTE_HTTP__PORT": "0", "MODISTE_DATA_DIR": str(tmp_path)})
    with (tmp_path / "log").open("w") as log, start_stack(settings, processes=("api", "api"), out=log) as stack:
        assert stack.api_url is not None
        assert listeners(stack.settings.http.port) == 2
        assert accepts(stack.api_url)


def test_children_get_exactly_these_settings() -> None:
    given = {
        "MODISTE_CLOCK__ORIGIN": "2017-12-01T00:00:00Z",
        "MODISTE_CLOCK__STARTED_AT": "1790000000.5",
        "MODISTE_CLOCK__SPEED": "3600",
        "MODISTE_REDIS__PREFIX": "shop-7",
        "MODISTE_DATA_DIR": "elsewhere",
    }
    settings = load_settings(given)
    assert load_settings(settings_env(settings)) == settings
