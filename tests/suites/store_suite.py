"""What every StateStore must do. A test module derives `StoreSuite` and gives the fixture `store`."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np

from streams.events import Event
from streams.state import BOUNDS, Bounds, CustomerState, empty_state, fold
from streams.state_format import encode_state
from streams.store import StateStore, StoredCustomer


def state_of(customer_id: str, *article_ids: str, bounds: Bounds = BOUNDS) -> CustomerState:
    """A state of one purchase an article, a second apart."""
    events = [
        Event(
            event_id=f"{customer_id}-{i}",
            type="purchase",
            occurred_at=datetime(2017, 3, 1, 12, 0, i, tzinfo=UTC),
            customer_id=customer_id,
            article_id=article_id,
            price=9.5,
        )
        for i, article_id in enumerate(article_ids)
    ]
    return fold(empty_state(customer_id), events, bounds)[0]


class StoreSuite:
    async def test_unknown_customer_is_none(self, store: StateStore) -> None:
        assert await store.load(["nobody", "no one"]) == [None, None]
        assert await store.load([]) == []

    async def test_saved_state_comes_back_byte_for_byte_as_version_one(self, store: StateStore) -> None:
        anna = state_of("anna", "shirt", "skirt")
        assert await store.save([StoredCustomer(anna)]) == [True]
        (found,) = await store.load(["anna"])
        assert found is not None
        assert encode_state(found.state) == encode_state(anna)
        assert (found.version, found.space, found.embedding) == (1, None, None)

    async def test_what_left_the_window_comes_back_too(self, store: StateStore) -> None:
        anna = state_of("anna", *map(str, range(7)), bounds=Bounds(window=3, ledger=2))
        await store.save([StoredCustomer(anna)])
        (found,) = await store.load(["anna"])
        assert found is not None
        assert len(found.state) == 3
        assert found.state.totals == anna.totals
        assert len(found.state.totals) == 7
        assert encode_state(found.state) == encode_state(anna)

    async def test_embedding_comes_back_in_its_space(self, store: StateStore) -> None:
        vector = np.array([0.6, -0.8], np.float32)
        await store.save([StoredCustomer(state_of("anna", "shirt"), 0, "bundle-a", vector)])
        (found,) = await store.load(["anna"])
        assert found is not None
        assert found.space == "bundle-a"
        assert found.embedding is not None
        assert found.embedding.dtype == np.float32
        assert found.embedding.tolist() == vector.tolist()

    async def test_save_without_embedding_removes_the_old_one(self, store: StateStore) -> None:
        vector = np.array([1.0, 0.0], np.float32)
        await store.save([StoredCustomer(state_of("anna", "shirt"), 0, "bundle-a", vector)])
        await store.save([StoredCustomer(state_of("anna", "shirt", "skirt"), 1)])
        (found,) = await store.load(["anna"])
        assert found is not None
        assert (found.version, found.space, found.embedding) == (2, None, None)

    async def test_second_writer_of_one_version_loses(self, store: StateStore) -> None:
        first, second = state_of("anna", "shirt"), state_of("anna", "hat")
        assert await store.save([StoredCustomer(first)]) == [True]
        assert await store.save([StoredCustomer(second)]) == [False]
        (found,) = await store.load(["anna"])
        assert found is not None
        assert found.state.article_ids == ("shirt",)

    async def test_version_from_the_future_loses(self, store: StateStore) -> None:
        assert await store.save([StoredCustomer(state_of("anna", "shirt"), 7)]) == [False]
        assert await store.load(["anna"]) == [None]

    async def test_one_conflict_does_not_hold_up_the_others(self, store: StateStore) -> None:
        await store.save([StoredCustomer(state_of("anna", "shirt"))])
        batch = [StoredCustomer(state_of(name, "hat")) for name in ("anna", "bo", "cy")]
        assert await store.save(batch) == [False, True, True]

    async def test_load_keeps_the_order_asked_for(self, store: StateStore) -> None:
        await store.save([StoredCustomer(state_of(name, "hat")) for name in ("anna", "bo")])
        found = await store.load(["bo", "nobody", "anna", "bo"])
        assert [f and f.state.customer_id for f in found] == ["bo", None, "anna", "bo"]

    async def test_ids_of_any_characters(self, store: StateStore) -> None:
        names = ["a:b", "a*b", "naïve ✓", "x\ny"]
        await store.save([StoredCustomer(state_of(name, "hat")) for name in names])
        found = await store.load(names)
        assert [f and f.state.customer_id for f in found] == names
        assert await store.customer_ids(10) == sorted(names)

    async def test_customer_ids_stop_at_the_limit(self, store: StateStore) -> None:
        await store.save([StoredCustomer(state_of(f"c{i}", "hat")) for i in range(5)])
        assert await store.customer_ids(10) == ["c0", "c1", "c2", "c3", "c4"]
        some = await store.customer_ids(3)
        assert len(some) == 3
        assert some == sorted(some)

    async def test_ping(self, store: StateStore) -> None:
        await store.ping()

    async def test_scan_comes_to_everybody_page_by_page(self, store: StateStore) -> None:
        names = {f"customer-{n}" for n in range(25)}
        await store.save([StoredCustomer(state_of(name, "shirt")) for name in sorted(names)])
        found: set[str] = set()
        cursor: int | None = 0
        for _ in range(1_000):
            cursor, page = await store.scan(cursor, 4)
            found |= set(page)
            if cursor is None:
                break
        assert cursor is None and found == names
