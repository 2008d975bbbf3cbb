"""`modiste serving`: answer requests from a topic, serve HTTP and the shop page, ask once, describe the topics and
routes."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import uuid
from typing import Literal

import click

from infra.errors import BrokerUnavailable, ConfigurationError, PortTaken
from infra.pauses import keep_what_is_loaded
from infra.settings import Settings, load_settings
from infra.telemetry import configure_logging
from infra.threads import one_thread, take_turns
from serving.keys_cli import keys
from serving.messages import MAX_K, STRATEGIES, RecommendationRequest, Recommendations
from serving.subscription_cli import subscribe, unsubscribe


@click.group()
def serving() -> None:
    """Answer recommendation requests."""


@serving.command()
def responder() -> None:
    """Answer `recommendation-requests` on `recommendations`, until stopped."""
    one_thread()
    take_turns()
    from serving.agents import build_responder
    from streams.agents import run_app

    settings = load_settings()
    configure_logging(settings.log.level)
    app = build_responder(settings)
    keep_what_is_loaded()
    run_app(app, settings.log.level)


@serving.command()
@click.option("--port", type=click.IntRange(0, 65_535), help="Instead of http.port; 0 picks a free one.")
def api(port: int | None) -> None:
    """Serve HTTP and the shop page, until stopped."""
    one_thread()
    take_turns()
    import uvicorn

    from serving.api import build_api

    settings = load_settings()
    configure_logging(settings.log.level)
    host, wanted = settings.http.host, settings.http.port if port is None else port
    with listen(host, wanted, share=settings.http.share_port) as listener:
        click.echo(f"shop: http://{host}:{listener.getsockname()[1]}/", err=True)
        app = build_api(settings)
        keep_what_is_loaded()

        class Server(uvicorn.Server):
            async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
                # Open pages follow the shop for as long as they are open.
                if settings.page.enabled:
                    app.state.front.close()
                await super().shutdown(sockets)

        config = uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=5)
        server = Server(config)
        server.run(sockets=[listener])
    if not server.started:
        sys.exit(1)


def listen(host: str, port: int, *, share: bool = False) -> socket.socket:
    """Take the port before anything is started. One that is shared is listened on by the server alone, once it is
    ready: what came earlier would wait here, with another process free to answer it.

    Raises:
        PortTaken: someone else has it, or it is not ours to take. ConfigurationError: this system shares no ports.
    """
    if share and not hasattr(socket, "SO_REUSEPORT"):
        raise ConfigurationError("http.share_port needs SO_REUSEPORT, which this system lacks; leave it false")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns Nagle's delay off only where the protocol is named, and without that an answer of two writes waits
    # 40 ms for the client's acknowledgement of the first.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    # Not both: with SO_REUSEADDR somebody else could take a port that is bound and not listened on yet.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT if share else socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        if not share:
            listener.listen(128)
    except OSError as error:
        listener.close()
        raise PortTaken(
            f"cannot listen on {host}:{port} ({error.strerror}); stop what listens there, "
            "or choose another port with --port or MODISTE_HTTP__PORT"
        ) from error
    return listener


serving.add_command(keys)
serving.add_command(subscribe)
serving.add_command(unsubscribe)


@serving.command()
@click.option("--customer", required=True, help="Customer id.")
@click.option("--k", type=click.IntRange(1, MAX_K), default=12, show_default=True, help="How many articles.")
@click.option("--strategy", type=click.Choice(STRATEGIES), default="full", show_default=True)
@click.option("--rerank", type=click.Choice(["llm", "none"]), help="By a language model; default: as llm.rerank says.")
@click.option("--timeout", "timeout_s", type=click.FloatRange(0.1, 300), default=10.0, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print the answer as one JSON object.")
def request(
    customer: str, k: int, strategy: str, rerank: Literal["llm", "none"] | None, timeout_s: float, as_json: bool
) -> None:
    """Put one request on the topic and print the answer that comes back."""
    settings = load_settings()
    configure_logging(settings.log.level)
    wanted = RecommendationRequest(
        request_id=str(uuid.uuid4()), customer_id=customer, k=k, strategy=strategy, rerank=rerank
    )
    answer = asyncio.run(_ask(settings, wanted, timeout_s))
    _print(answer, as_json)
    if answer.error is not None:
        sys.exit(1)


@serving.command()
def asyncapi() -> None:
    """Print the topics, their messages and who sends them as an AsyncAPI 3.0 document (JSON)."""
    from serving.asyncapi import document

    click.echo(json.dumps(document(), indent=2, ensure_ascii=False))


@serving.command()
def openapi() -> None:
    """Print the HTTP gateway's routes as an OpenAPI 3.1 document (JSON), with keys and limits as where they are set."""
    from serving.api import build_api
    from serving.api_document import document

    click.echo(json.dumps(document(build_api(Settings()), keys=True, limits=True), indent=2, ensure_ascii=False))


async def _ask(settings: Settings, wanted: RecommendationRequest, timeout_s: float) -> Recommendations:
    from serving.subscriber import ask

    try:
        async with asyncio.timeout(timeout_s):
            return await ask(settings.kafka, wanted)
    except TimeoutError as error:
        raise BrokerUnavailable(
            f"no answer to request {wanted.request_id} within {timeout_s:g} s; does `modiste serving responder` run?"
        ) from error


def _print(answer: Recommendations, as_json: bool) -> None:
    import msgspec

    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(answer)))
        return
    if answer.error is not None:
        click.echo(f"{answer.error.code}: {answer.error.message}", err=True)
        return
    notes = [f"bundle {answer.bundle_id}", f"{answer.latency_ms:.1f} ms"]
    notes += ["cold start"] * answer.cold_start + [f"degraded: {why}" for why in answer.degraded]
    click.echo(f"customer {answer.customer_id}: {', '.join(notes)}")
    for item in answer.items:
        click.echo(f"{item.rank:>3}  {item.article_id:<16} {item.score:>9.4g}  {item.source}")
