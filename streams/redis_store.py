"""Customer states in a Redis-protocol server: one packed value a customer, fenced script calls to save.

    value = version u64 | length of space u16 | bytes of embedding u32 | space | embedding | state

Little-endian. The embedding is float32, or float16 where that loses nothing, as with all that `streams.encoder` makes;
the highest bit of the space's length says which. The version stands first so that the script compares eight bytes and
never reads the rest. A value is written whole or not at all, so a reader never sees a state with another state's
embedding.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import redis.asyncio
from redis.exceptions import NoScriptError, RedisError, ResponseError

from infra.errors import DataError, StoreUnavailable
from infra.redis_client import connect, store_errors
from infra.settings import RedisSettings
from streams.state_format import decode_state, encode_state
from streams.store import MemoryStore, StateStore, StoredCustomer

_HEADER = struct.Struct("<QHI")
_VERSION = struct.Struct("<Q")
_HALF = 0x8000

# Customers a script call: few calls, and none that keeps the server from others for long.
_SAVED_AT_ONCE = 256

# Returns the (one-based) places of those that another writer has changed meanwhile; mostly an empty list.
_SAVE = """
local lost = {}
for i, key in ipairs(KEYS) do
  local head = redis.call('GETRANGE', key, 0, 7)
  if head == '' then head = '\\0\\0\\0\\0\\0\\0\\0\\0' end
  if head == ARGV[2 * i - 1] then
    redis.call('SET', key, ARGV[2 * i])
  else
    lost[#lost + 1] = i
  end
end
return lost
"""


def pack(stored: StoredCustomer, version: int) -> bytes:
    """The value to write, with `version` in place of the one that was read."""
    space = (stored.space or "").encode()
    embedding, flag = (b"", 0) if stored.embedding is None else _embedding_bytes(stored.embedding)
    header = _HEADER.pack(version, len(space) | flag, len(embedding))
    return b"".join((header, space, embedding, encode_state(stored.state)))


def _embedding_bytes(embedding: npt.NDArray[np.float32]) -> tuple[bytes, int]:
    raw = embedding.astype("<f4", copy=False).tobytes()
    with np.errstate(over="ignore"):  # what does not fit does not come back, and stays float32
        half = embedding.astype("<f2")
    return (half.tobytes(), _HALF) if half.astype("<f4").tobytes() == raw else (raw, 0)


def unpack(raw: bytes) -> StoredCustomer:
    """Inverse of `pack`, also for what older code wrote; arrays may be read-only views of `raw`.

    Raises:
        DataError: not a value of this store.
    """
    if len(raw) < _HEADER.size:
        raise DataError(f"value of {len(raw)} bytes; a stored customer has {_HEADER.size} or more")
    version, space_bytes, embedding_bytes = _HEADER.unpack_from(raw)
    width = 2 if space_bytes & _HALF else 4
    space_bytes &= ~_HALF
    space_end = _HEADER.size + space_bytes
    embedding_end = space_end + embedding_bytes
    if embedding_end > len(raw) or embedding_bytes % width:
        raise DataError(
            f"value of {len(raw)} bytes; its header asks for {embedding_end} with an embedding of {embedding_bytes}"
        )
    try:
        space = raw[_HEADER.size : space_end].decode() or None
    except UnicodeDecodeError as error:
        raise DataError(f"name of the embedding space is not text: {error}") from error
    embedding: npt.NDArray[np.float32] | None = None
    if embedding_bytes:
        vector = np.frombuffer(raw, f"<f{width}", embedding_bytes // width, space_end)
        embedding = vector.astype("<f4", copy=False)
    return StoredCustomer(decode_state(raw[embedding_end:]), version, space, embedding)


class RedisStore:
    """See the module."""

    def __init__(self, client: redis.asyncio.Redis, settings: RedisSettings) -> None:
        self._client = client
        self._settings = settings
        self._prefix = f"{settings.prefix}:customer:"
        self._sha: str | None = None

    async def load(self, customer_ids: Sequence[str]) -> list[StoredCustomer | None]:
        """See StateStore.

        Raises:
            StoreUnavailable: no answer in time.
            DataError: a value is not one of this store; says whose.
        """
        if not customer_ids:
            return []
        with store_errors(self._settings):
            keys = [self._prefix + customer_id for customer_id in customer_ids]
            values = cast(list[bytes | None], await self._client.mget(keys))
        loaded: list[StoredCustomer | None] = []
        for customer_id, raw in zip(customer_ids, values, strict=True):
            try:
                loaded.append(None if raw is None else unpack(raw))
            except DataError as error:
                raise DataError(f"stored state of customer {customer_id!r}: {error}") from error
        return loaded

    async def save(self, updates: Sequence[StoredCustomer]) -> list[bool]:
        """See StateStore.

        Raises:
            StoreUnavailable: no answer in time; some of the values may have been written.
        """
        if not updates:
            return []
        if self._sha is None:
            await self._load_script()
        parts = [updates[start : start + _SAVED_AT_ONCE] for start in range(0, len(updates), _SAVED_AT_ONCE)]
        results = await self._run(parts)
        if any(isinstance(result, NoScriptError) for result in results):  # the server was restarted
            await self._load_script()
            retried = [i for i, result in enumerate(results) if isinstance(result, NoScriptError)]
            for i, result in zip(retried, await self._run([parts[i] for i in retried]), strict=True):
                results[i] = result
        saved: list[bool] = []
        for part, result in zip(parts, results, strict=True):
            if isinstance(result, ResponseError):
                with store_errors(self._settings):
                    raise result
            if isinstance(result, RedisError):
                raise StoreUnavailable(f"the server refused a write: {result}")
            lost = set(result)
            saved += [place not in lost for place in range(1, len(part) + 1)]
        return saved

    async def _load_script(self) -> None:
        with store_errors(self._settings):
            self._sha = await self._client.script_load(_SAVE)

    async def _run(self, parts: Sequence[Sequence[StoredCustomer]]) -> list[Any]:
        """One script call a part, all in one round trip; an error stands in the place of its part's answer."""
        pipeline = self._client.pipeline(transaction=False)
        for part in parts:
            keys = [self._prefix + update.state.customer_id for update in part]
            values = [value for u in part for value in (_VERSION.pack(u.version), pack(u, u.version + 1))]
            pipeline.execute_command("EVALSHA", self._sha, len(keys), *keys, *values)
        with store_errors(self._settings):
            results: list[Any] = await pipeline.execute(raise_on_error=False)
            return results

    async def customer_ids(self, limit: int) -> list[str]:
        found: set[str] = set()
        start = len(self._prefix)
        with store_errors(self._settings):
            async for key in self._client.scan_iter(match=f"{self._prefix}*", count=1_000):
                found.add(key.decode()[start:])
                if len(found) >= limit:
                    break
        return sorted(found)

    async def scan(self, cursor: int, count: int) -> tuple[int | None, list[str]]:
        with store_errors(self._settings):
            page: Any = await self._client.scan(cursor, match=f"{self._prefix}*", count=count)
        following, keys = page
        start = len(self._prefix)
        return int(following) or None, list(dict.fromkeys(key.decode()[start:] for key in keys))

    async def ping(self) -> None:
        with store_errors(self._settings):
            await self._client.ping()

    async def close(self) -> None:
        await self._client.aclose()


async def open_store(settings: RedisSettings) -> StateStore:
    """The store that `redis.url` names: `memory://` in this process, else a server that has answered.

    Raises:
        ConfigurationError: the URL names no server. StoreUnavailable: it does not answer.
    """
    if settings.url.startswith("memory://"):
        return MemoryStore()
    return RedisStore(await connect(settings), settings)
