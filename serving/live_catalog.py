"""One bundle and what the topic `articles` says on top of it: the bundle's own articles come and go and change their
price, others join it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import msgspec
import numpy as np

from serving.article_texts import text_vectors
from serving.content_space import Floats, space_name
from serving.newcomers import Extender
from serving.runtime import Catalog, Runtime
from serving.shelf import Shelf
from serving.word_vectors import NAME, REVISION, WordVectors
from streams.catalog import Article

Changes = Mapping[str, Article | None]
# (encoder's space, article_id) -> its vector float32[d], None where nobody has published one.
Published = Callable[[str, str], Floats | None]

WORDS = space_name(NAME, REVISION)


def nothing_published(_space: str, _article_id: str) -> None:
    return None


class LiveCatalog:
    """Takes changes and gives what answers with all of them; what it gave before stays as it was. Not thread-safe.

    Content vectors of new articles: computed here where the bundle's texts were encoded by their words, else taken from
    those `published`, zero as long as there is none.
    """

    def __init__(self, runtime: Runtime, published: Published = nothing_published) -> None:
        self._runtime = runtime
        self._published = published
        self._catalog: Catalog = runtime.catalog
        self._extender = Extender(runtime.catalog)
        self._news: dict[str, tuple[Article, bytes]] = {}
        self._bundled = len(runtime.items)
        self._words = WordVectors()
        everything = Shelf.of(runtime.items)
        self._available, self._prices = everything.available, everything.prices.copy()

    @property
    def outdated(self) -> int:
        """Rows that stand for no article any more, since it says something else of itself."""
        return len(self._catalog.items) - self._bundled - len(self._news)

    def apply(self, changes: Changes) -> tuple[Runtime, Shelf]:
        """Take the changes: article_id to its newest message, None where it was taken back."""
        self._extend(changes)
        items = self._catalog.items
        for article_id, article in changes.items():
            row = items.index.get(article_id)
            if row is not None:
                # An article that only the topic knew is gone with its message; one of the bundle's is as bundled.
                self._available[row] = row < self._bundled if article is None else article.available
                given = None if article is None else article.price
                self._prices[row] = items.prices[row] if given is None else given
        runtime = replace(self._runtime, catalog=self._catalog) if self._news else self._runtime
        return runtime, Shelf(self._available.copy(), self._prices.copy())

    def _extend(self, changes: Changes) -> None:
        """Rows for articles that the bundle does not know and that say something new of themselves."""
        index = self._catalog.items.index
        new: list[Article] = []
        for article_id, article in changes.items():
            row = index.get(article_id)
            if article is None or (row is not None and row < self._bundled):
                continue
            vector = self._published_vector(article_id)
            said = _facts(article), b"" if vector is None else vector.tobytes()
            if self._news.get(article_id) != said:
                self._news[article_id] = said
                new.append(article)
        if not new:
            return
        self._available[[index[article.article_id] for article in new if article.article_id in index]] = False
        self._catalog = self._extender.extend(self._catalog, new, self._content(new))
        self._available = np.concatenate([self._available, np.ones(len(new), np.bool_)])
        self._prices = np.concatenate([self._prices, self._catalog.items.prices[-len(new) :]])

    def _content(self, articles: list[Article]) -> Floats:
        space = self._runtime.content_space
        if space is None:
            return np.zeros((len(articles), self._catalog.content.shape[1]), np.float32)
        if space.encoder == WORDS:
            return space(text_vectors(articles, self._words, space.text_dim))
        texts = np.zeros((len(articles), space.text_dim), np.float32)
        for row, article in enumerate(articles):
            vector = self._published_vector(article.article_id)
            if vector is not None:
                texts[row] = vector
        return space(texts)

    def _published_vector(self, article_id: str) -> Floats | None:
        space = self._runtime.content_space
        if space is None or space.encoder == WORDS:
            return None
        vector = self._published(space.encoder, article_id)
        return vector if vector is not None and len(vector) == space.text_dim else None


def _facts(article: Article) -> Article:
    """What an article says of itself apart from stock and price, and from what is not read here."""
    return msgspec.structs.replace(article, available=True, price=None, image_url=None)
