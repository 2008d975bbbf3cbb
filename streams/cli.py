"""`modiste streams`: the folding worker, the topics, dead letters and customer states."""

from __future__ import annotations

import asyncio
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from infra.errors import DataError, InvalidMessage
from infra.kafka import Producer, ensure_topics, list_topics
from infra.pauses import keep_what_is_loaded
from infra.settings import load_settings
from infra.telemetry import configure_logging
from infra.threads import one_thread
from streams.articles_cli import articles
from streams.events import EVENT_TYPES, Event, from_micros, parse_event
from streams.letters_cli import dead_letters
from streams.topics import TRANSACTIONS, topic_specs
from streams.totals import Totals


@click.group()
def streams() -> None:
    """Events in, customer states out."""


@streams.command()
def worker() -> None:
    """Fold events from the topic into customer states until stopped (SIGTERM or Ctrl-C)."""
    one_thread()
    # Faust is loaded here only: no other command waits for it.
    from streams.agents import build_app, run_app

    settings = load_settings()
    configure_logging(settings.log.level)
    app = build_app(settings)
    keep_what_is_loaded()
    run_app(app, settings.log.level)


@streams.command()
def archiver() -> None:
    """Write `transactions`, `articles` and `impressions` to the archive until stopped; each message once."""
    from streams.archiver import run_archiver

    settings = load_settings()
    configure_logging(settings.log.level)
    asyncio.run(run_archiver(settings, settings.data_dir / "archive"))


@streams.group()
def archive() -> None:
    """Look at the archive and compact it."""


@archive.command("compact")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def compact_archive(as_json: bool) -> None:
    """Merge what was archived into one file a day; also while the archiver runs."""
    from dataclasses import asdict

    from streams.archive import TopicArchive
    from streams.archive_compaction import compact
    from streams.archiver import TOPICS

    directory = load_settings().data_dir / "archive"
    done = {topic: compact(TopicArchive(directory, topic)) for topic in TOPICS}
    if as_json:
        click.echo(json.dumps({topic: asdict(result) for topic, result in done.items()}))
        return
    for topic, result in done.items():
        again = f", {result.repeated} left out as repeated" if result.repeated else ""
        click.echo(f"{topic:14} {result.segments} segments, {result.rows} rows into {result.days} days{again}")


@streams.group()
def topics() -> None:
    """Create and list the topics."""


@topics.command("ensure")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def ensure(as_json: bool) -> None:
    """Create the topics that do not exist; running it again changes nothing."""
    kafka = load_settings().kafka
    specs = topic_specs(kafka)
    created = asyncio.run(ensure_topics(kafka, specs))
    existed = [spec.name for spec in specs if spec.name not in created]
    if as_json:
        click.echo(json.dumps({"created": created, "existed": existed}))
        return
    for spec in specs:
        state = "created" if spec.name in created else "exists"
        click.echo(f"{spec.name:26} {state}")


@topics.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def list_all(as_json: bool) -> None:
    """Show the broker's topics with their partitions, and which of ours are missing."""
    kafka = load_settings().kafka
    found = asyncio.run(list_topics(kafka))
    missing = [spec.name for spec in topic_specs(kafka) if spec.name not in found]
    if as_json:
        click.echo(json.dumps({"topics": found, "missing": missing}))
        return
    for name, partitions in found.items():
        click.echo(f"{name:26} {partitions} partitions")
    for name in missing:
        click.echo(f"{name:26} missing; create it with: modiste streams topics ensure")


streams.add_command(articles)
streams.add_command(dead_letters)


@streams.group()
def state() -> None:
    """Look at customer states."""


@state.command("show")
@click.argument("customer")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def show_state(customer: str, as_json: bool) -> None:
    """Print what is known of CUSTOMER: totals of all events, and the newest, newest first.

    Exit code 1 when nothing is known.
    """
    found = asyncio.run(_load_state(customer))
    if as_json:
        click.echo(json.dumps(found or {"customer_id": customer, "events": []}))
    elif found is None:
        click.echo(f"nothing is known of customer {customer!r}", err=True)
    else:
        space = found["space"] or "none"
        click.echo(f"customer {customer}: {len(found['events'])} events, version {found['version']}")
        click.echo(f"as of {found['as_of']}, embedding space {space}")
        totals = found["totals"]
        click.echo(f"in all {totals['events']} events since {totals['first']}")
        for name, row in totals["types"].items():
            click.echo(f"  {name:8}  {row['events']} events, {row['pieces']} pieces, {row['spent']:.2f} spent")
        for event in found["events"]:
            price = "" if event["price"] is None else f"{event['price']:.2f}"
            click.echo(
                f"  {event['occurred_at']}  {event['type']:8}  {event['article_id']:16} "
                f"{event['quantity']:>3} x  {price}"
            )
    if found is None:
        sys.exit(1)


async def _load_state(customer_id: str) -> dict[str, Any] | None:
    from streams.redis_store import open_store

    store = await open_store(load_settings().redis)
    try:
        (stored,) = await store.load([customer_id])
    finally:
        await store.close()
    if stored is None:
        return None
    known = stored.state
    events = [
        {
            "occurred_at": from_micros(int(known.occurred_at[i])).isoformat(),
            "type": EVENT_TYPES[known.types[i]],
            "article_id": known.article_ids[i],
            "quantity": int(known.quantities[i]),
            "price": None if math.isnan(price := float(known.prices[i])) else round(price, 4),
        }
        for i in range(len(known) - 1, -1, -1)
    ]
    return {
        "customer_id": customer_id,
        "version": stored.version,
        "as_of": None if known.as_of is None else from_micros(known.as_of).isoformat(),
        "space": stored.space,
        "embedding_dim": None if stored.embedding is None else len(stored.embedding),
        "totals": _totals(known.totals),
        "events": events,
    }


def _totals(totals: Totals) -> dict[str, Any]:
    first, last = (None if t is None else from_micros(t).isoformat() for t in (totals.first, totals.last))
    return {"events": len(totals), "first": first, "last": last, "types": totals.by_type()}


@streams.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def publish(file: Path, as_json: bool) -> None:
    """Send the events of FILE, one JSON object a line, to the topic `transactions`.

    Every line is checked before the first is sent; a wrong one sends nothing.
    """
    settings = load_settings()
    checked = sum(1 for _ in _events(file))
    sent = asyncio.run(_publish(file)) if checked else 0
    if as_json:
        click.echo(json.dumps({"file": str(file), "events": sent, "topic": TRANSACTIONS}))
    else:
        click.echo(f"{sent} events on {TRANSACTIONS} at {settings.kafka.url}")


async def _publish(file: Path) -> int:
    from streams.publisher import EventPublisher

    async with Producer(load_settings().kafka, linger_ms=5) as producer:
        return await EventPublisher(producer).publish_many(_events(file))


def _events(file: Path) -> Iterator[Event]:
    """The events of a file, read twice rather than held; empty lines are skipped.

    Raises:
        DataError: a line is not an event; says which line.
    """
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                try:
                    yield parse_event(line.strip())
                except InvalidMessage as error:
                    raise DataError(str(error), file=str(file), row=number) from error
