"""The message on an article: what is taken, what is refused and with which words."""

from __future__ import annotations

import pytest

from infra.errors import InvalidMessage
from streams.catalog import (
    Article,
    ArticleVector,
    encode_article,
    encode_article_vector,
    parse_article,
    parse_article_message,
    parse_article_vector,
    vector_key,
)

HAT = Article(article_id="hat", price=9.5, title="Hat", colour="Red", available=False)


def test_what_is_written_is_read() -> None:
    assert parse_article(encode_article(HAT)) == HAT
    assert parse_article_message(b"hat", encode_article(HAT)) == HAT


def test_an_id_alone_says_that_the_article_is_there_and_unknown_fields_pass() -> None:
    read = parse_article(b'{"article_id":"hat","sizes":["S","M"],"schema_version":1}')
    assert read == Article(article_id="hat")
    assert read.available
    assert read.price is None


def test_a_message_without_a_value_takes_back() -> None:
    assert parse_article_message(b"hat", None) is None
    assert parse_article_message(b"hat", b"") is None


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        (b"hat", b"{not json", "not an article"),
        (b"hat", b'{"price":1}', "article_id"),
        (b"hat", b'{"article_id":"hat","price":-1}', "price"),
        (b"hat", b'{"article_id":"hat","price":1e300}', "at most 1000000000000"),
        (b"hat", b'{"article_id":"hat","available":"no"}', "available"),
        (b"hat", b'{"article_id":"hat","schema_version":2}', "version 1, which this code reads"),
        (b"hat", b'{"article_id":"hat","text":"' + b"x" * 5_000 + b'"}', "text"),
        (b"hat", b'{"article_id":"hat","more":"' + b"x" * 20_000 + b'"}', "at most 16384"),
        (b"cap", b'{"article_id":"hat"}', "'hat' under the key 'cap'"),
        (None, b'{"article_id":"hat"}', "keyed by their article_id"),
        (b"\xff", None, "not UTF-8"),
        (b"hat", b"\xff\xfe", "not an article"),
        (b"hat", b"[" * 10_000, "not an article"),
    ],
)
def test_what_is_no_article_is_refused_with_its_reason(key: bytes | None, value: bytes | None, says: str) -> None:
    with pytest.raises(InvalidMessage, match=says):
        parse_article_message(key, value)


def test_a_vector_stands_under_its_encoder_and_article() -> None:
    vector = ArticleVector(article_id="a/b", space="minilm-1", text="00", vector=b"\x00\x3c\x00\x00")
    raw = encode_article_vector(vector)
    assert parse_article_vector(vector_key("minilm-1", "a/b"), raw) == vector
    for key in (b"hat", vector_key("words-1", "a/b"), None):
        with pytest.raises(InvalidMessage, match="another's key"):
            parse_article_vector(key, raw)
    cut = encode_article_vector(ArticleVector(article_id="a", space="s", text="", vector=b"\x00\x3c\x00"))
    with pytest.raises(InvalidMessage, match="cut short"):
        parse_article_vector(b"s/a", cut)
