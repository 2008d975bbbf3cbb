"""What goes with what a customer acted on: sums and largest weights by hand, and files that are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infra.errors import BundleError
from serving.history import INTEREST
from serving.retrieval.covisitation import CoVisitation, Neighbours
from streams.events import VIEW
from tests.support.toy_catalog import IDS, N, event, neighbours, query, state

MONTH, TWO_MONTHS = float(np.exp(-30 / 60)), float(np.exp(-60 / 60))


def related(*past: Any) -> dict[str, tuple[float, float]]:
    """(sum, largest) by article."""
    rows, summed, largest = neighbours().of(query(state(*past)).history)
    assert (np.diff(rows) > 0).all()
    assert (rows.dtype, summed.dtype, largest.dtype) == (np.int64, np.float32, np.float32)
    return {IDS[row]: (s, m) for row, s, m in zip(rows.tolist(), summed.tolist(), largest.tolist(), strict=True)}


def test_sum_and_largest_of_interest_times_weight() -> None:
    found = related(event(70, "bread"), event(40, "milk"))
    assert {a: s for a, (s, _) in found.items()} == pytest.approx(
        {
            "bread": 0.25 * TWO_MONTHS,  # by milk
            "milk": 0.5 * MONTH,  # by bread
            "cheese": 0.25 * MONTH + 0.5 * TWO_MONTHS,  # by both
        }
    )
    assert {a: m for a, (_, m) in found.items()} == pytest.approx(
        {"bread": 0.25 * TWO_MONTHS, "milk": 0.5 * MONTH, "cheese": max(0.25 * MONTH, 0.5 * TWO_MONTHS)}
    )


def test_interest_in_one_article_counts_once_at_most() -> None:
    often = related(*(event(99 + n / 100, "bread") for n in range(10)))
    assert often == {"milk": (0.5, 0.5), "cheese": (0.25, 0.25)}
    twice_long_ago = related(event(40, "bread"), event(39.9999, "bread"))
    assert twice_long_ago["milk"][0] == pytest.approx(0.5 * 2 * TWO_MONTHS, rel=1e-4)


def test_a_view_says_less_than_a_purchase() -> None:
    found = related(event(70, "bread", type="view"))
    assert found["milk"][0] == pytest.approx(INTEREST[VIEW] * 0.5 * MONTH)


@pytest.mark.parametrize("past", [(), (event(90, "hat"),), (event(90, "wine"),)], ids=["nothing", "alone", "unknown"])
def test_nothing_goes_with_an_article_without_neighbours(past: tuple[Any, ...]) -> None:
    assert related(*past) == {}


def test_the_source_gives_the_best_sums() -> None:
    anna = query(state(event(70, "bread"), event(40, "milk")))
    (rows, scores), (none, _) = CoVisitation().retrieve([anna, query(None)], 2)
    assert [IDS[row] for row in rows] == ["cheese", "milk"]
    assert scores.tolist() == pytest.approx([0.25 * MONTH + 0.5 * TWO_MONTHS, 0.5 * MONTH])
    assert none.tolist() == []


def test_comes_back_from_disk(tmp_path: Path) -> None:
    written = neighbours()
    written.save(tmp_path / "covisitation.npz")
    read = Neighbours.load(tmp_path / "covisitation.npz", N)
    for name in ("start", "items", "weights"):
        one, other = getattr(read, name), getattr(written, name)
        assert one.dtype == other.dtype
        assert np.array_equal(one, other)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": None}, "covisitation.npz lacks weights"),
        ({"start": None, "items": None}, "covisitation.npz lacks items, start"),
        ({"start": neighbours().start[:-1]}, "holds neighbours of 7 items, items.parquet 8 rows"),
        ({"items": neighbours().items[:-1]}, "covisitation.npz holds"),
        ({"weights": neighbours().weights[:-1]}, "covisitation.npz holds"),
        ({"items": neighbours().items + N - 3}, "covisitation.npz names row 11 of 8 items"),
    ],
)
def test_files_that_do_not_fit_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    given = neighbours()
    arrays = {"start": given.start, "items": given.items, "weights": given.weights} | changes
    np.savez(tmp_path / "covisitation.npz", **{name: a for name, a in arrays.items() if a is not None})
    with pytest.raises(BundleError, match=message):
        Neighbours.load(tmp_path / "covisitation.npz", N)


def test_a_file_without_any_neighbour_is_fine(tmp_path: Path) -> None:
    neighbours({}).save(tmp_path / "covisitation.npz")
    assert len(Neighbours.load(tmp_path / "covisitation.npz", N).items) == 0
