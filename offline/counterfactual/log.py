"""Logged bandit feedback: what was shown at which place, with what chance, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from infra.errors import DataError

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Log:
    """One row for each article shown at one place.

    Attributes:
        action: int64[n], the article, 0 to actions-1.
        position: int64[n], the place, 0 to positions-1.
        propensity: float64[n], the logging policy's chance of this article at this place for this visitor then, in
            (0, 1]. 1 says that nothing else could have stood there.
        reward: float64[n], what came of it: 1 for a click, a view, a purchase, else 0; or any finite number.
        unit: int64[n], whose rows are drawn together when the log is resampled: the visitor, or the row itself where
            nothing says who it was. 0 to units-1, each at least once.
        name: the file or topic, for errors.
    """

    action: Ints
    position: Ints
    propensity: Floats
    reward: Floats
    unit: Ints
    actions: int
    positions: int
    name: str

    def __len__(self) -> int:
        return len(self.action)

    @property
    def units(self) -> int:
        return int(np.max(self.unit)) + 1

    def take(self, rows: Flags) -> Log:
        """The rows of a mask bool[n], units numbered anew."""
        return Log(
            self.action[rows],
            self.position[rows],
            self.propensity[rows],
            self.reward[rows],
            np.unique(self.unit[rows], return_inverse=True)[1],
            self.actions,
            self.positions,
            self.name,
        )


def checked(log: Log) -> Log:
    """The log itself, if an estimate may be made of it.

    Raises:
        DataError: no rows, or the first row (from 0) whose propensity, reward, action or position cannot be.
    """
    if not len(log):
        raise DataError("no impressions; an estimate needs some", file=log.name)
    propensity, reward = log.propensity, log.reward
    chance = "allowed is above 0, up to 1: what was shown had a chance, and the weight is divided by it"
    wrong = (
        ("propensity", propensity, ~((propensity > 0) & (propensity <= 1)), chance),
        ("reward", reward, ~np.isfinite(reward), "allowed are finite numbers"),
        ("action", log.action, _outside(log.action, log.actions), f"allowed are 0 to {log.actions - 1}"),
        ("position", log.position, _outside(log.position, log.positions), f"allowed are 0 to {log.positions - 1}"),
    )
    for column, values, bad, allowed in wrong:
        if bad.any():
            row = int(np.argmax(bad))
            raise DataError(f"{values[row]}; {allowed}", file=log.name, column=column, row=row)
    return log


def _outside(values: Ints, size: int) -> Flags:
    return (values < 0) | (values >= size)
