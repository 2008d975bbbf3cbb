"""A customer's factors are solved from live state: by hand, by the normal equations, and as the library solves them."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from infra.errors import BundleError
from serving.history import INTEREST
from serving.retrieval.candidates import Floats
from serving.retrieval.collaborative import Collaborative, Factors
from streams.events import VIEW
from tests.support.toy_catalog import (
    CONFIDENCE,
    FACTORS,
    IDS,
    INTEREST_DAYS,
    REGULARIZATION,
    N,
    event,
    factors,
    query,
    state,
)


def fade(age: float) -> float:
    return float(np.exp(-age / 60))


def test_one_purchase_by_hand() -> None:
    """x = yc / (Y'Y + y²(c - 1) + reg) for food, nothing for wear."""
    c = 2 * fade(10)
    x = query(state(event(90, "rolls"))).factors
    assert x == pytest.approx([0.75 * c / (1.875 + 0.75**2 * (c - 1) + 1), 0])
    assert x.dtype == np.float32


def test_two_purchases_and_a_view_by_hand() -> None:
    twice, seen = 2 * (fade(10) + fade(40)), 2 * INTEREST[VIEW] * fade(5)
    x = query(state(event(90, "bread"), event(60, "bread"), event(95, "shirt", type="view"))).factors
    food = twice / (1.875 + (twice - 1) + 1)
    wear = 0.75 * seen / (1.8125 + 0.75**2 * (seen - 1) + 1)
    assert x == pytest.approx([food, wear])


def test_factors_that_mix_by_the_normal_equations() -> None:
    """Hu, Koren, Volinsky (4): x = (Y'CY + reg I)^-1 Y'Cp with the whole confidence matrix written out."""
    rng = np.random.default_rng(4)
    items = rng.normal(size=(N, 3)).astype(np.float32)
    history = query(state(event(90, "milk"), event(70, "hat"), event(97, "milk", type="cart"))).history
    acted, interest = history.interest(20.0)
    confidence = np.ones(N)
    confidence[acted] = 7.0 * interest
    preference = np.isin(np.arange(N), acted).astype(float)
    y = items.astype(np.float64)
    expected = np.linalg.solve(y.T @ np.diag(confidence) @ y + 0.5 * np.eye(3), y.T @ (confidence * preference))
    assert Factors(items, 7.0, 0.5, 20.0).fold_in(history) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_a_fold_in_is_what_the_training_library_gives_the_same_customer(seed: int) -> None:
    from implicit.cpu.als import AlternatingLeastSquares

    rng = np.random.default_rng(seed)
    articles = rng.choice(N, 4, replace=False).tolist()
    past = [event(float(rng.uniform(1, 99)), IDS[a], type=rng.choice(["purchase", "view"])) for a in articles]
    mine = factors_of(rng.normal(size=(N, 4)).astype(np.float32))
    history = query(state(*past)).history
    acted, interest = history.interest(mine.interest_days)
    row = sparse.csr_matrix((mine.confidence * interest, (np.zeros(len(acted), int), acted)), shape=(1, N))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # its advice on BLAS threads
        model = AlternatingLeastSquares(factors=4, regularization=mine.regularization, num_threads=1)
    model.item_factors = mine.items
    (expected,) = np.atleast_2d(model.recalculate_user(0, row.astype(np.float32)))
    assert np.abs(expected).max() > 0.01
    assert mine.fold_in(history) == pytest.approx(expected, rel=1e-3, abs=1e-5)


def factors_of(items: Floats) -> Factors:
    return Factors(items, confidence=5.0, regularization=2.0, interest_days=60.0)


@pytest.mark.parametrize(
    "past", [(), (event(90, "apple"),), (event(90, "wine"),)], ids=["nothing", "never bought by anybody", "unknown"]
)
def test_nothing_known_is_zero(past: tuple[Any, ...]) -> None:
    anna = query(state(*past))
    assert anna.factors.tolist() == [0, 0]
    ((rows, _),) = Collaborative(factors()).retrieve([anna], 3)
    assert rows.tolist() == []


def test_the_source_ranks_by_the_product_of_factors() -> None:
    anna = query(state(event(90, "hat")))
    ((rows, scores),) = Collaborative(factors()).retrieve([anna], 3)
    assert [IDS[row] for row in rows] == ["socks", "shirt", "hat"]
    wear = float(anna.factors[1])
    assert scores.tolist() == pytest.approx([wear, 0.75 * wear, 0.5 * wear], rel=2e-3)
    assert Collaborative(factors()).score(anna, np.array([0, 6])) == pytest.approx([0, 0.75 * wear])


@given(st.lists(st.tuples(st.integers(0, 99), st.sampled_from(IDS)), max_size=30))
def test_a_fold_in_is_finite_and_bounded(past: list[tuple[int, str]]) -> None:
    """What minimises the loss is no worse than nothing at all: reg |x|² <= sum of confidence x 1²."""
    anna = query(state(*(event(day, article) for day, article in past)))
    _, interest = anna.history.interest(INTEREST_DAYS)
    assert np.isfinite(anna.factors).all()
    assert REGULARIZATION * float(anna.factors @ anna.factors) <= CONFIDENCE * interest.sum() + 1e-4


def test_comes_back_from_disk(tmp_path: Path) -> None:
    factors().save(tmp_path / "collaborative.npz")
    read = Factors.load(tmp_path / "collaborative.npz", N)
    assert np.array_equal(read.items, FACTORS)
    assert (read.confidence, read.regularization, read.interest_days) == (2.0, 1.0, 60.0)
    history = query(state(event(90, "rolls"))).history
    assert np.array_equal(read.fold_in(history), factors().fold_in(history))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"items": FACTORS}, "collaborative.npz lacks settings"),
        ({}, "collaborative.npz lacks items, settings"),
        ({"items": FACTORS[:5], "settings": np.ones(3)}, r"factors of shape \(5, 2\), items.parquet 8 rows"),
        ({"items": FACTORS, "settings": np.ones(2)}, r"settings of shape \(2,\), not confidence and two more"),
        ({"items": FACTORS[:, 0], "settings": np.ones(3)}, r"factors of shape \(8,\), items.parquet 8 rows"),
    ],
)
def test_files_that_do_not_fit_are_refused(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    np.savez(tmp_path / "collaborative.npz", **arrays)
    with pytest.raises(BundleError, match=message):
        Factors.load(tmp_path / "collaborative.npz", N)
