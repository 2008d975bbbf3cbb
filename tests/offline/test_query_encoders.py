"""Query encoders see what came before and nothing else, whatever the padding and the order within a basket."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from offline.models.query_encoders import PoolingEncoder, TransformerEncoder, everywhere, last, relations

DIM, LENGTH = 8, 10
torch.manual_seed(5)
ENCODERS = {
    "pooling": PoolingEncoder(DIM, n_queries=3).eval(),
    "transformer": TransformerEncoder(DIM, heads=2, blocks=2, dropout=0.5).eval(),
}
with torch.no_grad():
    for name, weights in ENCODERS["transformer"].named_parameters():
        if name.endswith("time"):  # zero at first: time would not matter to the tests
            weights.normal_(std=0.7)

both = pytest.mark.parametrize("encoder", ENCODERS.values(), ids=ENCODERS.keys())


def history(days_ago: list[float], seed: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """One customer's unit vectors, ages and mask, oldest first."""
    rng = np.random.default_rng(seed)
    items = rng.normal(size=(1, len(days_ago), DIM)).astype(np.float32)
    items /= np.linalg.norm(items, axis=2, keepdims=True)
    gaps = np.log1p(np.array([days_ago], np.float32))
    return torch.from_numpy(items), torch.from_numpy(gaps), torch.ones(1, len(days_ago))


def padded(items: Tensor, gaps: Tensor, mask: Tensor, n: int) -> tuple[Tensor, Tensor, Tensor]:
    pad = torch.nn.functional.pad
    return pad(items, (0, 0, n, 0)), pad(gaps, (n, 0)), pad(mask, (n, 0))


def every(encoder: PoolingEncoder | TransformerEncoder, items: Tensor, gaps: Tensor, mask: Tensor) -> Tensor:
    return encoder.at(items, gaps, mask, torch.arange(items.shape[1]).unsqueeze(0))


BASKETS = [40.0, 40.0, 12.0, 9.0, 9.0, 9.0, 1.0, 0.0, 0.0]  # five baskets of 2, 1, 3, 1 and 2 events
ENDS = [1, 2, 5, 6, 8]


def test_relations_by_hand() -> None:
    gaps = torch.log1p(torch.tensor([[0.0, 3.0, 3.0, 0.0]]))  # padding, then a basket of two, then one of one
    to = relations(gaps, torch.tensor([[0.0, 1.0, 1.0, 1.0]]), everywhere)
    assert to.visible[0].tolist() == [
        [False, False, False, False],
        [False, True, True, False],
        [False, True, True, False],
        [False, True, True, True],
    ]
    assert to.steps[0, 3].tolist()[1:] == [1.0, 1.0, 0.0]
    assert to.age[0, 3].tolist()[1:] == pytest.approx([np.log(4), np.log(4), 0.0])
    newest = relations(gaps, torch.tensor([[0.0, 1.0, 1.0, 1.0]]), last)
    assert torch.equal(newest.visible[0, 0], to.visible[0, 3])
    assert torch.equal(newest.age[0, 0], to.age[0, 3])


@both
@torch.no_grad()
def test_each_position_is_what_serving_gives_a_history_that_ends_there(
    encoder: PoolingEncoder | TransformerEncoder,
) -> None:
    items, gaps, mask = history(BASKETS)
    found = every(encoder, items, gaps, mask)
    for end in ENDS:
        newest = BASKETS[end]
        then = torch.log1p(torch.tensor([[day - newest for day in BASKETS[: end + 1]]]))
        assert encoder(items[:, : end + 1], then, mask[:, : end + 1])[0].numpy() == pytest.approx(
            found[0, end].numpy(), abs=1e-5
        )


@both
@given(changed=st.integers(0, len(BASKETS) - 1), seed=st.integers(2, 50))
@settings(max_examples=25, deadline=None)
@torch.no_grad()
def test_a_later_event_changes_no_earlier_vector(
    encoder: PoolingEncoder | TransformerEncoder, changed: int, seed: int
) -> None:
    items, gaps, mask = history(BASKETS)
    other = items.clone()
    other[0, changed] = history(BASKETS, seed)[0][0, changed]
    before, after = every(encoder, items, gaps, mask)[0], every(encoder, other, gaps, mask)[0]
    first = BASKETS.index(BASKETS[changed])
    assert torch.equal(before[:first], after[:first])
    assert not torch.allclose(before[changed], after[changed], atol=1e-4)


@both
@torch.no_grad()
def test_events_of_one_basket_may_change_places(encoder: PoolingEncoder | TransformerEncoder) -> None:
    items, gaps, mask = history(BASKETS)
    swapped = items[:, [1, 0, 2, 5, 3, 4, 6, 8, 7]]
    assert encoder(swapped, gaps, mask).numpy() == pytest.approx(encoder(items, gaps, mask).numpy(), abs=1e-5)
    moved = items[:, [0, 2, 1, 3, 4, 5, 6, 7, 8]]  # across baskets: another history
    assert not torch.allclose(encoder(moved, gaps, mask), encoder(items, gaps, mask), atol=1e-4)


@both
@torch.no_grad()
def test_padding_on_the_left_changes_nothing(encoder: PoolingEncoder | TransformerEncoder) -> None:
    items, gaps, mask = history(BASKETS)
    wide = padded(items, gaps, mask, 7)
    assert encoder(*wide).numpy() == pytest.approx(encoder(items, gaps, mask).numpy(), abs=1e-5)
    wide[0][0, :7] = 3.0  # nor does what stands in the padding
    assert encoder(*wide).numpy() == pytest.approx(encoder(items, gaps, mask).numpy(), abs=1e-5)
    found = every(encoder, items, gaps, mask).numpy()
    assert every(encoder, *wide)[:, 7:].numpy() == pytest.approx(found, abs=1e-5)


@both
@torch.no_grad()
def test_nothing_but_padding_is_finite_and_time_matters(encoder: PoolingEncoder | TransformerEncoder) -> None:
    empty = encoder(torch.zeros(2, LENGTH, DIM), torch.zeros(2, LENGTH), torch.zeros(2, LENGTH))
    assert torch.isfinite(empty).all()
    items, gaps, mask = history(BASKETS)
    vector = encoder(items, gaps, mask)
    assert vector.norm().item() == pytest.approx(1.0, abs=1e-5)
    assert not torch.allclose(vector, encoder(items, gaps * 2, mask), atol=1e-4)
