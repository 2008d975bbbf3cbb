"""What was shown to whom, and at which place: written for every answer, read by training as honest
negatives.
"""

from __future__ import annotations

from datetime import datetime

import msgspec

from serving.messages import Recommendations
from streams.events import AwareTime
from streams.versions import Reader, first_major

SCHEMA_VERSION = 1


class ShownItem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One article at one place of the list; positions count from 1.

    propensity: the chance that this article stood at this place, above 0 and up to 1, where the place was drawn; None
        where it was not, as in all lists of Modiste's own responder.
    """

    article_id: str
    position: int
    score: float
    source: str
    propensity: float | None = None


class Impression(msgspec.Struct, frozen=True, kw_only=True):
    """One answered request, on topic `impressions`, keyed by customer_id."""

    request_id: str
    customer_id: str
    bundle_id: str | None
    strategy: str
    variant: str
    items: list[ShownItem]
    shown_at: AwareTime
    schema_version: int = msgspec.field(default_factory=first_major)


_read = Reader(Impression, "an impression", SCHEMA_VERSION)
_encoder = msgspec.json.Encoder()


def parse_impression(raw: bytes) -> Impression:
    """Decode what was shown.

    Raises:
        InvalidMessage: not an impression, or one of a newer major.
    """
    return _read(raw)


def impression_of(answer: Recommendations, shown_at: datetime) -> Impression | None:
    """The impression an answer makes; None when it shows nothing (an error, an empty list)."""
    if answer.error is not None or not answer.items:
        return None
    return Impression(
        request_id=answer.request_id,
        customer_id=answer.customer_id,
        bundle_id=answer.bundle_id,
        strategy=answer.strategy,
        variant=answer.variant,
        items=[
            ShownItem(article_id=item.article_id, position=item.rank, score=item.score, source=item.source)
            for item in answer.items
        ],
        shown_at=shown_at,
    )


def encode_impression(impression: Impression) -> bytes:
    return _encoder.encode(impression)
