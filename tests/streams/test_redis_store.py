"""RedisStore behaves as every store must, on a real server; and what only it can do wrong."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator

import numpy as np
import pytest
import redis.asyncio

from infra.errors import ConfigurationError, DataError, StoreUnavailable
from infra.settings import RedisSettings
from streams.redis_store import RedisStore, open_store, pack, unpack
from streams.state_format import encode_state
from streams.store import MemoryStore, StateStore, StoredCustomer
from tests.suites.store_suite import StoreSuite, state_of


@pytest.fixture
def settings(redis_url: str) -> RedisSettings:
    return RedisSettings(url=redis_url, prefix=f"test-{uuid.uuid4().hex}")


@pytest.fixture
async def client(settings: RedisSettings) -> AsyncIterator[redis.asyncio.Redis]:
    client = redis.asyncio.Redis.from_url(settings.url)
    yield client
    await client.aclose()


@pytest.fixture
async def store(settings: RedisSettings) -> AsyncIterator[StateStore]:
    store = await open_store(settings)
    yield store
    await store.close()


class TestRedisStore(StoreSuite):
    pass


async def test_two_prefixes_do_not_see_each_other(store: StateStore, redis_url: str) -> None:
    await store.save([StoredCustomer(state_of("anna", "hat"))])
    other = await open_store(RedisSettings(url=redis_url, prefix=f"other-{uuid.uuid4().hex}"))
    assert await other.load(["anna"]) == [None]
    assert await other.customer_ids(10) == []
    await other.close()


async def test_save_goes_on_after_the_server_forgot_the_script(store: StateStore, client: redis.asyncio.Redis) -> None:
    await store.save([StoredCustomer(state_of("anna", "hat"))])
    await client.script_flush()
    assert await store.save([StoredCustomer(state_of("bo", "hat"))]) == [True]


async def test_value_of_someone_else_is_refused_by_name(
    store: StateStore, client: redis.asyncio.Redis, settings: RedisSettings
) -> None:
    await client.set(f"{settings.prefix}:customer:anna", b"not a state at all")
    with pytest.raises(DataError, match="stored state of customer 'anna'"):
        await store.load(["anna"])


async def test_server_that_is_away_is_unavailable() -> None:
    nobody = RedisSettings(url="redis://127.0.0.1:1/0", timeout_ms=200)
    with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1:1"):
        await open_store(nobody)
    gone = RedisStore(redis.asyncio.Redis.from_url(nobody.url), nobody)
    with pytest.raises(StoreUnavailable):
        await gone.load(["anna"])
    with pytest.raises(StoreUnavailable):
        await gone.save([StoredCustomer(state_of("anna", "hat"))])
    await gone.close()


async def test_embedded_url_outside_of_up_says_what_to_set() -> None:
    with pytest.raises(ConfigurationError, match="MODISTE_REDIS__URL"):
        await open_store(RedisSettings(url="embedded://"))
    assert isinstance(await open_store(RedisSettings(url="memory://")), MemoryStore)


@pytest.mark.parametrize(
    ("value", "flag", "size", "written"),
    [(1.0, 0x8000, 2, b"\x00\x3c"), (0.1, 0, 4, b"\xcd\xcc\xcc\x3d"), (1e9, 0, 4, b"\x28\x6b\x6e\x4e")],
    ids=["float16 holds it", "float32", "too great for float16"],
)
def test_layout_is_version_space_embedding_state(value: float, flag: int, size: int, written: bytes) -> None:
    anna = state_of("anna", "hat")
    vector = np.array([value], np.float32)
    raw = pack(StoredCustomer(anna, 0, "ab", vector), 3)
    assert raw[:8] == (3).to_bytes(8, "little")
    assert raw[8:14] == (flag + 2).to_bytes(2, "little") + size.to_bytes(4, "little")
    assert raw[14 : 16 + size] == b"ab" + written
    assert raw[16 + size :] == encode_state(anna)
    back = unpack(raw)
    assert back.space == "ab"
    assert back.embedding is not None
    assert back.embedding.tobytes() == vector.tobytes()


@pytest.mark.parametrize("cut", [0, 5, 13, 15, 19, 25])
def test_cut_value_is_refused(cut: int) -> None:
    raw = pack(StoredCustomer(state_of("anna", "hat"), 0, "ab", np.array([1.0], np.float32)), 1)
    with pytest.raises(DataError):
        unpack(raw[:cut])
