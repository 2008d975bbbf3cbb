"""Batches of whole customers for the ranker, most of what they did not buy left out at random."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from offline.examples import Examples

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Batch:
    """rows: int64[B] places in the examples · weights: float32[B] what each counts: the rows it stands for, times the
    weight of its customer."""

    rows: Ints
    weights: npt.NDArray[np.float32]


def keep_some(examples: Examples, share: float, rng: np.random.Generator) -> tuple[Ints, npt.NDArray[np.float32]]:
    """Every row with a label, and `share` of the others.

    Returns:
        int64[m] places ascending, float32[m] weights: 1 for a row with a label, 1 / share for another.
    """
    labelled: npt.NDArray[np.bool_] = np.any(examples.labels, axis=1)
    keep = np.flatnonzero(labelled | (rng.random(len(examples)) < share))
    return keep, np.where(labelled[keep], 1.0, 1.0 / share).astype(np.float32)


def customer_weights(examples: Examples) -> npt.NDArray[np.float32]:
    """What every row's customer counts, float32[n]: 1 over the root of the candidates bought, 1 where none was.

    Rows alone would let whoever fills a trolley outvote ten who come for milk; the metrics are means over customers.
    """
    starts, counts = spans(examples.group)
    bought = np.add.reduceat(examples.label("purchase"), starts) if len(starts) else np.empty(0, np.float32)
    return np.repeat(1.0 / np.sqrt(np.maximum(bought, 1.0)), counts).astype(np.float32)


def batches(examples: Examples, customers: int, share: float, rng: np.random.Generator) -> Iterator[Batch]:
    """Pass after pass without end: so many customers a batch, in random order, other negatives in each pass."""
    customer = customer_weights(examples)
    while len(examples):
        keep, weights = keep_some(examples, share, rng)
        weights = weights * customer[keep]
        starts, counts = spans(examples.group[keep])
        order = rng.permutation(len(starts))
        for first in range(0, len(order), customers):
            chosen = order[first : first + customers]
            count = counts[chosen]
            # Place within the own group, plus where the group starts.
            inside = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
            places = np.repeat(starts[chosen], count) + inside
            yield Batch(keep[places], weights[places])


def spans(group: Ints) -> tuple[Ints, Ints]:
    """(start, length) of each run of equal numbers."""
    if not len(group):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    starts = np.concatenate([[0], np.flatnonzero(np.diff(group)) + 1])
    return starts, np.diff(np.append(starts, len(group)))
