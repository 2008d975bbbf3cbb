"""What the HTTP routes stand on: bundle, store, producer, responder and ticker, opened and closed
together.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Protocol

import msgspec
import numpy as np

from infra.clock import Clock
from infra.errors import BrokerUnavailable, BundleError, ModisteError, Unavailable
from infra.follow import Refusal
from serving.activity import ActivityRing
from serving.afterwards import Afterwards
from serving.explanations import Explanations
from serving.messages import RecommendationRequest, Recommendations
from serving.profile import profile_of
from serving.reload import Loaded
from serving.responder import Responder
from streams.events import EVENT_TYPES, Event, encode_event, from_micros, to_micros
from streams.store import StateStore, StoredCustomer, load_readable
from streams.topics import TRANSACTIONS
from streams.totals import NO_TOTALS, Totals

log = logging.getLogger(__name__)

HISTORY_SHOWN = 50
SAMPLE_MAX = 200
RECONNECT_S = 1.0
CHECK_TIMEOUT_S = 2.0

# What a bundle must carry to be searched by words, and by a photo.
SEARCH_FILES = {"text": ("word_index.npz",), "image": ("image_encoder.onnx", "image_space.npz", "image_vectors.npy")}

Outgoing = tuple[str, bytes | None, bytes]
Described = dict[str, str | float | None]


class Holder(Protocol):
    """`serving.live.LiveRuntime`, as far as the gateway uses it."""

    @property
    def current(self) -> Loaded: ...
    @property
    def refusal(self) -> Refusal | None: ...
    async def start(self) -> None: ...
    async def stop(self) -> None: ...


class Link(Protocol):
    """A connection to the broker: `send_many` returns when all were acknowledged."""

    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    async def ping(self) -> None: ...
    async def send_many(self, messages: Sequence[Outgoing]) -> object: ...


class PatientLink:
    """Connects in the background and keeps trying, so that the gateway can start before the broker does."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._up = False
        self._reason = "not connected yet"
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self._connect(), name="broker-link")
        # Usually it is there: the first request then finds the link up.
        await asyncio.wait({self._task}, timeout=CHECK_TIMEOUT_S)

    async def _connect(self) -> None:
        while not self._up:
            try:
                await self._link.start()
                self._up = True
            except ModisteError as error:  # refused credentials too: mended at the broker, they count from then on
                self._reason = str(error)
                log.warning("waiting for the broker: %s", error)
                await asyncio.sleep(RECONNECT_S)

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        if self._up:
            await self._link.stop()

    def _require(self) -> None:
        if not self._up:
            raise BrokerUnavailable(f"the broker is not connected: {self._reason}")

    async def ping(self) -> None:
        self._require()
        await self._link.ping()

    async def send_many(self, messages: Sequence[Outgoing]) -> None:
        self._require()
        await self._link.send_many(messages)


