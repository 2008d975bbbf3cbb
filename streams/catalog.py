"""What the shop says of an article now: whether it can be had, for how much, and what it is.

One message an article on the compacted topic `articles`, keyed by article_id; the last one counts, and a message
without a value takes it back. JSON as the events are: unknown fields are ignored so that producers may add them, newer
majors are refused so that nothing is misread.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from infra.errors import InvalidMessage
from streams.events import MAX_PRICE, Id
from streams.versions import Reader, first_major

ARTICLE_VERSION = 1
VECTOR_VERSION = 1
# Every process that answers keeps the messages of all articles.
MAX_ARTICLE_BYTES = 16_384

MAX_KEY_BYTES = 512  # an id of the longest, in four-byte characters

Fact = Annotated[str, msgspec.Meta(max_length=4_096)]


class Article(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One article. `price` is in the shop's currency a piece, None where it is as the bundle knows it. Facts have the
    names of the articles that bundles learn from; those of an article that the bundle knows change with the next
    bundle, those of any other count at once.
    """

    article_id: Id
    schema_version: int = msgspec.field(default_factory=first_major)
    available: bool = True
    price: Annotated[float, msgspec.Meta(ge=0)] | None = None
    product_code: Fact | None = None
    title: Fact | None = None
    department: Fact | None = None
    category: Fact | None = None
    subcategory: Fact | None = None
    brand: Fact | None = None
    colour: Fact | None = None
    text: Fact | None = None
    image_url: Fact | None = None


_read = Reader(Article, "an article", ARTICLE_VERSION, MAX_ARTICLE_BYTES)
_encoder = msgspec.json.Encoder()


def parse_article(raw: bytes) -> Article:
    """Decode and check one article.

    Raises:
        InvalidMessage: not JSON, too large, a field missing or out of range, newer schema version.
    """
    article = _read(raw)
    if article.price is not None and not article.price <= MAX_PRICE:
        raise InvalidMessage(f"price {article.price}; at most {MAX_PRICE:.0f} is allowed", column="price")
    return article


def parse_article_message(key: bytes | None, value: bytes | None) -> Article | None:
    """The article of a message, None where the message takes it back. Every reader of the topic takes and refuses the
    same messages by it.

    Raises:
        InvalidMessage: not an article, or a key that is another's: the topic would keep the wrong one.
    """
    if not key or len(key) > MAX_KEY_BYTES:
        raise InvalidMessage(f"a key of {len(key or b'')} bytes; articles are keyed by their article_id")
    try:
        article_id = key.decode()
    except UnicodeDecodeError as error:
        raise InvalidMessage(f"the key is not UTF-8: {error}") from error
    if not value:
        return None
    article = parse_article(value)
    if article.article_id != article_id:
        raise InvalidMessage(
            f"article_id {article.article_id!r} under the key {article_id!r}; they must be equal", column="article_id"
        )
    return article


class ArticleVector(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What an encoder says of an article's text, for articles that came after the bundle in use: on the compacted topic
    `article-vectors`, keyed by `vector_key`.

    space: name and revision of the encoder; vectors of two never meet · text: digest of what was encoded · vector:
    little-endian float16 of the unit vector.
    """

    article_id: Id
    space: Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
    text: str
    vector: Annotated[bytes, msgspec.Meta(min_length=2, max_length=8_192)]
    schema_version: int = msgspec.field(default_factory=first_major)


_read_vector = Reader(ArticleVector, "an article vector", VECTOR_VERSION)


def vector_key(space: str, article_id: str) -> bytes:
    return f"{space}/{article_id}".encode()


def parse_article_vector(key: bytes | None, value: bytes) -> ArticleVector:
    """Decode and check one vector.

    Raises:
        InvalidMessage: not a vector, or under another's key.
    """
    vector = _read_vector(value)
    if len(vector.vector) % 2 or vector_key(vector.space, vector.article_id) != key:
        raise InvalidMessage(f"the vector of {vector.article_id!r} is cut short, or stands under another's key")
    return vector


def encode_article_vector(vector: ArticleVector) -> bytes:
    return _encoder.encode(vector)


def encode_article(article: Article) -> bytes:
    return _encoder.encode(article)
