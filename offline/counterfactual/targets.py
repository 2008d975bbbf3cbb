"""The policy that is judged: its chance of each logged article, and what it would expect of all of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from infra.errors import DataError
from offline.counterfactual.log import Floats, Ints, Log


class Target(Protocol):
    """A policy in terms of the rows of one log."""

    def chance(self, log: Log) -> Floats:
        """Its chance of the article that was shown, at that place, for that visitor then: float64[n]."""

    def mean_of(self, log: Log, rate: Floats) -> Floats:
        """The mean of rate (float64[actions]) over what it would show in each row: float64[n]."""


@dataclass(frozen=True, eq=False)
class Shares:
    """A policy that draws articles with known shares.

    share: float64[groups, actions], every row sums to 1 · group: int64[n], which of them holds in each row of the log
    (its position, its day).

    Raises:
        DataError: a row of shares is no distribution.
    """

    share: Floats
    group: Ints

    def __post_init__(self) -> None:
        off = ~((self.share >= 0).all(axis=1) & (np.abs(self.share.sum(axis=1) - 1) < 1e-6))
        if off.any():
            row = int(np.argmax(off))
            raise DataError(f"shares sum to {self.share[row].sum()}; a policy's are not negative and sum to 1", row=row)

    def chance(self, log: Log) -> Floats:
        return np.asarray(self.share[self.group, log.action], np.float64)

    def mean_of(self, log: Log, rate: Floats) -> Floats:
        del log
        return np.asarray((self.share @ rate)[self.group], np.float64)


@dataclass(frozen=True, eq=False)
class Listed:
    """A policy that always shows the same: article[i] int64[n] in row i's place, -1 where its list has ended.

    An empty place earns nothing.
    """

    article: Ints

    def chance(self, log: Log) -> Floats:
        return np.asarray(self.article == log.action, np.float64)

    def mean_of(self, log: Log, rate: Floats) -> Floats:
        del log
        return np.where(self.article >= 0, rate[self.article], 0.0)


def even(log: Log) -> Shares:
    """Every article with the same chance, at every place."""
    return Shares(np.full((1, log.actions), 1 / log.actions), np.zeros(len(log), np.int64))


def frequencies(log: Log, smoothing: float = 1.0) -> Floats:
    """How often each article stood at each place: float64[positions, actions], rows sum to 1.

    What a policy that looks at no visitor does on average over the time of the log, whatever it learns meanwhile.
    `smoothing` rows are added to each place in even shares, so that what happened not to be shown has a small chance
    (a symmetric Dirichlet prior of that total weight).
    """
    counts = np.zeros((log.positions, log.actions))
    np.add.at(counts, (log.position, log.action), 1.0)
    counts += smoothing / log.actions
    return np.asarray(counts / counts.sum(axis=1, keepdims=True), np.float64)
