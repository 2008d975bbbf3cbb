"""`modiste serving subscribe` and `unsubscribe`: who gets a new list after their events."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import click

from infra.errors import ConfigurationError
from infra.kafka import Producer, ensure_topics
from infra.settings import load_settings
from serving.messages import MAX_K, STRATEGIES
from streams.subscriptions import EVERYBODY, Subscription, encode_subscription
from streams.topics import SUBSCRIPTIONS, topic_specs

CUSTOMER = click.argument("customer", required=False)
ALL = click.option("--all", "everybody", is_flag=True, help="Everybody, instead of one customer.")


@click.command()
@CUSTOMER
@ALL
@click.option("--k", type=click.IntRange(1, MAX_K), default=12, show_default=True, help="How many articles.")
@click.option("--strategy", type=click.Choice(STRATEGIES), default="full", show_default=True)
@click.option(
    "--debounce-ms",
    type=click.IntRange(0, 60_000),
    default=500,
    show_default=True,
    help="How long the customer must have been quiet.",
)
@click.option("--until", type=click.DateTime(), help="The shop's time (UTC) at which it ends by itself.")
def subscribe(
    customer: str | None, everybody: bool, k: int, strategy: str, debounce_ms: int, until: datetime | None
) -> None:
    """Send CUSTOMER's new recommendations to the topic after their events."""
    who = _who(customer, everybody)
    end = None if until is None else until.replace(tzinfo=UTC)
    wanted = Subscription(customer_id=who, k=k, strategy=strategy, debounce_ms=debounce_ms, until=end)
    asyncio.run(_send(who, encode_subscription(wanted)))
    click.echo(f"{who} gets {k} articles by {strategy} on recommendations, {debounce_ms} ms after their last event")


@click.command()
@CUSTOMER
@ALL
def unsubscribe(customer: str | None, everybody: bool) -> None:
    """End the subscription of CUSTOMER; that of everybody, if there is one, then holds for them too."""
    who = _who(customer, everybody)
    asyncio.run(_send(who, None))
    click.echo(f"the subscription of {who} has ended")


def _who(customer: str | None, everybody: bool) -> str:
    if bool(customer) == everybody:
        raise ConfigurationError("name one customer, or say --all")
    return customer or EVERYBODY


async def _send(customer_id: str, value: bytes | None) -> None:
    kafka = load_settings().kafka
    await ensure_topics(kafka, topic_specs(kafka))
    async with Producer(kafka) as producer:
        await producer.send_many([(SUBSCRIPTIONS, customer_id.encode(), value)])
