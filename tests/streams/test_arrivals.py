"""Events on their way into states: columns that are made for many customers at once are those of each alone."""

from __future__ import annotations

from datetime import datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from streams.arrivals import Arrivals, arrivals_by_group, arrivals_of
from streams.columns import FIRST_TIME, LAST_TIME
from streams.events import EPOCH, EVENT_TYPES, Event, to_micros

moments = st.integers(FIRST_TIME, LAST_TIME).map(lambda n: EPOCH + timedelta(microseconds=n))
events = st.builds(
    Event,
    event_id=st.text(min_size=1, max_size=3),
    type=st.sampled_from(EVENT_TYPES),
    occurred_at=moments,
    customer_id=st.just("anna"),
    article_id=st.sampled_from(["hat", "top"]),
    price=st.none() | st.floats(-0.0, 1e6),
    quantity=st.integers(1, 65_535),
)


def shown(arrivals: Arrivals) -> tuple[object, ...]:
    """Types and bytes, so that nan equals nan and a zero with a sign none without."""
    columns = (arrivals.occurred_at, arrivals.keys, arrivals.types, arrivals.prices, arrivals.quantities)
    return *((column.dtype, column.tobytes()) for column in columns), list(arrivals.article_ids)


@given(groups=st.dictionaries(st.text(max_size=3), st.lists(events, max_size=4), max_size=5))
def test_many_at_once_are_each_alone(groups: dict[str, list[Event]]) -> None:
    found = arrivals_by_group(groups)
    assert list(found) == list(groups)
    assert {name: shown(part) for name, part in found.items()} == {
        name: shown(arrivals_of(group)) for name, group in groups.items()
    }


@given(moment=moments)
def test_microseconds_are_exact(moment: datetime) -> None:
    assert to_micros(moment) == (moment - EPOCH) // timedelta(microseconds=1)
    assert EPOCH + timedelta(microseconds=to_micros(moment)) == moment
