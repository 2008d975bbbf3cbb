"""A candidate against the bundle that serves: both answer the same customers of the freshest days."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from infra.clock import ManualClock
from offline.contenders import Contender, ask, shown
from offline.gates import Gate
from offline.metrics import Ints
from offline.progress import Step
from offline.scoreboard import Scoreboard, score
from offline.truth import Truth
from serving.pipeline import Pipeline
from serving.runtime import Runtime
from streams.events import from_micros
from streams.histories import Histories

# Of MAP@12; below what two trainings of the same network differ by.
MAX_LOSS = 0.01


def compare_with_live(
    candidate: Runtime,
    live: Runtime,
    histories: Histories,
    bought: Mapping[str, Mapping[int, float]],
    cut: int,
    progress: Step,
    *,
    seed: int,
) -> Scoreboard:
    """Scores of `full` of the candidate, and of the live bundle as its baseline `live`, by customer.

    Args:
        histories: of which states strictly before `cut` (microseconds) are taken.
        bought: customer_id -> item_idx of the candidate, whose catalogue is the newer one: what the live bundle lacks
            of it, it has missed.

    Raises:
        GateError: one of them refuses a request, or answers with less than it has.
    """
    truth = Truth.of(bought, len(candidate.items))
    scores = {}
    for name, runtime in (("full", candidate), ("live", live)):
        asked = ask(runtime, histories, truth.customers, cut)
        contender = Contender(name, Pipeline(runtime, ManualClock(from_micros(cut))), "full")
        rows = shown([contender], asked, progress)[name]
        scores[name] = score(rows if runtime is candidate else _translated(rows, live, candidate), truth)
    return Scoreboard(scores, ["live"], seed)


def live_gate(board: Scoreboard, live_id: str) -> Gate:
    """Passes where the candidate's MAP@12 is not below the live bundle's by more than MAX_LOSS of it."""
    mine, theirs = (float(board.scores[name]["map@12"].mean()) for name in ("full", "live"))
    wanted = theirs * (1 - MAX_LOSS)
    return Gate(
        f"not worse than the live bundle {live_id} on MAP@12", mine >= wanted, f"{mine:.5f}", f"at least {wanted:.5f}"
    )


def _translated(rows: Ints, source: Runtime, target: Runtime) -> Ints:
    """Rows of one catalogue as those of another, -1 where it lacks the article."""
    place = np.array([target.items.index.get(article, -1) for article in source.items.article_ids] + [-1], np.int64)
    return np.asarray(place[rows], np.int64)
