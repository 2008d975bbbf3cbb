"""The topics as an AsyncAPI 3.0 document, made from the types that encode and decode their messages.

`modiste serving asyncapi` prints it. It lives here because the messages of requests and answers do; every topic of
`streams.topics` stands in it, and every process with what it receives and sends.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from infra.announce import Announcement
from infra.kafka import TopicSpec
from infra.settings import KafkaSettings, ResponderSettings, WorkerSettings
from serving.impressions import Impression, ShownItem
from serving.messages import Item, RecommendationRequest, Recommendations, Rules
from streams.catalog import Article, ArticleVector
from streams.dead_letters import DeadLetter
from streams.events import EVENT_TYPES, SCHEMA_VERSION, Event
from streams.letter_desk import Settled
from streams.subscriptions import EVERYBODY, CustomerUpdate, Subscription
from streams.topics import (
    ARTICLE_VECTORS,
    ARTICLES,
    BUNDLES,
    CUSTOMER_UPDATES,
    DEAD_LETTERS,
    IMPRESSIONS,
    RECOMMENDATIONS,
    REQUESTS,
    SUBSCRIPTIONS,
    TRANSACTIONS,
    topic_specs,
)

BINDING = "0.5.0"
_NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
_DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Channel:
    """A topic: what its key is, what stands on it, and an example of each of its messages."""

    topic: str
    key: str
    text: str
    examples: tuple[msgspec.Struct, ...]


CHANNELS = (
    Channel(
        TRANSACTIONS,
        "customer_id",
        f"What customers did: {', '.join(EVENT_TYPES)}. Delivered again it changes nothing, for event_id is unique.",
        (
            Event(
                event_id="order-1001-1",
                type="purchase",
                occurred_at=_NOON,
                customer_id="anna",
                article_id="0108775015",
                price=24.99,
                quantity=2,
                sales_channel_id=1,
                request_id="r-77",
            ),
        ),
    ),
    Channel(
        ARTICLES,
        "article_id",
        "Stock, price and attributes of one article; the last message of an article counts, one without a value takes "
        "it back.",
        (
            Article(
                article_id="0108775015",
                available=True,
                price=19.99,
                title="Strap top",
                product_code="0108775",
                category="Vest top",
                colour="Black",
            ),
        ),
    ),
    Channel(
        ARTICLE_VECTORS,
        "the encoder and article_id, with / between",
        "What an encoder says of the texts of articles that came after the bundle in use.",
        (ArticleVector(article_id="0999999001", space="minilm-1", text="0123456789abcdef", vector=b"\x00\x3c"),),
    ),
    Channel(
        REQUESTS,
        "customer_id",
        "Ask for recommendations; each request is answered once on `recommendations`, or refused there.",
        (
            RecommendationRequest(
                request_id="r-77",
                customer_id="anna",
                k=2,
                deadline_ms=500,
                requested_at=_NOON,
                rules=Rules(max_per_product=1, blocked={"brand": ["Acme"]}),
                diversity=0.1,
            ),
        ),
    ),
    Channel(
        RECOMMENDATIONS,
        "customer_id",
        "Answers; request_id says to which request. One with `error` holds no items. With trigger `feed` nobody asked, "
        "but a subscribed customer acted.",
        (
            Recommendations(
                request_id="r-77",
                customer_id="anna",
                items=[
                    Item(
                        article_id="0108775015",
                        rank=1,
                        score=0.91,
                        source="repurchase+popular",
                        price=19.99,
                        reason="You buy this about every 9 days",
                    ),
                    Item(
                        article_id="0111565001",
                        rank=2,
                        score=0.42,
                        source="covisitation",
                        reason="Goes with Strap top, which you bought yesterday",
                    ),
                ],
                bundle_id="20261105T031200Z-8f3c1a9",
                as_of=_NOON,
                latency_ms=12.5,
            ),
        ),
    ),
    Channel(
        SUBSCRIPTIONS,
        f"customer_id, or {EVERYBODY} for everybody",
        "Who gets a new list on `recommendations` after their events; a message without a value ends it.",
        (Subscription(customer_id="anna", k=12, strategy="full", debounce_ms=500, until=_NOON),),
    ),
    Channel(
        CUSTOMER_UPDATES,
        "customer_id",
        "The store has new events of a subscribed customer.",
        (CustomerUpdate(customer_id="anna", event="transactions-3-41"),),
    ),
    Channel(
        IMPRESSIONS,
        "customer_id",
        "What was shown, and at which place.",
        (
            Impression(
                request_id="r-77",
                customer_id="anna",
                bundle_id="20261105T031200Z-8f3c1a9",
                strategy="full",
                variant="default",
                items=[ShownItem(article_id="0108775015", position=1, score=0.91, source="repurchase+popular")],
                shown_at=_NOON,
            ),
        ),
    ),
    Channel(
        BUNDLES,
        "channel",
        "A channel has moved: look at the registry. Every process reads all of it.",
        (Announcement(channel="production", bundle_id="20261105T031200Z-8f3c1a9", uri="s3://models/modiste"),),
    ),
    Channel(
        DEAD_LETTERS,
        "the refused message's own",
        "Messages that nobody could use, and which of them were sent again.",
        (
            DeadLetter(
                reason="rejected",
                error="type 'return'; allowed: purchase, view, cart",
                topic=TRANSACTIONS,
                partition=3,
                offset=41,
                raw="e30=",
            ),
            Settled(settled_partition=0, settled_offset=7),
        ),
    ),
)


@dataclass(frozen=True, slots=True)
class Process:
    """What one process receives and sends. `group`: as a setting and its default, of the topics `shared` by processes
    of one group; the others are read by each of them whole."""

    name: str
    text: str
    receives: tuple[str, ...] = ()
    sends: tuple[str, ...] = ()
    group: tuple[str, str] | None = None
    shared: tuple[str, ...] = ()


PROCESSES = (
    Process(
        "shop",
        "Any client: tells what happened, asks, reads answers.",
        (RECOMMENDATIONS,),
        (TRANSACTIONS, ARTICLES, REQUESTS, SUBSCRIPTIONS),
    ),
    Process(
        "worker",
        "modiste streams worker: folds events into customer states, tells of articles, vectors and subscriptions that "
        "nobody can use.",
        (TRANSACTIONS, ARTICLES, ARTICLE_VECTORS, SUBSCRIPTIONS, BUNDLES),
        (DEAD_LETTERS, CUSTOMER_UPDATES),
        ("worker.group", WorkerSettings().group),
        (TRANSACTIONS, ARTICLES, ARTICLE_VECTORS, SUBSCRIPTIONS),
    ),
    Process(
        "responder",
        "modiste serving responder: answers requests, and subscribed customers who acted (in the group's name with "
        "-feed at its end).",
        (REQUESTS, ARTICLES, ARTICLE_VECTORS, SUBSCRIPTIONS, CUSTOMER_UPDATES, BUNDLES),
        (RECOMMENDATIONS, IMPRESSIONS, DEAD_LETTERS),
        ("responder.group", ResponderSettings().group),
        (REQUESTS,),
    ),
    Process(
        "api",
        "modiste serving api: HTTP gateway and shop page.",
        (TRANSACTIONS, ARTICLES, ARTICLE_VECTORS),
        (TRANSACTIONS, IMPRESSIONS),
    ),
    Process(
        "encoder",
        "modiste offline encode-articles: vectors of new articles, for bundles whose texts a network encoded.",
        (ARTICLES, ARTICLE_VECTORS),
        (ARTICLE_VECTORS,),
    ),
    Process(
        "archiver", "modiste streams archiver: writes topics to the archive.", (TRANSACTIONS, ARTICLES, IMPRESSIONS)
    ),
    Process("registry", "modiste bundles activate, rollback and offline run: move a channel.", (), (BUNDLES,)),
    Process(
        "letter-desk",
        "modiste streams dead-letters: shows letters; requeue sends their messages to the topic they came from.",
        (DEAD_LETTERS,),
        (DEAD_LETTERS, TRANSACTIONS, REQUESTS, ARTICLES, ARTICLE_VECTORS, SUBSCRIPTIONS, CUSTOMER_UPDATES),
    ),
)


def document() -> dict[str, Any]:
    """The AsyncAPI document, JSON-ready; partitions are those of the default settings."""
    specs = {spec.name: spec for spec in topic_specs(KafkaSettings())}
    types = list(dict.fromkeys(type(example) for channel in CHANNELS for example in channel.examples))
    _, schemas = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Modiste",
            "version": f"{SCHEMA_VERSION}.0.0",
            "description": (
                "Events in, recommendations out. Messages are JSON in UTF-8; times are ISO 8601 with a time zone. "
                "Optional fields may be added within a major of `schema_version`, so ignore fields you do not know; "
                "a message without it is of major 1."
            ),
        },
        "defaultContentType": "application/json",
        "servers": _servers(),
        "channels": {channel.topic: _channel(channel, specs[channel.topic]) for channel in CHANNELS},
        "operations": dict(operation for process in PROCESSES for operation in _operations(process)),
        "components": {
            "messages": {
                type(example).__name__: _message(channel, example)
                for channel in CHANNELS
                for example in channel.examples
            },
            "schemas": {name: _tidy(schema) for name, schema in sorted(schemas.items())},
            "securitySchemes": {
                name: {"type": name, "description": f"kafka.sasl_mechanism = {mechanism!r}"}
                for name, mechanism in _MECHANISMS.items()
            },
        },
    }


_MECHANISMS = {"scramSha512": "SCRAM-SHA-512", "scramSha256": "SCRAM-SHA-256", "plain": "PLAIN"}


def _servers() -> dict[str, Any]:
    host = {
        "host": "{bootstrap}",
        "variables": {"bootstrap": {"description": "kafka.url without its scheme", "default": "127.0.0.1:9092"}},
    }
    return {
        "plaintext": {**host, "protocol": "kafka", "description": "kafka.security_protocol = PLAINTEXT"},
        "secured": {
            **host,
            "protocol": "kafka-secure",
            "description": "kafka.security_protocol = SASL_SSL",
            "security": [{"$ref": f"#/components/securitySchemes/{name}"} for name in _MECHANISMS],
        },
    }


def _channel(channel: Channel, spec: TopicSpec) -> dict[str, Any]:
    configuration: dict[str, Any] = {"cleanup.policy": ["compact" if spec.compacted else "delete"]}
    kept = "the last message of a key, for ever"
    if spec.retention_ms is not None:
        configuration["retention.ms"] = spec.retention_ms
        days = spec.retention_ms // _DAY_MS
        kept = f"{days} day{'s' if days > 1 else ''}"
    return {
        "address": channel.topic,
        "description": f"{channel.text} Key: {channel.key}. Kept: {kept}.",
        "messages": {
            type(example).__name__: {"$ref": f"#/components/messages/{type(example).__name__}"}
            for example in channel.examples
        },
        "bindings": {
            "kafka": {
                "topic": channel.topic,
                "partitions": spec.partitions,
                "topicConfiguration": configuration,
                "bindingVersion": BINDING,
            }
        },
    }


def _operations(process: Process) -> Sequence[tuple[str, dict[str, Any]]]:
    found = []
    for action, topics in (("receive", process.receives), ("send", process.sends)):
        for topic in topics:
            operation: dict[str, Any] = {
                "action": action,
                "channel": {"$ref": f"#/channels/{topic}"},
                "summary": process.text,
                "tags": [{"name": process.name}],
            }
            if process.group is not None and action == "receive" and topic in process.shared:
                setting, default = process.group
                group = {"type": "string", "default": default, "description": f"setting {setting}"}
                operation["bindings"] = {"kafka": {"groupId": group, "bindingVersion": BINDING}}
            found.append((f"{process.name}-{action}s-{topic}", operation))
    return found


def _message(channel: Channel, example: msgspec.Struct) -> dict[str, Any]:
    name = type(example).__name__
    key = {"type": "string", "description": channel.key}
    return {
        "name": name,
        "title": name,
        "summary": inspect.cleandoc(type(example).__doc__ or "").partition("\n\n")[0].replace("\n", " "),
        "contentType": "application/json",
        "payload": {"$ref": f"#/components/schemas/{name}"},
        "bindings": {"kafka": {"key": key, "bindingVersion": BINDING}},
        # Through JSON, so that it stands there as on the wire.
        "examples": [{"name": name, "payload": msgspec.json.decode(msgspec.json.encode(example))}],
    }


def _tidy(schema: dict[str, Any]) -> dict[str, Any]:
    """A docstring's indentation is no part of its text."""
    if "description" not in schema:
        return schema
    return {**schema, "description": inspect.cleandoc(schema["description"])}
