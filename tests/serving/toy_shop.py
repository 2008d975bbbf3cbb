"""A shop of three articles whose pipeline a reader can follow: newest purchase first, then the shelf in order."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, ClassVar

import msgspec

from infra.errors import BrokerUnavailable, BundleNotFound, StoreUnavailable
from serving.messages import Item, RecommendationRequest, Recommendations
from serving.reload import Loaded
from streams.events import Event, from_micros
from streams.processor import RawMessage
from streams.state import empty_state, fold
from streams.store import MemoryStore, StoredCustomer

SHELF = ("tea", "milk", "bread")
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


class ToyItems:
    index: ClassVar = {article: row for row, article in enumerate(SHELF)}
    titles: ClassVar = [article.upper() for article in SHELF]

    def label(self, attribute: str, item_idx: int) -> str | None:
        return "FOOD" if attribute == "category" else None

    codes: ClassVar[dict[str, Any]] = {}

    def describe(self, article_id: str) -> dict[str, str | float | None]:
        known = article_id in self.index
        return {
            "article_id": article_id,
            "title": article_id.upper() if known else None,
            "category": "FOOD" if known else None,
            "department": None,
            "price": 2.5 if known else None,
        }


class ToyPipeline:
    """Breaks for customer "cursed"."""

    def recommend(
        self,
        requests: Sequence[RecommendationRequest],
        customers: Sequence[StoredCustomer | None],
        *,
        degraded: Sequence[str] = (),
    ) -> list[Recommendations]:
        if any(request.customer_id == "cursed" for request in requests):
            raise ZeroDivisionError("cursed")
        return [self._one(r, c, list(degraded)) for r, c in zip(requests, customers, strict=True)]

    def _one(
        self, request: RecommendationRequest, customer: StoredCustomer | None, degraded: list[str]
    ) -> Recommendations:
        bought = list(customer.state.article_ids)[::-1] if customer else []
        order = list(dict.fromkeys([*bought, *SHELF]))[: request.k]
        newest = customer.state.as_of if customer else None
        return Recommendations(
            request_id=request.request_id,
            customer_id=request.customer_id,
            items=[
                Item(article_id=a, rank=n, score=1 / n, source="repurchase+popular" if a in bought else "popular")
                for n, a in enumerate(order, start=1)
            ],
            bundle_id="toy-1",
            cold_start=not bought,
            degraded=degraded,
            trace=[{"stage": "toy"}] if request.explain else [],
            as_of=None if newest is None else from_micros(newest),
        )


class ToySource:
    """Always the same bundle; `gone` takes it away."""

    def __init__(self) -> None:
        self.gone = False
        self.refusal = None
        runtime: Any = SimpleNamespace(items=ToyItems(), catalog=SimpleNamespace(segments={"anna": "30s"}))
        pipeline: Any = ToyPipeline()
        self._loaded = Loaded("toy-1", runtime, pipeline)

    @property
    def current(self) -> Loaded:
        if self.gone:
            raise BundleNotFound("channel production points nowhere")
        return self._loaded

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


class CountingStore(MemoryStore):
    """Counts round trips; `away` makes it unavailable."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[list[str]] = []
        self.away = False

    async def load(self, customer_ids: Sequence[str]) -> list[StoredCustomer | None]:
        self.loads.append(list(customer_ids))
        if self.away:
            raise StoreUnavailable("redis is away")
        return await super().load(customer_ids)

    async def ping(self) -> None:
        if self.away:
            raise StoreUnavailable("redis is away")


class ToyLink:
    """A broker that is a list."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, bytes | None, bytes]] = []
        self.away = False

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def ping(self) -> None:
        if self.away:
            raise BrokerUnavailable("kafka is away")

    async def send_many(self, messages: Sequence[tuple[str, bytes | None, bytes]]) -> int:
        await self.ping()
        self.sent += messages
        return len(messages)

    def on(self, topic: str) -> list[Any]:
        return [msgspec.json.decode(value) for to, _, value in self.sent if to == topic]


async def buy(store: MemoryStore, customer_id: str, *articles: str, at: datetime = NOON) -> None:
    events = [
        Event(
            event_id=f"{customer_id}-{n}-{article}",
            type="purchase",
            occurred_at=at,
            customer_id=customer_id,
            article_id=article,
            price=1.25,
        )
        for n, article in enumerate(articles)
    ]
    (stored,) = await MemoryStore.load(store, [customer_id])
    state, _ = fold(stored.state if stored else empty_state(customer_id), events)
    await store.save([StoredCustomer(state, stored.version if stored else 0)])


def raw(value: bytes | dict[str, object], *, key: bytes | None = b"anna", offset: int = 0) -> RawMessage:
    body = value if isinstance(value, bytes) else msgspec.json.encode(value)
    return RawMessage("recommendation-requests", 0, offset, key, body)
