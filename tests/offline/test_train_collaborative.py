"""Collaborative factors: what they learn, that serving solves the same problem, and that the future is not seen."""

from __future__ import annotations

import numpy as np
import pytest

from offline.train_collaborative import CollaborativeConfig, train_collaborative
from serving.history import history_of
from serving.retrieval.collaborative import Factors
from tests.offline.toy_log import CUT_US, Line, bought, histories_of, items_of, viewed

ARTICLES = ("tea", "cup", "nail", "saw", "new")
ITEMS = items_of(*ARTICLES)
TEA, CUP, NAIL, SAW, NEW = range(5)
CONFIG = CollaborativeConfig(dim=2, iterations=15, confidence=10.0, regularization=0.1, interest_days=50.0)


def camps(customers: int = 20) -> list[Line]:
    """Half of the customers live on tea and cups, the other half on nails and saws; some look at the other side."""
    lines = []
    for n in range(customers):
        one, other = ("tea", "cup") if n % 2 else ("nail", "saw")
        lines += [bought(3 + n, f"c{n:02d}", one), bought(40 + 2 * n, f"c{n:02d}", other)]
        if n % 5 == 0:
            lines.append(viewed(2, f"c{n:02d}", "tea"))
    return lines


def train(lines: list[Line], config: CollaborativeConfig = CONFIG, seed: int = 1) -> Factors:
    return train_collaborative(histories_of(lines), ITEMS, CUT_US, config, seed=seed)


def test_articles_of_the_same_people_come_to_lie_together() -> None:
    found = train(camps())
    assert found.items.shape == (5, 2)
    assert found.items.dtype == np.float32
    assert (found.confidence, found.regularization, found.interest_days) == (10.0, 0.1, 50.0)
    length = np.linalg.norm(found.items, axis=1)
    alike = found.items @ found.items.T / np.maximum(np.outer(length, length), 1e-9)
    assert min(alike[TEA, CUP], alike[NAIL, SAW]) > 0.9
    assert max(alike[TEA, NAIL], alike[TEA, SAW], alike[CUP, SAW]) < 0.5


def test_an_article_nobody_acted_on_has_no_factors() -> None:
    assert train(camps()).items[NEW].tolist() == [0, 0]
    assert train([]).items.tolist() == [[0, 0]] * 5
    assert train([bought(1, "anna", "unknown")]).items.tolist() == [[0, 0]] * 5


def test_serving_folds_in_what_training_solved() -> None:
    """At the fixed point the articles' factors solve their half of the problem for the customers' folded in from their
    histories: both sides mean the same by confidence, fading and regularisation."""
    histories = histories_of(camps())
    found = train(camps(), CollaborativeConfig(2, 400, CONFIG.confidence, CONFIG.regularization, CONFIG.interest_days))
    past = [history_of(histories.state(c, CUT_US), ITEMS.index, CUT_US) for c in histories.customers]
    x = np.array([found.fold_in(history) for history in past], np.float64)
    confidence, preference = np.ones((len(past), 5)), np.zeros((len(past), 5))
    for row, history in enumerate(past):
        acted, interest = history.interest(CONFIG.interest_days)
        confidence[row, acted] = CONFIG.confidence * interest
        preference[row, acted] = 1.0
    for article in (TEA, CUP, NAIL, SAW):
        c = confidence[:, article]
        solved = np.linalg.solve(x.T * c @ x + CONFIG.regularization * np.eye(2), x.T @ (c * preference[:, article]))
        assert found.items[article] == pytest.approx(solved, rel=0.02, abs=0.01), ARTICLES[article]


def test_the_same_seed_gives_the_same_bits_and_another_does_not() -> None:
    one = train(camps()).items
    assert np.array_equal(one, train(camps()).items)
    assert not np.array_equal(one, train(camps(), seed=2).items)


@pytest.mark.parametrize(
    "planted",
    [
        [bought(0, "c00", "new")],
        [bought(-3, "c01", "new"), viewed(-1, "c04", "tea")],
        [bought(-1, "a-newcomer", "tea"), bought(-2, "z-newcomer", "new")],
        [bought(-1, "c00", "an article of the future")],
    ],
    ids=["at the cut", "after it", "customers of the future", "articles of the future"],
)
def test_the_future_changes_no_factor(planted: list[Line]) -> None:
    assert np.array_equal(train(camps()).items, train(planted + camps()).items)
    past = [(1.0, *line[1:]) for line in planted if line[2] != "an article of the future"]
    assert not past or not np.array_equal(train(camps()).items, train(past + camps()).items)  # the plant is real
