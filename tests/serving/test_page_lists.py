"""The page over a real bundle: a list without what the customer has, and what is there for those without JavaScript."""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx
import pytest

from tests.support.http_shop import HttpShop
from tests.support.tiny import article_number
from tests.support.tiny_fixture import Tiny

MINE = {article_number("top", 0), article_number("top", 1)}


@pytest.fixture(scope="module")
def url(tiny: Tiny) -> Iterator[str]:
    with HttpShop.of(tiny.runtime).serving() as url:
        yield url


def shown(url: str, **asked: str) -> list[str]:
    page = httpx.get(url, params={"customer": "anna", **asked})
    assert page.status_code == 200
    return re.findall(r'<li class="rec[^>]* data-article="(\d+)"', page.text)


def test_what_the_customer_has_is_hidden_where_asked(url: str) -> None:
    assert set(shown(url)) & MINE == MINE
    for address in (url, f"{url}/fragments/customer"):
        left = shown(address, hide="yes")
        assert left and not set(left) & MINE
    # A form sends the unchecked "no" before the checked "yes".
    both = httpx.get(url, params=[("customer", "anna"), ("hide", "no"), ("hide", "yes")]).text
    assert 'data-hide="yes"' in both and "checked> Hide what I have" in both
    assert httpx.get(url, params={"hide": "perhaps"}).status_code == 422


def test_words_are_searched_without_a_script(url: str) -> None:
    page = httpx.get(url, params={"customer": "anna", "q": "shoe 3"}).text
    assert "“shoe 3”" in page
    (first, *_) = re.findall(r'data-article="(\d+)" data-rank="1"', page)
    assert first == article_number("shoe", 3)
    assert 'aria-labelledby="found-title" hidden' in httpx.get(url, params={"customer": "anna", "q": "  "}).text


def test_customers_can_be_chosen_without_a_script(url: str) -> None:
    page = httpx.get(url).text
    assert 'href="/people"' in page and "<noscript>" in page
    people = httpx.get(f"{url}/people").text
    assert people.startswith("<!doctype html>") and 'href="/?customer=anna"' in people
    assert not httpx.get(f"{url}/fragments/people").text.startswith("<!doctype")
