"""Histories as questions for the two-tower: what does this customer buy in the next basket?

Events of one moment are a basket, a set: its articles are answers to one question and never part of each other's past.
Questions that overlap are read off one pass over a window of events, each at the position where its history ends.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from offline.histories import item_column
from serving.items import ItemTable
from streams.encoder import MICROS_A_DAY
from streams.events import PURCHASE
from streams.histories import Histories

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Sequences:
    """Events of known articles by customer in time order.

    item: int64[n] · time: int64[n] microseconds · start: int64[n] first row of the customer · basket: int64[n] first
    row of the basket · target: bool[n], an answer (a purchase) and not only past.
    """

    item: Ints
    time: Ints
    start: Ints
    basket: Ints
    target: Bools


def sequences(histories: Histories, items: ItemTable, cut: int) -> Sequences:
    """Events of every type before `cut` (microseconds), as the query encoder reads them from a live state."""
    column = item_column(histories, items)
    use = (column >= 0) & (histories.occurred_at < cut)
    return by_customer(
        column[use], histories.occurred_at[use], histories.customer_rows[use], histories.types[use] == PURCHASE
    )


def by_customer(item: Ints, time: Ints, customer: Ints, target: Bools) -> Sequences:
    """Sequences out of columns that are sorted by (customer, time)."""
    rows = np.arange(len(item))
    new_customer = np.r_[True, customer[1:] != customer[:-1]][: len(item)]
    new_basket = new_customer | np.r_[True, time[1:] != time[:-1]][: len(item)]
    start = np.maximum.accumulate(np.where(new_customer, rows, 0))
    basket = np.maximum.accumulate(np.where(new_basket, rows, 0))
    return Sequences(item, time, start, basket, target)


@dataclass(frozen=True, eq=False)
class Questions:
    """Baskets with an answer and a past: rows [first, until) of each, its past ends before `first`; int64[q] both."""

    first: Ints
    until: Ints

    def __len__(self) -> int:
        return len(self.first)

    def take(self, which: Ints) -> Questions:
        return Questions(self.first[which], self.until[which])


def questions(data: Sequences, since: int) -> Questions:
    """All questions whose basket is not older than `since` (microseconds)."""
    first = np.flatnonzero(data.basket == np.arange(len(data.item)))
    if not len(first):
        return Questions(first, first)
    until = np.append(first[1:], len(data.item))
    answered = np.add.reduceat(data.target, first) > 0
    use = answered & (first > data.start[first]) & (data.time[first] >= since)
    return Questions(first[use], until[use])


def draw(
    data: Sequences, asked: Questions, answers: int, now: int, recency_days: float, rng: np.random.Generator
) -> Questions:
    """Questions with about `answers` answers between them, each basket drawn with weight exp(-age / recency_days)."""
    age = (now - data.time[asked.first]) / MICROS_A_DAY
    # Smallest exponential waiting times = weighted sampling without replacement (Efraimidis and Spirakis 2006).
    order = np.argsort(np.log(rng.exponential(size=len(asked))) + age / recency_days)
    total = np.cumsum((asked.until - asked.first)[order])
    return asked.take(np.sort(order[: np.searchsorted(total, answers) + 1]))


@dataclass(frozen=True, eq=False)
class Batch:
    """Windows of B customers, right-aligned to L events, and the questions asked of them, at most P of one window.

    item: int64[B, L] · gaps: float32[B, L] log1p of days before the window's newest event · mask: float32[B, L] ·
    positions: int64[B, P] where each question's history ends, 0 where a window has fewer · window, place: int64[Q] of
    each question among the positions · question, answer: int64[T] articles that are right.
    """

    item: Ints
    gaps: Floats
    mask: Floats
    positions: Ints
    window: Ints
    place: Ints
    question: Ints
    answer: Ints


def batches(
    data: Sequences, asked: Questions, length: int, stride: int, answers: int, rng: np.random.Generator
) -> list[Questions]:
    """Split questions into steps of about `answers` answers, those of one window together and windows of like length
    beside each other, in random order.

    Windows start every `stride` events, so a question sees at least `length - stride` events of its past.
    """
    start = data.start[asked.first]
    tile = (asked.first - 1 - start) // stride
    _, window = np.unique(np.stack([start, tile]), axis=1, return_inverse=True)
    window = window.reshape(-1)
    n = int(np.max(window)) + 1
    size = np.zeros(n, np.int64)
    np.maximum.at(size, window, np.minimum(asked.first - start, length))
    order = np.lexsort((rng.random(n), size))
    weight = np.bincount(window, asked.until - asked.first, minlength=n)[order]
    step = np.empty(n, np.int64)
    step[order] = (np.cumsum(weight) - weight) // answers
    of_question = step[window]
    by_step = np.argsort(of_question, kind="stable")
    parts = np.split(by_step, np.flatnonzero(np.diff(of_question[by_step])) + 1)
    return [asked.take(parts[n]) for n in rng.permutation(len(parts))]


def assemble(data: Sequences, asked: Questions, length: int, stride: int) -> Batch:
    """The arrays of one step; `asked` in the order of rows."""
    start = data.start[asked.first]
    keys = np.stack([start, (asked.first - 1 - start) // stride])
    _, window = np.unique(keys, axis=1, return_inverse=True)
    window = window.reshape(-1)
    n = int(np.max(window)) + 1
    end, begin = np.zeros(n, np.int64), np.zeros(n, np.int64)
    np.maximum.at(end, window, asked.first)
    begin[window] = start
    begin = np.maximum(begin, end - length)
    width = int(np.max(end - begin))
    rows = end[:, None] - np.arange(width, 0, -1)
    valid = rows >= begin[:, None]
    rows = np.maximum(rows, 0)
    days = (data.time[end - 1][:, None] - data.time[rows]) / MICROS_A_DAY
    gaps = np.where(valid, np.log1p(np.maximum(days, 0)), 0).astype(np.float32)
    position = width - (end[window] - asked.first) - 1
    # Of two baskets so near in time that float32 holds one gap for both, the first would see the second.
    after = np.minimum(position + 1, width - 1)
    apart = (position == width - 1) | (gaps[window, position] != gaps[window, after])
    kept, window, position = asked.take(np.flatnonzero(apart)), window[apart], position[apart]
    # Questions are in the order of rows, so those of a window stand together.
    place = np.arange(len(kept)) - np.searchsorted(window, window)
    positions = np.zeros((n, int(place.max(initial=0)) + 1), np.int64)
    positions[window, place] = position
    question, row = spans(kept.first, kept.until)
    right = data.target[row]
    return Batch(
        np.where(valid, data.item[rows], 0),
        gaps,
        valid.astype(np.float32),
        positions,
        window,
        place,
        question[right],
        data.item[row[right]],
    )


def spans(first: Ints, until: Ints) -> tuple[Ints, Ints]:
    """(owner, row) of every row of the ranges [first, until)."""
    size = until - first
    owner = np.repeat(np.arange(len(first)), size)
    return owner, np.arange(size.sum()) - np.repeat(np.cumsum(size) - size, size) + first[owner]
