"""Requests and answers on the wire."""

from __future__ import annotations

import msgspec
import pytest

from infra.errors import InvalidMessage
from serving.messages import Item, Recommendations, encode_recommendations, parse_request


def test_a_short_request_has_defaults() -> None:
    request = parse_request(b'{"request_id":"r","customer_id":"anna"}')
    assert (request.k, request.strategy, request.filters.exclude_bought) == (12, "full", False)


def test_unknown_fields_are_ignored() -> None:
    assert parse_request(b'{"request_id":"r","customer_id":"anna","colour":"red"}').customer_id == "anna"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"{", "not a recommendation request"),
        (b"\xff\xfe", "not a recommendation request"),
        (b'{"request_id":"r"}', "customer_id"),
        (b'{"request_id":"r","customer_id":""}', "length >= 1"),
        (b'{"request_id":"r","customer_id":"anna","k":0}', ">= 1"),
        (b'{"request_id":"r","customer_id":"anna","k":201}', "<= 200"),
        (b'{"request_id":"r","customer_id":"anna","k":"12"}', "Expected `int`"),
        (
            b'{"request_id":"r","customer_id":"anna","strategy":"best"}',
            "allowed: full, hybrid, repurchase, variants, covisitation, popular, collab",
        ),
        (b'{"request_id":"r","customer_id":"anna","requested_at":"2026-11-21T12:00:00"}', "timezone"),
    ],
)
def test_a_bad_request_is_refused_with_what_is_allowed(body: bytes, said: str) -> None:
    with pytest.raises(InvalidMessage, match=said):
        parse_request(body)


def test_an_answer_survives_the_wire() -> None:
    answer = Recommendations(
        request_id="r", customer_id="anna", items=[Item(article_id="tea", rank=1, score=0.5, source="popular")]
    )
    assert msgspec.json.decode(encode_recommendations(answer), type=Recommendations) == answer
