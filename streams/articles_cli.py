"""`modiste streams articles`: stock, prices and new articles onto their topic."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import click

from infra.errors import DataError, InvalidMessage
from infra.kafka import Producer, ensure_topics
from infra.settings import load_settings
from streams.catalog import Article, encode_article, parse_article
from streams.topics import ARTICLES, topic_specs


@click.group()
def articles() -> None:
    """Tell of stock, prices and new articles."""


@articles.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def publish(file: Path, as_json: bool) -> None:
    """Send the articles of FILE, one JSON object a line, to the topic `articles`.

    Every line is checked before the first is sent; a wrong one sends nothing. Each is all that holds of its article
    from then on: what a line leaves out is as the bundle knows it, and available.
    """
    checked = sum(1 for _ in _articles(file))
    sent = asyncio.run(_send((a.article_id.encode(), encode_article(a)) for a in _articles(file))) if checked else 0
    _tell(sent, as_json, file=str(file))


@articles.command()
@click.argument("article_ids", nargs=-1, required=True, metavar="ARTICLE...")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def forget(article_ids: tuple[str, ...], as_json: bool) -> None:
    """Take back what the topic says of each ARTICLE: one of the bundle's is as the bundle knows it again, any other is
    gone.
    """
    _tell(asyncio.run(_send((article_id.encode(), None) for article_id in article_ids)), as_json)


def _tell(sent: int, as_json: bool, **more: str) -> None:
    settings = load_settings()
    if as_json:
        click.echo(json.dumps({**more, "articles": sent, "topic": ARTICLES}))
    else:
        click.echo(f"{sent} articles on {ARTICLES} at {settings.kafka.url}")


async def _send(messages: Iterator[tuple[bytes, bytes | None]]) -> int:
    kafka = load_settings().kafka
    # A broker that made the topic itself would not compact it.
    await ensure_topics(kafka, topic_specs(kafka))
    async with Producer(kafka, linger_ms=5) as producer:
        return await producer.send_many((ARTICLES, key, value) for key, value in messages)


def _articles(file: Path) -> Iterator[Article]:
    """The articles of a file, read twice rather than held; empty lines are skipped.

    Raises:
        DataError: a line is not an article; says which line.
    """
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                try:
                    yield parse_article(line.strip())
                except InvalidMessage as error:
                    raise DataError(str(error), file=str(file), row=number) from error
