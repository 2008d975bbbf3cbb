"""Waiting until a customer's state has an event: the moment from which an answer knows of it."""

from __future__ import annotations

import asyncio
import time

import numpy as np

from streams.events import id_key
from streams.store import StateStore, load_readable

KNOWN_WITHIN_S = 5.0
FIRST_PAUSE_S = 0.01
LONGEST_PAUSE_S = 0.08


async def until_known(store: StateStore, customer_id: str, event_id: str, timeout_s: float = KNOWN_WITHIN_S) -> bool:
    """True once the stored state has the event, False when it has not after `timeout_s`, or cannot be read at all.

    Raises:
        StoreUnavailable: the store does not answer.
    """
    key = np.uint64(id_key(event_id))
    until, pause = time.monotonic() + timeout_s, FIRST_PAUSE_S
    while True:
        found, unreadable = await load_readable(store, [customer_id])
        if unreadable:
            return False
        stored = found[customer_id]
        if stored is not None and bool((stored.state.keys == key).any()):
            return True
        if time.monotonic() + pause > until:
            return False
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, LONGEST_PAUSE_S)
