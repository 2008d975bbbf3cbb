"""Totals: exact to the cent, and the same in any order."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from streams.totals import LIMIT, NO_TOTALS, Totals, price_micros, totals_of

totals = st.builds(
    lambda sums, first, span: Totals(*(tuple(row) for row in sums), first, first + span),
    st.lists(st.lists(st.integers(0, LIMIT), min_size=3, max_size=3), min_size=3, max_size=3),
    st.integers(0, 2**60),
    st.integers(0, 2**60),
) | st.just(NO_TOTALS)


def test_columns_by_hand() -> None:
    found = totals_of(
        np.array([5, 5, 9], np.int64),
        np.array([0, 1, 0], np.uint8),
        np.array([19.99, np.nan, 0.05083], np.float32),
        np.array([1, 3, 65_535], np.uint16),
    )
    assert found == Totals((2, 1, 0), (65_536, 3, 0), (19_990_000 + 50_830, 0, 0), 5, 9)
    assert len(found) == 3


# Above 131,072.00 float32 knows no single cents.
@given(cents=st.integers(0, 13_107_200))
def test_cents_are_counted_to_the_cent(cents: int) -> None:
    assert price_micros(np.array([cents / 100], np.float32)).tolist() == [cents * 10_000]


def test_sums_of_the_greatest_prices_do_not_overflow() -> None:
    n = 20
    found = totals_of(np.arange(n), np.zeros(n, np.uint8), np.full(n, 1e12, np.float32), np.full(n, 65_535, np.uint16))
    assert found.spent == (LIMIT, 0, 0)  # 20 x 1e18 is more than 64 bits hold


@given(one=totals, two=totals, three=totals)
def test_adding_knows_no_order(one: Totals, two: Totals, three: Totals) -> None:
    assert (one + two) + three == one + (two + three)
    assert one + two == two + one
    assert one + NO_TOTALS == one
