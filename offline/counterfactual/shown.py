"""Impressions by their names: who was shown what, where and when; and the log that they make with rewards."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from offline.counterfactual.log import Flags, Floats, Ints, Log
from offline.counterfactual.targets import Listed

Names = npt.NDArray[np.object_]


@dataclass(frozen=True, eq=False)
class Shown:
    """One row for each article shown at one place; rows of one request stand together.

    request, customer, article: ids, object[n] · position: int64[n] from 0 · propensity: float64[n], 1 where the place
    was not left to chance · shown_at: int64[n] microseconds.
    """

    request: Names
    customer: Names
    article: Names
    position: Ints
    propensity: Floats
    shown_at: Ints

    def __len__(self) -> int:
        return len(self.request)

    def take(self, rows: Flags) -> Shown:
        return Shown(
            self.request[rows],
            self.customer[rows],
            self.article[rows],
            self.position[rows],
            self.propensity[rows],
            self.shown_at[rows],
        )


def as_log(shown: Shown, reward: Floats, name: str, articles: Names | None = None) -> Log:
    """A log in which articles are numbered as in `articles` (object[m], sorted), by default those that were shown;
    its units are the customers. Not checked yet.
    """
    known = np.unique(shown.article) if articles is None else articles
    return Log(
        action=np.searchsorted(known, shown.article).astype(np.int64),
        position=shown.position,
        propensity=shown.propensity,
        reward=reward,
        unit=np.unique(shown.customer, return_inverse=True)[1].astype(np.int64),
        actions=len(known),
        positions=int(np.max(shown.position, initial=0)) + 1,
        name=name,
    )


def listed_log(shown: Shown, reward: Floats, name: str, listed: Names) -> tuple[Log, Listed]:
    """The log and the target that always shows listed[i] (object[n], "" for nothing) in row i's place."""
    articles = np.unique(np.concatenate([shown.article, listed[listed != ""]]))
    wanted = np.where(listed != "", np.searchsorted(articles, listed), -1).astype(np.int64)
    return as_log(shown, reward, name, articles), Listed(wanted)
