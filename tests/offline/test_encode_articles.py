"""Articles newer than a bundle get the vectors of its encoder, once, and only those."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from infra.bundle import Bundle
from infra.compacted import CompactedTable
from infra.errors import BundleError, ConfigurationError
from infra.kafka import Producer, TopicSpec, ensure_topics
from infra.settings import KafkaSettings, RegistrySettings, Settings
from offline.content.encoders import Encoder
from offline.encode_articles import ArticleEncoding, Texts
from serving.word_vectors import WordVectors
from streams.catalog import Article, encode_article, parse_article_vector
from tests.support.remade import remade
from tests.support.tiny_fixture import Tiny

SPACE = "counting-1"


class Counting:
    """Word vectors under another name, so that nobody takes them for what serving computes itself."""

    name, revision, dim, sees_images = "counting", "1", 256, False

    def __init__(self) -> None:
        self.texts: list[str] = []

    def encode_text(self, texts: Sequence[str]) -> np.ndarray:
        self.texts += texts
        return WordVectors()(texts)


@pytest.mark.broker
async def test_what_is_new_is_encoded_once(
    kafka_url: str, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = uuid.uuid4().hex[:8]
    articles, vectors = f"articles-{run}", f"vectors-{run}"
    encoder = Counting()
    real = Texts.of

    def by_network(bundle: Any) -> Texts:
        found = real(bundle)
        assert found.space == "words-1"
        return Texts(found.known, SPACE, found.dim, found.spec, found.max_tokens)

    monkeypatch.setattr("offline.encode_articles.ARTICLES", articles)
    monkeypatch.setattr("offline.encode_articles.ARTICLE_VECTORS", vectors)
    monkeypatch.setattr("offline.encode_articles.topic_specs", lambda _: [])
    monkeypatch.setattr("offline.encode_articles.open_encoder", lambda *_: encoder)
    monkeypatch.setattr(Texts, "of", by_network)
    kafka = KafkaSettings(url=kafka_url)
    settings = Settings(kafka=kafka, registry=RegistrySettings(url=tiny.registry_url))
    await ensure_topics(kafka, [TopicSpec(name, 2, compacted=True) for name in (articles, vectors)])
    known = tiny.runtime.items.article_ids[0]

    async def tell(*given: Article) -> int:
        async with Producer(kafka) as producer:
            await producer.send_many((articles, a.article_id.encode(), encode_article(a)) for a in given)
        return await ArticleEncoding(settings).run(once=True)

    cap = Article(article_id="cap", title="Cap", colour="Red")
    assert await tell(cap, Article(article_id=known, title="Not its title")) == 1
    assert sorted(encoder.texts) == ["Cap", "Red"]
    # Stock and price say nothing new; another text does.
    assert await tell(Article(article_id="cap", title="Cap", colour="Red", available=False, price=2.0)) == 0
    assert await tell(Article(article_id="cap", title="Cap", colour="Blue")) == 1
    table = CompactedTable(kafka, vectors, lambda *_: True, lambda _: None)
    await table.start()
    try:
        ((key, value),) = table.table.items()
    finally:
        await table.stop()
    vector = parse_article_vector(key, value)
    assert (vector.space, vector.article_id) == (SPACE, "cap")
    found = np.frombuffer(vector.vector, "<f2").astype(np.float32)
    title, colour = WordVectors()(["Cap", "Blue"])
    wanted = (title + 0.5 * colour) / np.linalg.norm(title + 0.5 * colour)
    assert found == pytest.approx(wanted, abs=1e-3)


def test_another_encoder_than_the_bundle_s_is_refused(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder: Encoder = Counting()
    monkeypatch.setattr("offline.encode_articles.open_encoder", lambda *_: encoder)
    texts = Texts.of(tiny.bundle)
    with pytest.raises(ConfigurationError, match="encoded by words-1, here there is counting-1"):
        _ = texts.encoder


def test_a_bundle_that_names_no_encoder_or_is_of_other_code_is_refused(tiny: Tiny, tmp_path: Path) -> None:
    silent = Bundle(tiny.bundle.path, msgspec.structs.replace(tiny.bundle.manifest, config={}))
    with pytest.raises(BundleError, match="names no encoder of texts"):
        Texts.of(silent)
    other = remade(tiny.bundle, tmp_path, lambda copy: (copy / "features.json").write_text('{"hash": "0123"}'))
    with pytest.raises(BundleError, match=rf"{other.bundle_id} was trained on features 0123"):
        Texts.of(other)
