"""Which bundle running processes use, as seen from outside: answers on the topic and over HTTP, embeddings stored."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import time
import urllib.request
import uuid
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

from offline.smoke import Client, client
from serving.messages import Recommendations
from serving.up import Stack, modiste_argv, settings_env
from streams.events import Event
from streams.redis_store import open_store
from tests.e2e.conftest import PRESENT
from tests.support.tiny import article_number

TAKES_EFFECT_S = 5.0


async def everywhere(shop: Stack, bundle_id: str) -> None:
    """The responder and the gateway answer with this bundle within five seconds of now, and the worker encodes with
    it."""
    async with contextlib.AsyncExitStack() as stack, client(shop.settings) as one:
        store = await open_store(shop.settings.redis)
        stack.push_async_callback(store.close)

        async def on_the_topic() -> bool:
            return (await asked(one)).bundle_id == bundle_id

        async def over_http() -> bool:
            return (await asyncio.to_thread(post, shop)).get("bundle_id") == bundle_id

        async def in_the_store() -> bool:
            customer = f"new-{uuid.uuid4().hex[:8]}"
            await one.buy([purchase(customer)])
            await asyncio.sleep(0.2)
            (found,) = await store.load([customer])
            return found is not None and found.space == bundle_id

        await asyncio.gather(
            until(on_the_topic, "responder", TAKES_EFFECT_S),
            until(over_http, "gateway", TAKES_EFFECT_S),
            until(in_the_store, "worker", TAKES_EFFECT_S),
        )


async def until(condition: Callable[[], Awaitable[bool]], what: str, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < end, f"{what}: not within {seconds} s"
        await asyncio.sleep(0.05)


async def asked(one: Client) -> Recommendations:
    """What a stranger is answered on the topic."""
    answer = await one.ask("stranger")
    assert answer is not None and answer.error is None
    return answer


def post(shop: Stack) -> dict[str, Any]:
    """What a stranger is answered over HTTP."""
    request = urllib.request.Request(
        f"{(shop.api_url or '').rstrip('/')}/v1/recommendations",
        data=json.dumps({"customer_id": "stranger", "k": 3}).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        answer: dict[str, Any] = json.load(response)
    return answer


def purchase(customer: str) -> Event:
    """Of a hat, an hour after the shop's present began."""
    return Event(
        event_id=f"{customer}-hat",
        type="purchase",
        occurred_at=PRESENT + timedelta(hours=1),
        customer_id=customer,
        article_id=article_number("hat", 0),
        price=4.0,
    )


def command(shop: Stack, *words: str) -> subprocess.CompletedProcess[str]:
    """`modiste WORDS` beside the running shop."""
    return subprocess.run(
        modiste_argv(*words),
        env={**os.environ, **settings_env(shop.settings)},
        capture_output=True,
        text=True,
        check=False,
    )
