"""Requests and answers as they stand on the topics (and, unchanged, in HTTP bodies).

Both carry `schema_version`, the major of their form (`streams.versions`); it counts for the two together.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

import msgspec

from infra.errors import InvalidMessage
from streams.events import AwareTime, Id
from streams.versions import Reader, first_major

SCHEMA_VERSION = 1
MAX_K = 200
MAX_REQUEST_BYTES = 262_144
MAX_NAMED = 1_000  # values of a field that a request blocks or boosts
MAX_BOOSTS = 32
ATTRIBUTES = ("department", "category", "subcategory", "brand", "colour")  # of an article, which a filter can name
STRATEGIES = (
    "full",
    "hybrid",
    "repurchase",
    "variants",
    "covisitation",
    "popular",
    "collab",
    "two_tower",
    "content",
)


class Filters(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What may be shown. `exclude_bought` hides what the customer has; attributes must match one value each."""

    exclude_bought: bool = False
    attributes: dict[str, list[str]] = {}
    min_price: Annotated[float, msgspec.Meta(ge=0)] | None = None
    max_price: Annotated[float, msgspec.Meta(ge=0)] | None = None


# By an article's attributes (serving/items.py), or `article_id` or `product_code`: values of each.
Named = dict[str, Annotated[list[str], msgspec.Meta(max_length=MAX_NAMED)]]


class Boost(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Articles of which `field` is one of `values` are placed as if their score were `factor` times what it is."""

    field: str
    values: Annotated[list[str], msgspec.Meta(min_length=1, max_length=MAX_NAMED)]
    factor: Annotated[float, msgspec.Meta(gt=0, le=100)]


class Rules(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What holds for the list as a whole, on top of the shop's own rules (settings, section `rules`): of two caps the
    smaller counts, blocked is what either blocks, and a pin or a boost shows nothing that another rule forbids.

    max_per_brand, max_per_product: articles of one brand, of one product_code · blocked: never shown, by field ·
    boosts: multiply where several fit · pins: article_ids that stand first, in this order; those that cannot be had or
    that a rule forbids are left out.
    """

    max_per_brand: Annotated[int, msgspec.Meta(ge=1)] | None = None
    max_per_product: Annotated[int, msgspec.Meta(ge=1)] | None = None
    blocked: Named = {}
    boosts: Annotated[list[Boost], msgspec.Meta(max_length=MAX_BOOSTS)] = []
    pins: Annotated[list[str], msgspec.Meta(max_length=MAX_K)] = []


class RecommendationRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Ask for `k` articles for a customer.

    rerank: `llm` lets a language model order the best of them, `none` does not; None: as the settings say.
    context: what the caller knows of the moment: `segment` of a customer whom the bundle does not know, `age` in years,
        without which nothing is shown that the shop restricts by age.
    diversity: 0 places by score alone, 1 by difference from what stands above alone (serving/diversity.py).
    """

    request_id: Id
    customer_id: Id
    k: Annotated[int, msgspec.Meta(ge=1, le=MAX_K)] = 12
    strategy: str = "full"
    rerank: Literal["llm", "none"] | None = None
    context: dict[str, str] = {}
    filters: Filters = Filters()
    exclude: Annotated[list[str], msgspec.Meta(max_length=1_000)] = []
    deadline_ms: Annotated[int, msgspec.Meta(ge=1)] | None = None
    explain: bool = False
    requested_at: AwareTime | None = None
    schema_version: int = msgspec.field(default_factory=first_major)
    rules: Rules = Rules()
    diversity: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0


class Item(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One recommended article; `source` names the retrieval sources that found it, best rank first, joined by '+';
    `pin` before them where a rule put it there.

    score: before boosts, pins and diversity, which move places alone.
    price: at the moment of the answer; None where it is unknown.
    reason: why it is shown, in a sentence for the customer; None where nothing true can be said.
    """

    article_id: str
    rank: int
    score: float
    source: str
    price: float | None = None
    reason: str | None = None


class RequestError(msgspec.Struct, frozen=True, kw_only=True):
    code: str
    message: str
    retryable: bool = False


class Recommendations(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The answer, or why there is none (`error`).

    as_of: time of the customer's newest event that the answer knows; None for an unknown customer.
    variant: `llm` where a language model gave the order, which then is not that of the scores.
    latency_ms: from the request's arrival at the responder to the answer.
    degraded: why the answer is less than it should be; empty when all stages ran.
    trace: one entry a stage when `explain` was asked for.
    trigger: `request`, or `feed` where nobody asked but a subscribed customer acted; a `request_id` that comes again is
        then the same answer told again.
    """

    request_id: str
    customer_id: str
    items: list[Item] = []
    bundle_id: str | None = None
    strategy: str = "full"
    variant: str = "default"
    cold_start: bool = False
    degraded: list[str] = []
    as_of: datetime | None = None
    latency_ms: float = 0.0
    error: RequestError | None = None
    trace: list[dict[str, str | int | float]] = []
    schema_version: int = msgspec.field(default_factory=first_major)
    trigger: str = "request"


_read_request = Reader(RecommendationRequest, "a recommendation request", SCHEMA_VERSION, MAX_REQUEST_BYTES)
_read_answer = Reader(Recommendations, "an answer", SCHEMA_VERSION)
_encoder = msgspec.json.Encoder()


def parse_request(raw: bytes) -> RecommendationRequest:
    """Decode and check one request.

    Raises:
        InvalidMessage: not JSON, too large, a field missing or out of range, unknown strategy, newer major.
    """
    request = _read_request(raw)
    if request.strategy not in STRATEGIES:
        raise InvalidMessage(f"strategy {request.strategy!r}; allowed: {', '.join(STRATEGIES)}", column="strategy")
    return request


def parse_recommendations(raw: bytes) -> Recommendations:
    """Decode an answer, as every reader of the topic does.

    Raises:
        InvalidMessage: not an answer, or one of a newer major.
    """
    return _read_answer(raw)


def encode_recommendations(answer: Recommendations) -> bytes:
    return _encoder.encode(answer)
