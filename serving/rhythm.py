"""A customer's purchases as trips, and the rhythm of an article within them: what comes back, how often, and when next.

A trip is a distinct purchase time. Trips are numbered from 0, the newest, so "trips since" counts the customer's own
occasions rather than days: milk on every second trip is due after two, whether that takes a week or a month.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from serving.history import History
from streams.distinct import distinct

Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
NEVER = 1_000.0  # days (or trips, of which a state holds fewer)
# Longest that anything which did happen is said to be ago: the last float32 below NEVER.
LONGEST = float(np.nextafter(np.float32(NEVER), np.float32(0)))
LATELY = (5, 10)  # trips


@dataclass(frozen=True, eq=False, slots=True)
class Rhythm:
    """Groups (articles, or their categories) within trips, float64[groups] each.

    trips: how many trips had the group · newest, oldest: number of the newest and the oldest of them (0 = last trip) ·
    lately: float64[2, groups] how many of the last LATELY trips had it.
    """

    trips: Doubles
    newest: Doubles
    oldest: Doubles
    lately: Doubles


@dataclass(frozen=True, eq=False, slots=True)
class Trips:
    """days: float64[t] ages of the trips ascending · of: int64[n] the trip of each purchase."""

    days: Doubles
    of: Ints

    def __len__(self) -> int:
        return len(self.days)

    def rhythm(self, group: Ints, n_groups: int) -> Rhythm:
        """How `group` (int64[n], of each purchase) recurs over the trips."""
        none = np.zeros(n_groups)
        if not len(self.of):
            return Rhythm(none, none + NEVER, none, np.zeros((len(LATELY), n_groups)))
        pairs = distinct(group * len(self.days) + self.of)
        group, trip = pairs // len(self.days), (pairs % len(self.days)).astype(np.float64)
        newest, oldest = none + NEVER, none.copy()
        np.minimum.at(newest, group, trip)
        np.maximum.at(oldest, group, trip)
        lately = np.stack([np.bincount(group[trip < last], minlength=n_groups) for last in LATELY])
        counts = np.bincount(group, minlength=n_groups).astype(np.float64)
        return Rhythm(counts, newest, oldest, lately.astype(np.float64))


def trips_of(history: History) -> Trips:
    days = distinct(history.ages)
    return Trips(days, np.searchsorted(days, history.ages))


def happened(days: npt.NDArray[Any]) -> Doubles:
    """Days since something that did happen, or between two such things, so that it never reads as NEVER; float64."""
    return np.asarray(np.minimum(days, LONGEST), np.float64)


def interval(first: Doubles, last: Doubles, times: Doubles) -> Doubles:
    """Mean distance between `times` occasions from `first` to `last`; NEVER below two."""
    return np.where(times > 1, happened((first - last) / np.maximum(times - 1, 1)), NEVER)


def due(since: Doubles, usual: Doubles) -> Doubles:
    """log of the time since over the usual one, in [-4, 4]; 0 = due now, -4 where it never happened."""
    ratio = np.log((since + 0.5) / (usual + 0.5))
    return np.where(since >= NEVER, -4.0, np.clip(ratio, -4.0, 4.0))


def customer_rhythm(history: History, trips: Trips) -> tuple[float, ...]:
    """Seven numbers, equal for all candidates: log trips, of the last 30 days, days since the last, days between two,
    due, log basket size, share of distinct articles."""
    if not len(trips):
        return (0.0, 0.0, float(np.log1p(NEVER)), float(np.log1p(NEVER)), -4.0, 0.0, 0.0)
    days = trips.days
    last = happened(days[:1])
    between = interval(days[-1:], days[:1], np.array([float(len(trips))]))
    return (
        float(np.log1p(len(trips))),
        float(np.log1p((days < 30).sum())),
        float(np.log1p(last[0])),
        float(np.log1p(between[0])),
        float(due(last, between)[0]),
        float(np.log1p(len(history) / len(trips))),
        len(history.items) / len(history),
    )
