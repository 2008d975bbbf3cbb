"""What was known at a cut: nothing that came later, and everybody in exactly one kind."""

from __future__ import annotations

import tempfile
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offline.backtest.known import Articles, Known
from tests.offline.backtest.toy_ledger import ARTICLES, CUT, Line, log_of

CUSTOMERS = [f"c{n}" for n in range(7)]
lines = st.lists(
    st.tuples(st.integers(-100, 20), st.sampled_from(CUSTOMERS[:-1]), st.sampled_from(list(ARTICLES)), st.just(1)),
    min_size=1,
    max_size=25,
)


def known_at(directory: Path, rows: list[Line], *days: float) -> Known:
    log = log_of(directory, rows, known_from={})
    known = Known(log, Articles.of(log))
    for day in days:
        known.advance(CUT + timedelta(days=day))
    return known


@settings(max_examples=15, deadline=None)
@given(rows=lines, days=st.integers(-30, 15))
def test_everyone_is_in_one_kind_and_the_way_to_a_cut_does_not_matter(rows: list[Line], days: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        at_once = known_at(Path(directory), rows, days)
        by_steps = known_at(Path(directory), rows, -90, -20, days) if days > -20 else at_once
        kinds = at_once.segments(CUSTOMERS)
        assert (np.sum(list(kinds.values()), axis=0) == 1).all()
        before = [row for row in rows if row[0] < days]
        recent = [row for row in before if row[0] >= days - 60]
        assert kinds["new"].tolist() == [c not in {row[1] for row in before} for c in CUSTOMERS]
        away = {row[1] for row in before} - {row[1] for row in recent}
        assert kinds["lapsed"].tolist() == [c in away for c in CUSTOMERS]
        active = {row[1] for row in recent}
        assert kinds["frequent"].sum() <= len(active) / 3
        for mine, theirs in zip(kinds.values(), by_steps.segments(CUSTOMERS).values(), strict=True):
            assert mine.tolist() == theirs.tolist()
        assert at_once.share().tolist() == by_steps.share().tolist()
        names = sorted(ARTICLES)
        assert at_once.ever_bought.tolist() == [a in {row[2] for row in before} for a in names]
        assert not (at_once.popular() & ~at_once.ever_bought).any()


def test_the_third_with_the_most_purchases_is_frequent(tmp_path: Path) -> None:
    rows: list[Line] = [(-1 - n, f"c{n}", "bag-1", 1) for n in range(6) for _ in range(n + 1)]
    kinds = known_at(tmp_path, rows, 0).segments(CUSTOMERS)
    assert np.flatnonzero(kinds["frequent"]).tolist() == [4, 5]
    assert np.flatnonzero(kinds["new"]).tolist() == [6]


def test_a_cut_does_not_go_back(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="what is known does not become unknown"):
        known_at(tmp_path, [(-1, "c0", "bag-1", 1)], 1, 0)
