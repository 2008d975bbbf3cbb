"""Two-tower training: what it may see, what it learns on a shop of two camps, and that it repeats."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch

from infra.errors import DataError
from offline.models.two_tower import TwoTower
from offline.sequences import Sequences, sequences
from offline.train_retrieval import (
    N_WORDS,
    TowerConfig,
    item_inputs,
    item_vectors,
    new_two_tower,
    train_two_tower,
)
from tests.offline.toy_log import CUT_US, DAY, Line, bought, histories_of, items_of, viewed

ARTICLES = ("tea", "cup", "nail", "saw")
ITEMS = items_of(*ARTICLES)
INPUTS = item_inputs(ITEMS)
TEA, CUP, NAIL, SAW = range(4)
LOG = [
    bought(9, "anna", "tea"),
    bought(9, "anna", "cup"),
    bought(4, "anna", "tea"),
    bought(6, "bert", "nail"),
    bought(2, "bert", "saw"),
    bought(2, "bert", "unknown"),
    viewed(1, "bert", "tea"),
]
FUTURE = [
    bought(0, "anna", "saw"),
    bought(-1, "anna", "nail"),
    bought(-2, "dora", "tea"),
    bought(-2, "bert", "an article of the future"),
]
CONFIG = TowerConfig(examples=500, epochs=6, batch=64, negatives=8, dim=8, learning_rate=2e-2)


def test_sequences_are_known_articles_by_customer_and_basket() -> None:
    found = sequences(histories_of(LOG), ITEMS, CUT_US)
    assert sorted(found.item[:2].tolist()) == [TEA, CUP]
    assert found.item[2:].tolist() == [TEA, NAIL, SAW, TEA]
    assert found.start.tolist() == [0, 0, 0, 3, 3, 3]
    assert found.basket.tolist() == [0, 0, 2, 3, 4, 5]  # tea and cup are one basket: neither is the other's past
    assert ((CUT_US - found.time) / DAY).tolist() == [9, 9, 4, 6, 2, 1]
    assert found.target.tolist() == [True] * 5 + [False]  # a view is past, as in a live state, and no answer


def test_sequences_end_before_the_cut() -> None:
    def seen(lines: list[Line]) -> Sequences:
        return sequences(histories_of(lines), ITEMS, CUT_US)

    plain, planted = seen(LOG), seen(FUTURE + LOG)
    for name in ("item", "time", "start", "basket", "target"):
        assert np.array_equal(getattr(plain, name), getattr(planted, name)), name
    assert len(seen([bought(0, "anna", "tea")]).item) == 0
    assert len(seen([]).item) == 0


def test_the_same_word_has_the_same_row_everywhere() -> None:
    words = item_inputs(items_of("tea cup", "Tea", "")).words
    assert words[0, 0] == words[1, 0] == 1_281  # crc32 of "tea", whatever the process
    assert words[0, 1] > 0
    assert words[1, 1:].tolist() == [0] * 7
    assert (words >= 0).all()
    assert (words < N_WORDS).all()


def camps(customers: int = 40) -> list[Line]:
    """Half of the customers live on tea and cups, the other half on nails and saws."""
    lines = []
    for n in range(customers):
        pair = ("tea", "cup") if n % 2 else ("nail", "saw")
        lines += [bought(60 - 5 * trip, f"c{n:02d}", pair[(trip + n // 2) % 2]) for trip in range(10)]
    return lines


def trained(lines: list[Line], seed: int = 3) -> TwoTower:
    model = new_two_tower(INPUTS, CONFIG, seed)
    train_two_tower(model, INPUTS, histories_of(lines), ITEMS, CUT_US, CONFIG, seed=seed)
    return model


@pytest.fixture(scope="module")
def vectors() -> npt.NDArray[np.float32]:
    return item_vectors(trained(camps()), INPUTS)


def test_articles_bought_by_the_same_people_come_to_lie_together(vectors: npt.NDArray[np.float32]) -> None:
    alike = vectors @ vectors.T
    assert min(alike[TEA, CUP], alike[NAIL, SAW]) > max(alike[TEA, NAIL], alike[TEA, SAW], alike[CUP, SAW]) + 0.3


def test_vectors_are_unit_rows_whatever_the_chunk(vectors: npt.NDArray[np.float32]) -> None:
    assert vectors.shape == (4, 8)
    assert vectors.dtype == np.float32
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(4), abs=1e-5)
    model = new_two_tower(INPUTS, CONFIG, 1)
    assert item_vectors(model, INPUTS, chunk=3) == pytest.approx(item_vectors(model, INPUTS), abs=1e-6)


def test_the_same_seed_gives_the_same_bits_and_another_does_not(vectors: npt.NDArray[np.float32]) -> None:
    assert np.array_equal(item_vectors(trained(camps()), INPUTS), vectors)
    assert not np.array_equal(item_vectors(trained(camps(), seed=4), INPUTS), vectors)


def test_the_future_changes_no_weight(vectors: npt.NDArray[np.float32]) -> None:
    planted = [bought(-n / 10, f"c{n:02d}", "tea") for n in range(40)]
    assert np.array_equal(item_vectors(trained(planted + camps()), INPUTS), vectors)


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [bought(3, "anna", "tea")],  # nobody has a past to predict from
        [bought(400, "anna", "tea"), bought(300, "anna", "cup")],  # older than the `days` that are learned from
    ],
)
def test_with_nothing_to_learn_from_the_weights_stay(lines: list[Line]) -> None:
    fresh = new_two_tower(INPUTS, CONFIG, 3)
    after = trained(lines)
    for one, other in zip(fresh.state_dict().values(), after.state_dict().values(), strict=True):
        assert torch.equal(one, other)


def test_an_unsold_article_lands_near_its_kind_through_its_content() -> None:
    """Two articles nobody bought: one looks like tea and cup, the other like nail and saw; titles say nothing."""
    items = items_of(*ARTICLES, "new-a", "new-b")
    looks = np.array([[1, 0.1], [1, -0.1], [-1, 0.1], [-1, -0.1], [1, 0], [-1, 0]], np.float32)
    inputs = item_inputs(items, looks / np.linalg.norm(looks, axis=1, keepdims=True))
    model = new_two_tower(inputs, CONFIG, 3)
    train_two_tower(model, inputs, histories_of(camps()), items, CUT_US, CONFIG, seed=3)
    alike = item_vectors(model, inputs) @ item_vectors(model, inputs).T
    unsold_a, unsold_b = 4, 5
    assert alike[unsold_a, [TEA, CUP]].min() > alike[unsold_a, [NAIL, SAW]].max() + 0.3
    assert alike[unsold_b, [NAIL, SAW]].min() > alike[unsold_b, [TEA, CUP]].max() + 0.3


def test_content_of_another_catalogue_is_refused() -> None:
    with pytest.raises(DataError, match=r"content vectors have shape \(3, 2\), but there are 4 articles"):
        item_inputs(ITEMS, np.zeros((3, 2), np.float32))


def test_an_article_without_content_adds_nothing() -> None:
    inputs = item_inputs(ITEMS, np.eye(4, 3, dtype=np.float32))
    model = new_two_tower(inputs, CONFIG, 3).eval()
    with torch.no_grad():
        blank = model.item_encoder(*item_inputs(ITEMS).rows(torch.arange(4)))
        seen = model.item_encoder(*inputs.rows(torch.arange(4)))
    assert torch.equal(blank[SAW], seen[SAW])  # row 3 of eye(4, 3) is zero
    assert not torch.allclose(blank[TEA], seen[TEA])
