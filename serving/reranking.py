"""Final order: what is pinned, then best score first, ties by row so that the order never depends on the machine. Under
caps a group that is full gives way to the next; diversity chooses among the best.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from serving.diversity import Spread

Ints = npt.NDArray[np.int64]
NONE: Ints = np.empty(0, np.int64)
STRIDE = 1_024


def order(scores: npt.NDArray[np.floating], rows: Ints, k: int) -> Ints:
    """Places of the best k candidates, int64[<= k]."""
    return np.lexsort((rows, -scores.astype(np.float64)))[:k]


@dataclass(frozen=True, eq=False, slots=True)
class Cap:
    """A list holds at most `most` rows of one group. groups: int[n] of every row of the catalogue, -1 where a row is of
    none and never capped."""

    name: str
    groups: npt.NDArray[np.int32] | Ints
    most: int


@dataclass(frozen=True, eq=False, slots=True)
class Arranged:
    """places: int64[<= k], as they are to be shown · capped: how many of the others each cap shut out, by its name."""

    places: Ints
    capped: dict[str, int] = field(default_factory=dict)


def arrange(
    ranked: Ints,
    rows: Ints,
    k: int,
    *,
    pinned: int = 0,
    caps: Sequence[Cap] = (),
    standing: Ints = NONE,
    spread: Spread | None = None,
) -> Arranged:
    """At most k of the candidates `rows`, int64[C], no more of a group than its cap.

    Args:
        ranked: places of the candidates, best first, int64[C].
        pinned: so many of `ranked` come before all others.
        standing: rows of the list that this one goes on, which count under the caps.
        spread: over the first of `ranked`, to choose among them by difference.
    """
    if not caps and spread is None:
        return Arranged(ranked[:k])
    room = _Room(rows, caps)
    for row in standing.tolist():
        room.take(row)
    chosen: list[int] = []
    for place in _turns(ranked, pinned, room, spread):
        if len(chosen) == k:
            break
        chosen.append(place)
        room.left[place] = False
        room.take(int(rows[place]))
    return Arranged(np.array(chosen, np.int64), room.capped)


class _Room:
    """What the caps leave room for. left: bool[C], the candidates that may still come."""

    def __init__(self, rows: Ints, caps: Sequence[Cap]) -> None:
        self.left = np.ones(len(rows), np.bool_)
        self.capped = {cap.name: 0 for cap in caps}
        self._groups = [(cap, cap.groups[rows], dict[int, int]()) for cap in caps]

    def take(self, row: int) -> None:
        for cap, groups, counts in self._groups:
            group = int(cap.groups[row])
            if group < 0:
                continue
            counts[group] = counts.get(group, 0) + 1
            if counts[group] == cap.most:
                shut = self.left & (groups == group)
                self.capped[cap.name] += int(shut.sum())
                self.left &= ~shut


def _turns(ranked: Ints, pinned: int, room: _Room, spread: Spread | None) -> Iterator[int]:
    """Who is asked next, while there is room for them."""
    if spread is not None:
        for n, place in enumerate(ranked[:pinned].tolist()):
            if room.left[place]:
                spread.put(n)
                yield place
        pool = ranked[: len(spread)]
        while (left := room.left[pool]).any():
            best = spread.next(left)
            spread.put(best)
            yield int(pool[best])
    for start in range(0, len(ranked), STRIDE):
        # Of many that caps have shut out, none is looked at one by one.
        places = ranked[start : start + STRIDE]
        for place in places[room.left[places]].tolist():
            if room.left[place]:
                yield place
