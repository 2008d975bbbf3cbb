"""What no feature may be, and what none may know."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.pipeline import retrieve
from serving.retrieval.candidates import Floats
from streams.bundle_contract import CUSTOMER, GROUP, ITEM, OWN
from streams.events import EVENT_TYPES, Event
from streams.state import CustomerState
from tests.serving.feature_rows import CATALOG, LOOKED, PAST, block, features
from tests.support.toy_catalog import IDS, TODAY, N, event, query, state

any_event = st.builds(
    lambda day, article, kind, price, n: event(day, article, type=kind, price=price, n=n),
    st.floats(0, 2 * TODAY, allow_subnormal=False),
    st.sampled_from([*IDS, "wine"]),
    st.sampled_from(EVENT_TYPES),
    st.none() | st.floats(0, 1e9),
    st.integers(1, 60_000),
)


@settings(max_examples=40)
@given(st.lists(any_event, max_size=20), st.sampled_from([None, "young"]), st.integers(1, 2_000))
def test_features_are_finite_whatever_happened(past: list[Event], segment: str | None, day: int) -> None:
    given = query(state(*past), segment=segment, day=day, given=CATALOG)
    (found,) = retrieve(CATALOG, [given])
    assert np.isfinite(CATALOG.features.build(given, found)).all()


@pytest.mark.parametrize("customer", [None, state(), state(event(90, "wine")), state(event(90, "apple", price=None))])
def test_features_are_finite_whatever_is_missing(customer: CustomerState | None) -> None:
    given = query(customer)
    (found,) = retrieve(CATALOG, [given])
    assert np.isfinite(CATALOG.features.build(given, found)).all()


purchases = st.lists(st.builds(event, st.integers(0, 99), st.sampled_from(IDS)), max_size=10)
looks = st.builds(
    lambda day, article, kind: event(day, article, type=kind),
    st.integers(0, 99),
    st.sampled_from(IDS[4:]),
    st.sampled_from(["view", "cart"]),
)


@settings(max_examples=40)
@given(purchases, st.lists(looks, max_size=6))
def test_looking_at_articles_changes_no_feature_of_what_was_bought(past: list[Event], seen: list[Event]) -> None:
    """But those of looking, at these articles, and those of retrieval, which answer to interest."""
    plain, looked = features(query(state(*past)), *IDS), features(query(state(*past, *seen)), *IDS)
    steady = [name for name in (*OWN, *GROUP, *ITEM, *CUSTOMER) if name not in LOOKED]
    for article in IDS:
        assert [plain[article][name] for name in steady] == [looked[article][name] for name in steady]
        if article not in {e.article_id for e in seen}:
            assert block(plain[article], LOOKED) == block(looked[article], LOOKED)
        else:
            assert block(plain[article], LOOKED) != block(looked[article], LOOKED)


@pytest.mark.parametrize(
    "planted", [event(TODAY, "hat", price=900.0), event(TODAY + 3, "bread", price=900.0)], ids=["now", "later"]
)
def test_a_planted_future_changes_no_feature(planted: Event) -> None:
    def build(*events: Event, day: float = TODAY) -> Floats:
        # The embedding is left out: the pipeline drops one that has seen the future.
        given = CATALOG.query(state(*events), np.ones(N, np.float32), None, query(None, day=day).history.as_of)
        (found,) = retrieve(CATALOG, [given])
        return CATALOG.features.build(given, found)

    assert np.array_equal(build(*PAST), build(*PAST, planted))
    assert not np.array_equal(build(*PAST, day=TODAY + 4), build(*PAST, planted, day=TODAY + 4))
