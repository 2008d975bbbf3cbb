"""Where customer states live: the protocol, and a store in this process's memory.

A store keeps one value a customer: the state, its version, and the embedding with the space it belongs to. A
save is
fenced: it names the version it has read, and loses when another writer was faster.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from infra.errors import DataError
from streams.state import CustomerState
from streams.state_format import decode_state, encode_state


class StoredCustomer(msgspec.Struct, frozen=True, eq=False, gc=False):
    """One value of the store.

    version: of the value read, 0 for a customer the store does not know; each save adds one.
    embedding: float32[d] in `space` (a bundle's name for its vectors); both None when not encoded.
    """

    state: CustomerState
    version: int = 0
    space: str | None = None
    embedding: npt.NDArray[np.float32] | None = None


class StateStore(Protocol):
    """Load and save many customers in one round trip. All methods may raise StoreUnavailable."""

    async def load(self, customer_ids: Sequence[str]) -> list[StoredCustomer | None]:
        """One entry an id, in order; None where nothing is stored."""
        ...

    async def save(self, updates: Sequence[StoredCustomer]) -> list[bool]:
        """Write each value whose stored version is still `version`, as `version` + 1; False = another was
        faster.

        A customer must not stand in one batch twice: the second would lose against the first.
        """
        ...

    async def customer_ids(self, limit: int) -> list[str]:
        """Up to `limit` ids, sorted; which ones, where more are stored, is open."""
        ...

    async def scan(self, cursor: int, count: int) -> tuple[int | None, list[str]]:
        """About `count` ids from `cursor` (0 begins) and the cursor of the next page, None after the last one.

        Whoever is stored throughout is on some page; an id may come twice.
        """
        ...

    async def ping(self) -> None:
        """Return when the store answers."""
        ...

    async def close(self) -> None:
        """Give back connections; the store is not used after it."""
        ...


async def load_readable(
    store: StateStore, customer_ids: Sequence[str]
) -> tuple[dict[str, StoredCustomer | None], dict[str, DataError]]:
    """What `store.load` gives for distinct ids, by id, and an error for each whose stored value cannot be read.

    Costs one round trip, and about two for each halving around a bad value: the others do not pay one by one.

    Raises:
        StoreUnavailable: as `load`.
    """
    try:
        return dict(zip(customer_ids, await store.load(customer_ids), strict=True)), {}
    except DataError as error:
        if len(customer_ids) == 1:
            return {}, {customer_ids[0]: error}
    half = len(customer_ids) // 2
    found, unreadable = await load_readable(store, customer_ids[:half])
    more, others = await load_readable(store, customer_ids[half:])
    return {**found, **more}, {**unreadable, **others}


class MemoryStore:
    """A dict with the behaviour of the real store; for replay, tests and commands without a server.

    Values are kept encoded, so nothing that a caller holds is shared with the store.
    """

    def __init__(self) -> None:
        self._values: dict[str, tuple[int, bytes, str | None, bytes | None]] = {}

    async def load(self, customer_ids: Sequence[str]) -> list[StoredCustomer | None]:
        return [self._get(customer_id) for customer_id in customer_ids]

    def _get(self, customer_id: str) -> StoredCustomer | None:
        value = self._values.get(customer_id)
        if value is None:
            return None
        version, state, space, embedding = value
        vector = None if embedding is None else np.frombuffer(embedding, "<f4")
        return StoredCustomer(decode_state(state), version, space, vector)

    async def save(self, updates: Sequence[StoredCustomer]) -> list[bool]:
        return [self._put(update) for update in updates]

    def _put(self, update: StoredCustomer) -> bool:
        customer_id = update.state.customer_id
        stored = self._values.get(customer_id)
        if (stored[0] if stored else 0) != update.version:
            return False
        vector = None if update.embedding is None else update.embedding.astype("<f4").tobytes()
        self._values[customer_id] = (update.version + 1, encode_state(update.state), update.space, vector)
        return True

    async def customer_ids(self, limit: int) -> list[str]:
        return sorted(self._values)[:limit]

    async def scan(self, cursor: int, count: int) -> tuple[int | None, list[str]]:
        ids = list(self._values)  # in the order of arrival, and nobody leaves
        following = cursor + count
        return following if following < len(ids) else None, ids[cursor:following]

    async def ping(self) -> None:
        return None

    async def close(self) -> None:
        return None
