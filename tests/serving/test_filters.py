"""No answer holds an article that the request forbids, wherever the article came from."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.errors import InvalidMessage
from serving.filters import check_filters
from serving.items import ATTRIBUTES, COLUMNS
from serving.messages import STRATEGIES, Filters, RecommendationRequest
from streams.store import StoredCustomer
from tests.support.toy_catalog import ARTICLES, IDS, N, ask, event, pipeline, state

BY_ID = {row[0]: dict(zip(COLUMNS, row, strict=True)) for row in ARTICLES}
VALUES = {name: sorted({str(row[name]) for row in BY_ID.values() if row[name]}) for name in ATTRIBUTES}

prices = st.none() | st.sampled_from([0.0, 1.0, 1.5, 2.0, 5.0, 5.5, 15.0, 100.0, 1e300])


@st.composite
def filters(draw: st.DrawFn) -> Filters:
    low, high = draw(prices), draw(prices)
    if low is not None and high is not None and low > high:
        low, high = high, low
    attributes = {
        name: draw(st.lists(st.sampled_from([*VALUES[name], "Nowhere"]), max_size=4, unique=True))
        for name in draw(st.lists(st.sampled_from(ATTRIBUTES), max_size=2, unique=True))
    }
    return Filters(exclude_bought=draw(st.booleans()), attributes=attributes, min_price=low, max_price=high)


def may_be_shown(article: str, request: RecommendationRequest, bought: set[str]) -> bool:
    """The rule in plain words, apart from the code that keeps it."""
    about: dict[str, Any] = BY_ID[article]
    if article in request.exclude or (request.filters.exclude_bought and article in bought):
        return False
    if any(about[name] not in values for name, values in request.filters.attributes.items()):
        return False
    low, high = request.filters.min_price, request.filters.max_price
    if (low is not None or high is not None) and about["price"] is None:
        return False
    return (low is None or about["price"] >= low) and (high is None or about["price"] <= high)


@pytest.mark.parametrize("depth", [1, 100], ids=["one candidate a source", "all candidates"])
@given(
    bought=st.lists(st.sampled_from(IDS), max_size=10),
    wanted=filters(),
    exclude=st.lists(st.sampled_from([*IDS, "wine"]), max_size=4),
    k=st.integers(1, N + 2),
    strategy=st.sampled_from(STRATEGIES),
    top=st.integers(1, N),
)
def test_only_what_is_allowed_and_as_much_as_there_is(
    depth: int, bought: list[str], wanted: Filters, exclude: list[str], k: int, strategy: str, top: int
) -> None:
    request = ask(filters=wanted, exclude=exclude, k=k, strategy=strategy)
    customer = StoredCustomer(state(*(event(10 + n, article) for n, article in enumerate(bought))), 1)
    # With few candidates the popular fill has to make up for them.
    (answer,) = pipeline(top=top, depth=depth).recommend([request], [customer])
    given_ids = [item.article_id for item in answer.items]
    allowed = {article for article in IDS if may_be_shown(article, request, set(bought))}
    assert answer.error is None
    assert answer.degraded == []
    assert set(given_ids) <= allowed
    assert len(set(given_ids)) == len(given_ids) == min(k, len(allowed))
    assert [item.rank for item in answer.items] == list(range(1, len(given_ids) + 1))
    scores = [item.score for item in answer.items]
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (Filters(attributes={"size": ["M"]}), "filter on size; articles have department, category, subcategory, brand"),
        (Filters(min_price=3.0, max_price=2.0), "min_price 3.0 is above max_price 2.0"),
    ],
)
def test_filters_that_cannot_work_are_refused(wrong: Filters, message: str) -> None:
    with pytest.raises(InvalidMessage, match=message):
        check_filters(ask(filters=wrong))


def test_limits_that_meet_are_allowed() -> None:
    request = ask(filters=Filters(min_price=5.0, max_price=5.0))
    check_filters(request)
    (answer,) = pipeline().recommend([request], [None])
    assert [item.article_id for item in answer.items] == ["socks"]
