"""Distinct values are numpy's own."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from hypothesis import given
from hypothesis.extra.numpy import array_shapes, arrays, integer_dtypes

from streams.distinct import distinct


def test_each_once_and_ascending() -> None:
    assert distinct(np.array([3, 1, 3, -2, 1])).tolist() == [-2, 1, 3]
    assert distinct(np.empty(0, np.int32)).tolist() == []


@given(arrays(integer_dtypes(endianness="="), array_shapes(max_dims=2, min_side=0, max_side=40)))
def test_like_numpy_and_the_given_stays_as_it_is(values: npt.NDArray[np.int64]) -> None:
    before = values.copy()
    found = distinct(values)
    assert found.dtype == values.dtype
    assert np.array_equal(found, np.unique(values))
    assert np.array_equal(values, before)
