"""The topics, their keys and how long they are kept.

| topic | key | message |
|---|---|---|
| transactions | customer_id | `streams.events.Event` |
| articles | article_id | `streams.catalog.Article`: stock, price and attributes; the last one counts |
| article-vectors | encoder/article_id | `streams.catalog.ArticleVector` of an article newer than the bundle |
| recommendation-requests | customer_id | `serving.messages.RecommendationRequest` |
| recommendations | customer_id | `serving.messages.Recommendations` |
| impressions | customer_id | what was shown |
| subscriptions | customer_id, or * | `streams.subscriptions.Subscription`: who gets a new list after their events |
| customer-updates | customer_id | `streams.subscriptions.CustomerUpdate`: the store has events of a subscribed one |
| bundles | channel | `infra.announce.Announcement`: the channel has moved, look at it |
| dead-letters | the message's own | `streams.dead_letters.DeadLetter` |

Messages of one customer share a key, hence a partition, hence their order.
"""

from __future__ import annotations

from infra import announce
from infra.kafka import TopicSpec
from infra.settings import KafkaSettings

TRANSACTIONS = "transactions"
ARTICLES = "articles"
ARTICLE_VECTORS = "article-vectors"
REQUESTS = "recommendation-requests"
RECOMMENDATIONS = "recommendations"
IMPRESSIONS = "impressions"
SUBSCRIPTIONS = "subscriptions"
CUSTOMER_UPDATES = "customer-updates"
BUNDLES = announce.BUNDLES
DEAD_LETTERS = "dead-letters"

_DAY_MS = 86_400_000


def topic_specs(settings: KafkaSettings) -> list[TopicSpec]:
    """Every topic, with the number of partitions from the settings."""
    n = settings.partitions
    return [
        TopicSpec(TRANSACTIONS, n, retention_ms=30 * _DAY_MS),
        TopicSpec(ARTICLES, n, compacted=True),
        TopicSpec(ARTICLE_VECTORS, n, compacted=True),
        TopicSpec(REQUESTS, n, retention_ms=_DAY_MS),
        TopicSpec(RECOMMENDATIONS, n, retention_ms=_DAY_MS),
        TopicSpec(IMPRESSIONS, n, retention_ms=30 * _DAY_MS),
        TopicSpec(SUBSCRIPTIONS, n, compacted=True),
        TopicSpec(CUSTOMER_UPDATES, n, retention_ms=_DAY_MS),
        # One partition: a control topic is read whole by every process.
        TopicSpec(BUNDLES, 1, compacted=True),
        TopicSpec(DEAD_LETTERS, n, retention_ms=30 * _DAY_MS),
    ]


TOPICS: tuple[TopicSpec, ...] = tuple(topic_specs(KafkaSettings()))
"""The specs with the default number of partitions; `topic_specs` has those of given settings."""
