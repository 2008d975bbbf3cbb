"""The bundle in use with stock, prices and new articles of this moment on top: what every process that answers holds.

Reads the topics `articles` and `article-vectors` for itself, outside every group, so each process knows all of them.
What changes is built aside in a thread, at most PAUSE_S after the last time, and one reference is swapped; a request
sees one moment throughout. A bundle that comes into use has them from its first answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Collection

import numpy as np

from infra.bundle import Bundle
from infra.clock import Clock
from infra.compacted import CompactedTable
from infra.errors import BundleNotFound, InvalidMessage
from infra.follow import STAGGER_S, BundleFollower, Refusal
from infra.pauses import rest, unhurried
from infra.registry import Registry
from infra.settings import Settings
from serving.content_space import Floats
from serving.golden import open_runtime
from serving.live_catalog import Changes, LiveCatalog
from serving.pipeline import Pipeline
from serving.reload import Loaded
from serving.rules import ShopRules, shop_rules
from serving.runtime import Runtime
from streams.catalog import Article, parse_article_message, parse_article_vector, vector_key
from streams.topics import ARTICLE_VECTORS, ARTICLES

logger = logging.getLogger(__name__)

PAUSE_S = 0.25
# Every change of a new article's text leaves a row behind; beyond so many the catalogue is made anew.
MAX_OUTDATED = 10_000
PARSED_AT_ONCE = 500  # messages, about 1 ms
UNKNOWN_TOLD = 20  # names of rules that a warning lists


class _Live:
    """A bundle with what is laid over it; `loaded` is what answers, swapped whole."""

    def __init__(
        self,
        runtime: Runtime,
        catalog: LiveCatalog,
        clock: Clock,
        shop: ShopRules,
        articles: Changes,
        version: int,
    ) -> None:
        self.runtime = runtime
        self.catalog = catalog
        self.version = version
        self._clock = clock
        self._shop = shop
        self.loaded = self.apply(articles)

    def apply(self, changes: Changes) -> Loaded:
        runtime, shelf = self.catalog.apply(changes)
        pipeline = Pipeline(runtime, self._clock, shelf=shelf, shop=self._shop)
        self.loaded = Loaded(runtime.bundle_id, runtime, pipeline, shelf)
        return self.loaded


class LiveRuntime:
    """Gives what answers (`current`), follows the channel and the topics between `start` and `stop`.

    Raises:
        ConfigurationError: the rules of the settings name what articles do not have.
    """

    def __init__(self, settings: Settings, clock: Clock) -> None:
        registry = settings.registry
        self._clock = clock
        self._shop = shop_rules(settings.rules)
        self._articles = CompactedTable(settings.kafka, ARTICLES, _is_article, self._changed)
        self._vectors = CompactedTable(settings.kafka, ARTICLE_VECTORS, _is_vector, self._encoded)
        self._follower = BundleFollower(
            Registry(registry.url), registry.channel, self._open, stagger_s=STAGGER_S, taken=self._taken
        )
        self._waiting: set[bytes] = set()
        self._whole = False
        self._version = 0
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def current(self) -> Loaded:
        """What answers now.

        Raises:
            BundleNotFound: no bundle could be loaded yet; says why.
        """
        return self._follower.current.loaded

    @property
    def refusal(self) -> Refusal | None:
        """Why the bundle the channel names now is not the one in use; None when it is."""
        return self._follower.refusal

    async def start(self) -> None:
        """Read the topics, then load what the channel names; then follow both. Neither need be there yet."""
        await asyncio.gather(self._articles.start(), self._vectors.start())
        await self._follower.start()
        self._task = asyncio.create_task(self._refresh(), name="live-articles")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        await self._follower.stop()
        await asyncio.gather(self._articles.stop(), self._vectors.stop())

    async def refresh(self) -> bool:
        """Look at the channel now; True when another bundle came into use."""
        return await self._follower.refresh()

    def _open(self, bundle: Bundle) -> _Live:
        """In a thread: the bundle, after its golden cases, with all that the topic says of articles."""
        runtime = open_runtime(bundle)
        rest()
        if unknown := self._shop.unknown(runtime.items):
            logger.warning(
                "rules name what no article of bundle %s has, so they do nothing there: %s; is it misspelt?",
                runtime.bundle_id,
                ", ".join(unknown[:UNKNOWN_TOLD]),
            )
        return self._laid_over(runtime)

    def _laid_over(self, runtime: Runtime) -> _Live:
        version = self._version
        articles = _parsed(list(self._articles.table.items()))
        rest()
        return _Live(runtime, LiveCatalog(runtime, self._published), self._clock, self._shop, articles, version)

    def _laid_over_anew(self, runtime: Runtime) -> _Live:
        with unhurried():
            return self._laid_over(runtime)

    def _taken(self, live: _Live) -> None:
        if live.version != self._version:  # something came while it was made ready
            self._changed(None)

    def _changed(self, keys: Collection[bytes] | None) -> None:
        self._version += 1
        if keys is None:
            self._whole = True
        else:
            self._waiting.update(keys)
        self._wake.set()

    def _encoded(self, keys: Collection[bytes] | None) -> None:
        """A vector came: what its article says is looked at again."""
        known = self._articles.table
        self._changed(None if keys is None else {key for k in keys if (key := k.partition(b"/")[2]) in known})

    async def _refresh(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self._lay_over()
            except BundleNotFound:
                logger.debug("articles wait for a bundle")
            except Exception:  # what a message says must never end the answering
                logger.exception("stock, prices and new articles stay as they were")
            await asyncio.sleep(PAUSE_S)

    async def _lay_over(self) -> None:
        live = self._follower.current
        whole, self._whole = self._whole or live.catalog.outdated > MAX_OUTDATED, False
        keys, self._waiting = self._waiting, set()
        if whole:
            fresh = await asyncio.to_thread(self._laid_over_anew, live.runtime)
            live.catalog, live.loaded = fresh.catalog, fresh.loaded
        else:
            pairs = [(key, self._articles.table.get(key)) for key in keys]
            await asyncio.to_thread(lambda: live.apply(_parsed(pairs)))

    def _published(self, space: str, article_id: str) -> Floats | None:
        key = vector_key(space, article_id)
        value = self._vectors.table.get(key)
        if value is None:
            return None
        return np.frombuffer(parse_article_vector(key, value).vector, "<f2").astype(np.float32)


def _parsed(pairs: Collection[tuple[bytes, bytes | None]]) -> dict[str, Article | None]:
    """What accepted messages say, by article_id."""
    found: dict[str, Article | None] = {}
    for place, (key, value) in enumerate(pairs, start=1):
        found[key.decode()] = parse_article_message(key, value)
        if place % PARSED_AT_ONCE == 0:
            rest()
    return found


def _is_article(key: bytes | None, value: bytes | None) -> bool:
    """The worker dead-letters what is refused here."""
    try:
        parse_article_message(key, value)
    except InvalidMessage:
        return False
    return True


def _is_vector(key: bytes | None, value: bytes | None) -> bool:
    try:
        if value:
            parse_article_vector(key, value)
    except InvalidMessage:
        return False
    return bool(key)
