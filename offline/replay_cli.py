"""`modiste replay`: history as events on a topic, with their original times, as fast as told."""

from __future__ import annotations

import asyncio
import json
import re
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from infra.errors import ConfigurationError
from infra.settings import Settings, load_settings
from infra.telemetry import configure_logging
from offline.sources.registry import HELP

if TYPE_CHECKING:
    from offline.topic_replay import History, Outcome

_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")


@click.command()
@click.option("--data", "source", default="complete-journey", show_default=True, help=f"Data set: {HELP}.")
@click.option("--path", type=click.Path(path_type=Path), help="The data set's directory, or its TOML.")
@click.option("--speed", default="60x", show_default=True, help="Times as fast as it happened, or max.")
@click.option("--topic", default="transactions", show_default=True, help="Created if missing.")
@click.option("--from", "start", help="First date or time (inclusive); default: the data's first.")
@click.option("--to", "until", help="Last date or time (exclusive); default: the data's last.")
@click.option("--among-others", is_flag=True, help="The topic may hold other messages: find this replay's among them.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def replay(
    source: str,
    path: Path | None,
    speed: str,
    topic: str,
    start: str | None,
    until: str | None,
    among_others: bool,
    as_json: bool,
) -> None:
    """Send history to a topic of the broker of kafka.url, each event once and in order.

    To pause, stop it (SIGTERM or Ctrl-C); the same command goes on where the topic stands, also after a crash, at
    another --speed if you like. Messages are those of `transactions`, keyed by customer, with two headers: the replay's
    id and a running number.
    """
    settings = load_settings()
    configure_logging(settings.log.level)
    factor = parse_speed(speed)
    if not _TOPIC.fullmatch(topic) or topic in (".", ".."):
        raise ConfigurationError(f"--topic {topic!r}: up to 249 letters, digits, dots, underscores and hyphens")
    history = _history(settings, source, path, start, until)
    total = history.log.rows(history.start, history.until)
    if not total:
        first, last = history.log.span
        raise ConfigurationError(
            f"no events between {history.start} and {history.until}: {source} runs from {first} to {last}"
        )
    outcome = asyncio.run(_run(settings, history, topic, factor, total, among_others))
    finished = outcome.position >= total
    report = _report(outcome, topic, total, finished)
    if as_json:
        click.echo(json.dumps(report))
    elif finished:
        click.echo(f"{outcome.sent:,} events sent; all {total:,} are on {topic}")
    if not finished:
        where = "" if outcome.reached is None else f", at {outcome.reached.isoformat()}"
        click.echo(
            f"stopped after {outcome.position:,} of {total:,} events{where}; the same command goes on from there",
            err=True,
        )


def parse_speed(text: str) -> float | None:
    """The factor of 60x or 0.5x, None for max.

    Raises:
        ConfigurationError: something else.
    """
    if text == "max":
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)x", text)
    if match is None or float(match[1]) <= 0:
        raise ConfigurationError(f"--speed {text!r}: write a number above 0 and x, such as 60x, or max")
    return float(match[1])


def _history(settings: Settings, source: str, path: Path | None, start: str | None, until: str | None) -> History:
    from offline.event_log import import_data, log_directory
    from offline.topic_replay import History
    from offline.window import parse_day

    log = import_data(source, path, log_directory(settings.data_dir, source))
    return History(log, parse_day(start) if start else None, parse_day(until) if until else None)


async def _run(
    settings: Settings, history: History, topic: str, speed: float | None, total: int, among_others: bool
) -> Outcome:
    from offline.progress import step
    from offline.topic_replay import TopicReplay

    with step(f"replay to {topic}", total) as progress:
        job = TopicReplay(settings.kafka, history, topic, speed, progress, among_others=among_others)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, job.stop)
        return await job.run()


def _report(outcome: Outcome, topic: str, total: int, finished: bool) -> dict[str, Any]:
    return {
        "replay_id": outcome.replay_id,
        "topic": topic,
        "events": total,
        "first": outcome.first,
        "sent": outcome.sent,
        "position": outcome.position,
        "finished": finished,
        "reached": None if outcome.reached is None else outcome.reached.isoformat(),
        "seconds": outcome.seconds,
    }
