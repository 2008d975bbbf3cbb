"""Histories that grow are those that are read at once."""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from offline.histories import extended
from offline.sources.base import EVENT_SCHEMA
from streams.histories import Histories, build_histories

START = datetime(2020, 1, 1, tzinfo=UTC)

# Hour, customer, article, and an id that may come again.
rows = st.lists(
    st.tuples(st.integers(0, 9), st.sampled_from("cab"), st.sampled_from(["x", "y", "z"]), st.integers(0, 12)),
    max_size=30,
)


def table(lines: list[tuple[int, str, str, int]]) -> pa.Table:
    return pa.Table.from_pylist(
        [
            {
                "event_id": str(number),
                "type": "purchase",
                "occurred_at": START + timedelta(hours=hour),
                "customer_id": customer,
                "article_id": article,
                "price": float(hour),
                "quantity": 1,
                "sales_channel_id": None,
            }
            for hour, customer, article, number in lines
        ],
        schema=EVENT_SCHEMA,
    )


def columns(histories: Histories) -> dict[str, object]:
    values = {field.name: getattr(histories, field.name) for field in fields(histories)}
    return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in values.items()}


@given(lines=rows, cuts=st.lists(st.integers(0, 10), max_size=3))
def test_grown_by_parts_they_are_those_of_all_events(lines: list[tuple[int, str, str, int]], cuts: list[int]) -> None:
    """Parts follow each other in time; an id that a customer has had already counts no second time."""
    lines = sorted(lines, key=lambda line: line[0])
    grown = build_histories([])
    edges = [0, *sorted(cuts), 10]
    for first, last in pairwise(edges):
        grown = extended(grown, build_histories([table([line for line in lines if first <= line[0] < last])]))
    assert columns(grown) == columns(build_histories([table(lines)]))
