"""The HTTP gateway over the tiny shop's bundle on a real local socket: what a client, a fuzzer or curl talks to."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import uvicorn
from fastapi import FastAPI

from infra.clock import ManualClock
from infra.errors import BundleNotFound
from infra.settings import ApiSettings, KafkaSettings, PageSettings, Settings
from serving.activity import ActivityRing
from serving.api import build_api
from serving.api_gateway import Gateway, PatientLink
from serving.cli import listen
from serving.explanations import Explanations
from serving.pipeline import Pipeline
from serving.reload import Loaded
from serving.responder import Responder
from serving.runtime import Runtime
from serving.shelf import Shelf
from tests.serving.toy_shop import NOON, CountingStore, ToyLink, buy
from tests.support.tiny import article_number

READER, WRITER, ADMIN = "reader-key", "writer-key", "admin-key"


class RealSource:
    """Always the tiny shop's bundle; `gone` takes it away."""

    def __init__(self, runtime: Runtime, clock: ManualClock) -> None:
        self.gone = False
        self.refusal = None
        self.shelf = Shelf.of(runtime.items)
        self._loaded = Loaded(runtime.bundle_id, runtime, Pipeline(runtime, clock, shelf=self.shelf), self.shelf)

    @property
    def current(self) -> Loaded:
        if self.gone:
            raise BundleNotFound("channel production points nowhere")
        return self._loaded

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


@dataclass
class HttpShop:
    """`anna` has bought top-0, top-1 and top-0 again."""

    source: RealSource
    clock: ManualClock
    store: CountingStore = field(default_factory=CountingStore)
    link: ToyLink = field(default_factory=ToyLink)
    ring: ActivityRing = field(default_factory=lambda: ActivityRing(KafkaSettings(url="kafka://127.0.0.1:1")))
    explanations: Explanations = field(default_factory=Explanations)
    url: str = ""

    @classmethod
    def of(cls, runtime: Runtime) -> HttpShop:
        clock = ManualClock(NOON)
        shop = cls(RealSource(runtime, clock), clock)
        clock.advance(timedelta(minutes=1))
        asyncio.run(buy(shop.store, "anna", *(article_number("top", n) for n in (0, 1, 0))))
        return shop

    @asynccontextmanager
    async def opened(self, _: Settings) -> AsyncIterator[Gateway]:
        link = PatientLink(self.link)
        await link.start()
        responder = Responder(self.source, self.store, link, self.clock, deadline_ms=60_000)
        yield Gateway(self.source, self.store, link, responder, self.ring, self.clock, self.explanations)
        await link.stop()

    @contextmanager
    def serving(self, api: ApiSettings | None = None, page: PageSettings | None = None) -> Iterator[str]:
        """Listening on a free port of 127.0.0.1 inside `with`; gives the URL."""
        settings = Settings(api=api or ApiSettings(), page=page or PageSettings())
        with served(build_api(settings, self.opened)) as self.url:
            yield self.url


@contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """The application listening on a free port of 127.0.0.1 inside `with`, in a thread; gives the URL."""
    with listen("127.0.0.1", 0) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, ws="none"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            deadline = time.monotonic() + 30
            while not server.started:
                if time.monotonic() > deadline or not thread.is_alive():
                    raise RuntimeError("the gateway did not start")
                time.sleep(0.01)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(timeout=30)
