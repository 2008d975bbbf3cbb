"""What the HTTP routes answer where it is no message of a topic; the client reads it with the same types."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue


def _shown(**example: JsonValue) -> ConfigDict:
    """The configuration of a type that has an example."""
    return ConfigDict(json_schema_extra={"examples": [example]})


_ROW: JsonValue = {
    "article_id": "1082185",
    "title": "Banana",
    "category": "TROPICAL FRUIT",
    "department": "PRODUCE",
    "price": 1.99,
    "type": "purchase",
    "quantity": 2,
    "occurred_at": "2017-12-24T10:01:00Z",
}

Money = Annotated[float, Field(description="in the shop's currency")]


class Accepted(BaseModel):
    """The broker has these events."""

    model_config = _shown(event_ids=["e-1", "e-2"], occurred_at="2017-12-24T10:01:00Z")

    event_ids: list[str]
    occurred_at: datetime


class HistoryRow(BaseModel):
    """One event of a customer; `price` is what was paid, or the list price where that is unknown."""

    article_id: str
    title: str | None
    category: str | None
    department: str | None
    price: Money | None
    type: str
    quantity: int
    occurred_at: datetime


class History(BaseModel):
    """Events of a customer, newest first. Ask for those before the last one's `occurred_at` to go on; `more` says
    whether there are any, `note` why what is stored cannot be read."""

    model_config = _shown(customer_id="1228", known=True, events=[_ROW], more=True)

    customer_id: str
    note: str | None = None
    known: bool
    events: list[HistoryRow]
    more: bool


class TypeTotals(BaseModel):
    """Events of one type; `spent` is the sum of the prices that are known."""

    events: int
    pieces: int
    spent: float


class TotalsView(BaseModel):
    """All events of a customer, also those too old to be listed; `first` is the time of the oldest."""

    events: int
    first: datetime | None
    types: dict[str, TypeTotals]


class Share(BaseModel):
    """A value of an attribute, and the share of the purchased pieces that have it."""

    name: str
    share: float


class Profile(BaseModel):
    """What the remembered purchases say: the most bought of each attribute that they have, the median price of a piece.
    segment: the group that the bundle puts the customer in, null where it knows none."""

    segment: str | None
    favourites: dict[str, list[Share]]
    usual_price: float | None


class CustomerView(BaseModel):
    """What is known of a customer: totals, a profile, and the newest events. `as_of` is null and `known` false for an
    id never seen, and where `note` says why what is stored cannot be read; `events` is the number of those that are
    remembered one by one.
    """

    model_config = _shown(
        customer_id="1228",
        known=True,
        as_of="2017-12-24T10:01:00Z",
        events=1,
        totals={
            "events": 1,
            "first": "2017-12-24T10:01:00Z",
            "types": {"purchase": {"events": 1, "pieces": 2, "spent": 1.99}},
        },
        profile={
            "segment": "45-54",
            "favourites": {"category": [{"name": "TROPICAL FRUIT", "share": 1.0}]},
            "usual_price": 1.0,
        },
        history=[_ROW],
    )

    customer_id: str
    note: str | None = None
    known: bool
    as_of: datetime | None
    events: int
    totals: TotalsView
    profile: Profile
    history: list[HistoryRow]


class Customers(BaseModel):
    """Ids of some customers."""

    model_config = _shown(customer_ids=["1228", "900"])

    customer_ids: list[str]


class ArticleView(BaseModel):
    """An article as it is now; `variants` are articles of the same product, in other colours or sizes. What the shop
    does not say is null."""

    model_config = _shown(
        article_id="0108775015",
        title="Strap top",
        department="Jersey Basic",
        category="Garment Upper body",
        subcategory="Vest top",
        brand="Everyday",
        colour="Black",
        product_code="0108775",
        price=8.49,
        available=True,
        variants=["0108775044", "0108775051"],
        bundle_id="20261105T031200Z-8f3c1a9",
    )

    article_id: str
    title: str | None
    department: str | None
    category: str | None
    subcategory: str | None
    brand: str | None
    colour: str | None
    product_code: str | None
    price: Money | None
    available: bool
    variants: list[str]
    bundle_id: str


class BundleView(BaseModel):
    """The bundle that answers now. metrics: of its evaluation, a subject to its numbers · contracts: what it was built
    against · refused: why the one that the channel names is not in use, null where it is."""

    model_config = _shown(
        bundle_id="20261105T031200Z-8f3c1a9",
        created_at="2026-11-05T03:12:00Z",
        trained_through="2026-11-04T00:00:00Z",
        code_revision="8f3c1a9",
        articles=92_331,
        strategies=["full", "popular"],
        counts={"articles": 92_331},
        contracts={"events": "1"},
        metrics={"full": {"map@12": 0.11}, "popular": {"map@12": 0.02}},
    )

    bundle_id: str
    created_at: datetime
    trained_through: datetime
    code_revision: str | None
    articles: int
    strategies: list[str]
    counts: dict[str, int]
    contracts: dict[str, str]
    metrics: dict[str, dict[str, float]]
    refused: str | None = None


class Ready(BaseModel):
    """Each thing that is needed, "ok" or why not."""

    model_config = _shown(
        ready=True,
        checks={"store": "ok", "broker": "ok", "bundle": "ok"},
        bundle_id="20261105T031200Z-8f3c1a9",
    )

    ready: bool
    checks: dict[str, str]
    bundle_id: str | None = None
    refused: str | None = None


class Alive(BaseModel):
    """The process runs."""

    model_config = _shown(status="ok")

    status: Literal["ok"] = "ok"


class ActivityRow(BaseModel):
    """One event, `number` counted from the start of the process."""

    number: int
    type: str
    customer_id: str
    article_id: str
    title: str | None
    occurred_at: datetime


class Recent(BaseModel):
    """The newest events, newest first; `count` is how many were seen since the start."""

    model_config = _shown(
        count=41,
        recent=[
            {
                "number": 41,
                "type": "purchase",
                "customer_id": "1228",
                "article_id": "1082185",
                "title": "Banana",
                "occurred_at": "2017-12-24T10:01:00Z",
            }
        ],
    )

    count: int
    recent: list[ActivityRow]


class FieldError(BaseModel):
    """One thing that was wrong: `at` names a field, `index` an event of a list."""

    at: str | None = None
    index: int | None = None
    given: str | None = None
    message: str


class ProblemView(BaseModel):
    """Why there is no other answer (RFC 9457). `retryable`: whether the same again can help."""

    model_config = ConfigDict(
        extra="allow",
        title="Problem",
        json_schema_extra={
            "examples": [
                {
                    "type": "about:blank",
                    "title": "Unprocessable Content",
                    "status": 422,
                    "detail": "strategy 'best'; allowed: full, hybrid, repurchase",
                    "retryable": False,
                }
            ]
        },
    )

    type: str
    title: str
    status: int
    detail: str
    retryable: bool | None = None
    errors: list[FieldError] | None = None
