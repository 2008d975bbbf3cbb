"""What is asked of a search and what it answers; what may be shown is limited as in a recommendation."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from serving.messages import MAX_K, Filters, Item
from streams.events import Id

MAX_QUERY_CHARS = 200
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


class Search(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What every search takes.

    taste_weight: what the customer's own taste counts beside likeness to what was asked: 0 nothing, 1 everything.
        Without a customer, or with one of whom nothing is known, taste is what sells.
    """

    search_id: Id
    customer_id: Id | None = None
    k: Annotated[int, msgspec.Meta(ge=1, le=MAX_K)] = 24
    taste_weight: Share = 0.2
    filters: Filters = Filters()
    exclude: Annotated[list[str], msgspec.Meta(max_length=1_000)] = []


class TextSearch(Search, frozen=True, kw_only=True, omit_defaults=True):
    """meaning_weight: what the nearness of meaning counts beside the words themselves."""

    query: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_QUERY_CHARS)]
    meaning_weight: Share = 0.5


class ImageSearch(Search, frozen=True, kw_only=True, omit_defaults=True):
    """scope: the whole `catalogue`, or the customer's own `feed`, of which only what looks like the photo is left ·
    threshold: cosine that an article must have at least; None: the bundle's, which 95 of 100 random pairs of its
    articles do not reach.
    """

    scope: Literal["catalogue", "feed"] = "catalogue"
    threshold: Annotated[float, msgspec.Meta(ge=-1, le=1)] | None = None


class SearchResults(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The articles found, best first; `score` is between 0 and 1, likeness and taste together.

    kind: text or image · found: how many articles fit, of which `items` are the first · threshold: the one in force ·
    degraded: why the answer is less than it should be: `store_unavailable` and `state_unreadable` (without taste),
    `ranker_failed` (the same), `words_only` (the bundle carries nothing that understands the query's meaning).
    """

    search_id: str
    kind: str
    bundle_id: str
    items: list[Item] = []
    found: int = 0
    customer_id: str | None = None
    scope: str | None = None
    threshold: float | None = None
    degraded: list[str] = []
    latency_ms: float = 0.0
