"""`modiste offline encode-articles`: vectors of articles that are newer than the bundle in use, onto `article-vectors`.

Needed where a bundle's texts were encoded by a network, which processes that answer do not carry. They compute word
vectors themselves; for such a bundle there is nothing to do here. Else the network is opened with the bundle, since
that takes longer than an article may wait.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow.parquet as pq

from infra.bundle import Bundle
from infra.compacted import CompactedTable
from infra.errors import BundleError, BundleNotFound, ConfigurationError, InvalidMessage, Unavailable
from infra.follow import BundleFollower
from infra.kafka import Producer, backoff_s, ensure_topics
from infra.registry import Registry
from infra.settings import Settings
from offline.content.encoders import Encoder, open_encoder
from serving.article_texts import text_digest, text_vectors
from serving.content_space import ContentSpace, space_name
from serving.live_catalog import WORDS
from streams.bundle_contract import check_contract
from streams.catalog import (
    Article,
    ArticleVector,
    encode_article_vector,
    parse_article_message,
    parse_article_vector,
    vector_key,
)
from streams.topics import ARTICLE_VECTORS, ARTICLES, topic_specs

logger = logging.getLogger(__name__)

AT_ONCE = 64
PAUSE_S = 0.25


@dataclass(frozen=True)
class Texts:
    """What a bundle says of its texts: the articles it knows, the space of their encoder and what opens it."""

    known: frozenset[str]
    space: str
    dim: int
    spec: str
    max_tokens: int

    @classmethod
    def of(cls, bundle: Bundle) -> Texts:
        """Raises:
        BundleError: it was made for other code, or does not say by what its texts were encoded.
        """
        check_contract(bundle)
        given = bundle.manifest.config.get("content", {})
        if not isinstance(given.get("text"), str) or not isinstance(given.get("max_tokens"), int):
            raise BundleError(f"bundle {bundle.bundle_id}: its config names no encoder of texts")
        known = pq.read_table(bundle.file("items.parquet"), columns=["article_id"])["article_id"].to_pylist()
        dim = np.load(bundle.file("content_vectors.npy"), mmap_mode="r", allow_pickle=False).shape[-1]
        space = ContentSpace.load(bundle.file("content_space.npz"), dim)
        return cls(frozenset(known), space.encoder, space.text_dim, given["text"], given["max_tokens"])

    @cached_property
    def encoder(self) -> Encoder:
        """Opened once; heavy libraries are imported by it.

        Raises:
            ConfigurationError: it cannot be had here, or is another one.
        """
        encoder = open_encoder(self.spec, self.max_tokens)
        given = space_name(encoder.name, encoder.revision)
        if given != self.space:
            raise ConfigurationError(
                f"the bundle's texts were encoded by {self.space}, here there is {given}: new articles would meet "
                "vectors of another kind. Build the bundle on a machine like this one, or encode on one like its own"
            )
        return encoder


class ArticleEncoding:
    """Follows the channel and the topic `articles`; publishes what is missing."""

    def __init__(self, settings: Settings) -> None:
        self._kafka = settings.kafka
        self._follower = BundleFollower(
            Registry(settings.registry.url), settings.registry.channel, Texts.of, taken=lambda _: self._changed(None)
        )
        self._articles = CompactedTable(settings.kafka, ARTICLES, _is_article, self._changed)
        self._vectors = CompactedTable(settings.kafka, ARTICLE_VECTORS, _is_vector, lambda _: None)
        self._producer = Producer(settings.kafka, linger_ms=5)
        self._waiting: set[bytes] = set()
        self._whole = True
        self._wake = asyncio.Event()

    async def run(self, *, once: bool) -> int:
        """Until cancelled; with `once`, until all that is there now is encoded. Returns how many were published.

        Raises:
            BrokerUnavailable, ConfigurationError: at the start; `once` also later. BundleNotFound: with `once`, no
                bundle.
        """
        await ensure_topics(self._kafka, topic_specs(self._kafka))
        await asyncio.gather(self._articles.start(), self._vectors.start())
        try:
            async with self._producer:
                await self._follower.start()
                return await self._encode_all() if once else await self._follow()
        finally:
            await self._follower.stop()
            await asyncio.gather(self._articles.stop(), self._vectors.stop())

    def _changed(self, keys: Collection[bytes] | None) -> None:
        if keys is None:
            self._whole = True
        else:
            self._waiting.update(keys)
        self._wake.set()

    async def _follow(self) -> int:
        attempt = published = 0
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                published += await self._encode_all()
                attempt = 0
                await asyncio.to_thread(self._open)
            except BundleNotFound as error:
                logger.info("waiting for a bundle: %s", error)
            except ConfigurationError as error:
                logger.error("new articles go without content: %s", error)
            except Unavailable as error:
                logger.warning("trying again: %s", error)
                self._changed(None)
                await asyncio.sleep(backoff_s(attempt, base_s=0.5))
                attempt += 1
            await asyncio.sleep(PAUSE_S)

    def _open(self) -> None:
        texts = self._follower.current
        if texts.space != WORDS:
            _ = texts.encoder

    async def _encode_all(self) -> int:
        texts = self._follower.current
        whole, self._whole = self._whole, False
        keys, self._waiting = self._waiting, set()
        if texts.space == WORDS:
            return 0
        table = self._articles.table
        missing = self._missing(texts, list(table) if whole else [key for key in keys if key in table])
        for first in range(0, len(missing), AT_ONCE):
            await self._encode(texts, missing[first : first + AT_ONCE])
        if missing:
            logger.info("%d vectors of new articles published, by %s", len(missing), texts.space)
        return len(missing)

    def _missing(self, texts: Texts, keys: Sequence[bytes]) -> list[Article]:
        """Articles that the bundle does not know and whose text has no vector of its encoder."""
        found = []
        for key in keys:
            article = parse_article_message(key, self._articles.table.get(key))
            if article is None or article.article_id in texts.known:
                continue
            place = vector_key(texts.space, article.article_id)
            value = self._vectors.table.get(place)
            if value is None or parse_article_vector(place, value).text != text_digest(article):
                found.append(article)
        return found

    async def _encode(self, texts: Texts, articles: Sequence[Article]) -> None:
        vectors = await asyncio.to_thread(
            lambda: text_vectors(articles, texts.encoder.encode_text, texts.dim).astype("<f2")
        )
        made = [
            ArticleVector(
                article_id=article.article_id, space=texts.space, text=text_digest(article), vector=vector.tobytes()
            )
            for article, vector in zip(articles, vectors, strict=True)
        ]
        await self._producer.send_many(
            (ARTICLE_VECTORS, vector_key(v.space, v.article_id), encode_article_vector(v)) for v in made
        )


def _is_article(key: bytes | None, value: bytes | None) -> bool:
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