@dataclass(frozen=True, slots=True)
class Gateway:
    """All that a request handler may use."""

    holder: Holder
    store: StateStore
    link: PatientLink
    responder: Responder
    activity: ActivityRing
    clock: Clock
    explanations: Explanations = field(default_factory=Explanations)
    afterwards: Afterwards = field(default_factory=Afterwards)

    async def start(self) -> None:
        await self.holder.start()
        await self.link.start()
        await self.activity.start()

    async def stop(self) -> None:
        await self.activity.stop()
        await self.afterwards.finish()
        await self.link.stop()
        await self.holder.stop()
        await self.explanations.close()
        await self.store.close()

    async def produce(self, events: Sequence[Event]) -> None:
        """Put events on the topic; returns when the broker has them all.

        Raises:
            BrokerUnavailable: not acknowledged; sending the same events again is harmless (same event ids).
        """
        await self.link.send_many([(TRANSACTIONS, e.customer_id.encode(), encode_event(e)) for e in events])

    async def recommend(self, request: RecommendationRequest) -> Recommendations:
        """The responder's answer, in process, kept with its trace to be explained. What is shown is told to the topic,
        and the trace that was asked for to other processes, when the answer is out: neither delays it.
        """
        traced = request.explain or self.explanations.max_bytes > 0
        answer = await self.responder.answer_one(msgspec.structs.replace(request, explain=traced))
        now = self.clock.now()
        self.explanations.keep(answer, now)
        if request.explain:
            self.afterwards.do("explanation", partial(self.explanations.share, [answer], now))
        self.afterwards.do("impression", partial(self.responder.publish_impressions, [answer]))
        return answer if request.explain else msgspec.structs.replace(answer, trace=[])

    @property
    def searches(self) -> frozenset[str]:
        """Which searches the bundle in use can do, of `text` and `image`; none where there is no bundle."""
        try:
            manifest = getattr(self.holder.current.runtime, "manifest", None)
        except BundleError:
            return frozenset()
        files = () if manifest is None else manifest.files
        return frozenset(kind for kind, needed in SEARCH_FILES.items() if all(name in files for name in needed))

    def describe(self, article_id: str) -> Described:
        """Title, category, department and price; only the id where the bundle in use does not know the
        article.
        """
        try:
            return self.holder.current.describe(article_id)
        except BundleError:
            return dict.fromkeys(("title", "category", "department", "price")) | {"article_id": article_id}

    async def customer(self, customer_id: str, limit: int = HISTORY_SHOWN) -> dict[str, object]:
        """What is known of a customer, newest first; an id never seen is a customer without history.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        (known,) = await self.customers([customer_id], limit)
        return known

    async def customers(self, customer_ids: Sequence[str], limit: int = HISTORY_SHOWN) -> list[dict[str, object]]:
        """The same of several different customers, in their order, for one round trip to the store.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        read = zip(customer_ids, await self._stored(customer_ids), strict=True)
        return [self._known(customer_id, stored, note, limit) for customer_id, (stored, note) in read]

    def _known(
        self, customer_id: str, stored: StoredCustomer | None, note: str | None, limit: int
    ) -> dict[str, object]:
        return {
            "customer_id": customer_id,
            "note": note,
            "known": stored is not None and len(stored.state) > 0,
            "as_of": _as_of(stored),
            "events": len(stored.state) if stored else 0,
            "totals": _totals(NO_TOTALS if stored is None else stored.state.totals),
            "profile": self._profile(customer_id, stored),
            "history": self._rows(stored, range(len(stored.state))[::-1][:limit]) if stored else [],
        }

    async def history(
        self, customer_id: str, limit: int, *, type: str | None = None, before: datetime | None = None
    ) -> dict[str, object]:
        """Events of a customer, newest first, of one type or all, strictly before a time or all that are remembered.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        ((stored, note),) = await self._stored([customer_id])
        if stored is None:
            return {"customer_id": customer_id, "note": note, "known": False, "events": [], "more": False}
        state = stored.state
        fits = np.ones(len(state), np.bool_)
        if type is not None:
            fits &= state.types == EVENT_TYPES.index(type)
        if before is not None:
            fits &= state.occurred_at < to_micros(before)
        found = np.flatnonzero(fits)[::-1].tolist()
        return {
            "customer_id": customer_id,
            "note": note,
            "known": len(state) > 0,
            "events": self._rows(stored, found[:limit]),
            "more": len(found) > limit,
        }

    async def _stored(self, customer_ids: Sequence[str]) -> list[tuple[StoredCustomer | None, str | None]]:
        """What is stored of each, and why nothing can be told of it where it cannot be read."""
        found, unreadable = await load_readable(self.store, customer_ids)
        for error in unreadable.values():
            log.error("a state cannot be read: %s", error)
        return [
            (None, f"what is stored of this customer cannot be read: {unreadable[customer_id]}")
            if customer_id in unreadable
            else (found[customer_id], None)
            for customer_id in customer_ids
        ]

    def _profile(self, customer_id: str, stored: StoredCustomer | None) -> dict[str, object]:
        try:
            runtime = self.holder.current.runtime
        except BundleError:
            return {"segment": None, "favourites": {}, "usual_price": None}
        state = None if stored is None else stored.state
        return profile_of(state, runtime.items, runtime.catalog.segments.get(customer_id))

    def _rows(self, stored: StoredCustomer, chosen: Sequence[int]) -> list[dict[str, object]]:
        state = stored.state
        rows: list[dict[str, object]] = []
        for i in chosen:
            paid = float(state.prices[i])
            described = self.describe(state.article_ids[i])
            rows.append(
                {
                    **described,
                    "type": EVENT_TYPES[int(state.types[i])],
                    "occurred_at": from_micros(int(state.occurred_at[i])),
                    "price": round(paid, 2) if not math.isnan(paid) else described["price"],
                    "quantity": int(state.quantities[i]),
                }
            )
        return rows

    async def checks(self) -> dict[str, str]:
        """Each thing the gateway needs, "ok" or why not."""
        found = {
            "store": await _check(self.store.ping),
            "broker": await _check(self.link.ping),
            "bundle": "ok",
        }
        try:
            bundle_id = self.holder.current.bundle_id
            refusal = self.holder.refusal
            if refusal is not None:
                log.debug("bundle %s stays in use: %s", bundle_id, refusal.reason)
        except BundleError as error:
            found["bundle"] = str(error)
        return found


def _as_of(stored: StoredCustomer | None) -> datetime | None:
    newest = stored.state.as_of if stored else None
    return None if newest is None else from_micros(newest)


def _totals(totals: Totals) -> dict[str, object]:
    first = None if totals.first is None else from_micros(totals.first)
    return {"events": len(totals), "first": first, "types": totals.by_type()}


async def _check(ping: Callable[[], Awaitable[object]]) -> str:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            await ping()
    except TimeoutError:
        return f"no answer within {CHECK_TIMEOUT_S:g} s"
    except (Unavailable, OSError) as error:
        return str(error) or type(error).__name__
    return "ok"
