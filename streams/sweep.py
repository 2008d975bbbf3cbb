"""After a bundle has changed, stored customers get their embeddings in its space, in the background.

Serving encodes whoever asks before their turn has come. Saves are fenced, so live events always win; who has been
done is seen in the store itself, so a sweep that was interrupted goes on by skipping them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from dataclasses import dataclass

from infra.errors import DataError, Unavailable
from infra.kafka import backoff_s
from infra.pauses import MAX_REST_S
from streams.processor import StateEncoder
from streams.store import StateStore, StoredCustomer

logger = logging.getLogger(__name__)

# A chunk is encoded and saved in one go, about 6 ms of work; a live batch that comes meanwhile waits for that, and
# answers too where processors are shared.
CHUNK = 16
SHARE = 1 / 3
# Live traffic goes first, but not for ever.
YIELD_S = 0.5
REPORT_S = 10.0


@dataclass
class Swept:
    """Customers looked at, encoded anew, and left to a live event that was faster."""

    seen: int = 0
    encoded: int = 0
    overtaken: int = 0


async def sweep(
    store: StateStore,
    encoder: StateEncoder,
    *,
    per_second: int,
    idle: asyncio.Event | None = None,
    delay_s: float = 0.0,
) -> Swept:
    """Encode every stored customer who has no embedding in the encoder's space; at most `per_second` are looked at, and
    it works for SHARE of the time, as long as it has to wait for the store included.

    idle: set while no live batch is being folded. delay_s: before the first. A store that is away is waited for.
    """
    done = Swept()
    await asyncio.sleep(delay_s)
    cursor: int | None = 0
    said = started = time.monotonic()
    attempt = 0
    while cursor is not None:
        if idle is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(idle.wait(), YIELD_S)
        began = time.monotonic()
        try:
            following, ids = await store.scan(cursor, CHUNK)
            await _encode(store, encoder, ids, done)
        except Unavailable as error:
            pause = backoff_s(attempt)
            attempt += 1
            logger.warning("sweep paused for %.1f s: %s", pause, error)
            await asyncio.sleep(pause)
            continue
        attempt, cursor = 0, following
        if time.monotonic() - said > REPORT_S:
            said = time.monotonic()
            logger.info("sweep into %s: %d customers seen, %d encoded", encoder.space, done.seen, done.encoded)
        took = time.monotonic() - began
        await asyncio.sleep(max(min(MAX_REST_S, took * (1 / SHARE - 1)), len(ids) / per_second - took))
    logger.info(
        "sweep into %s ended after %.1f s: %d customers seen, %d encoded, %d were faster",
        encoder.space,
        time.monotonic() - started,
        done.seen,
        done.encoded,
        done.overtaken,
    )
    return done


async def _encode(store: StateStore, encoder: StateEncoder, ids: list[str], done: Swept) -> None:
    stale = [s for s in await _load(store, ids) if s is not None and s.space != encoder.space]
    done.seen += len(ids)
    if not stale:
        return
    vectors = await asyncio.to_thread(encoder.encode, [stored.state for stored in stale])
    saved = await store.save(
        [
            StoredCustomer(stored.state, stored.version, encoder.space, vector)
            for stored, vector in zip(stale, vectors, strict=True)
        ]
    )
    done.encoded += sum(saved)
    done.overtaken += len(saved) - sum(saved)


async def _load(store: StateStore, ids: list[str]) -> list[StoredCustomer | None]:
    """Values of the page; one that cannot be read is left as it is, the processor tells of it."""
    try:
        return await store.load(ids)
    except DataError:
        found: list[StoredCustomer | None] = []
        for customer_id in ids:
            try:
                found += await store.load([customer_id])
            except DataError as error:
                logger.warning("sweep passes over a value: %s", error)
        return found
