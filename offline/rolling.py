"""`modiste offline rolling`: the same run at successive weekly cuts, each week judged alone and all weeks pooled.

Each run learns anew from what lies before its cut. Bundles go into a registry of their own that is removed with the
last run, so no channel moves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from infra.errors import ConfigurationError
from infra.registry import Registry
from offline.evaluate import Evaluation
from offline.event_log import EventLog
from offline.pooled import Pool
from offline.run import OfflineRun
from offline.scoreboard import HEADLINE
from offline.window import WEEK, Window

CHANNEL = "rolling"


def rolling_windows(log: EventLog, last: Window, weeks: int) -> list[Window]:
    """The windows a week apart that end with `last`, oldest first.

    Raises:
        ConfigurationError: the log does not go back so far.
    """
    windows = [Window(last.cut - timedelta(days=WEEK * n), last.horizon) for n in reversed(range(weeks))]
    if windows[0].cut <= log.span[0]:
        raise ConfigurationError(
            f"--weeks {weeks}: the earliest cut would be {windows[0].cut.date()}, and the log begins on "
            f"{log.span[0].date()}; give fewer weeks"
        )
    return windows


def run_rolling(
    windows: Sequence[Window], job: Callable[[Window], OfflineRun], scratch: Path, seed: int
) -> dict[str, Any]:
    """Run all windows; returns weeks (one row each) and what they say together.

    Args:
        scratch: directory in which the bundles stand until the end.
    """
    weeks: list[dict[str, Any]] = []
    evaluations: list[Evaluation] = []
    scratch.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="rolling-", dir=scratch) as directory:
        registry = Registry(f"file://{directory}")
        for window in windows:
            result = job(window).execute(registry, CHANNEL, activate_anyway=True)
            evaluations.append(result.evaluation)
            weeks.append(
                {
                    "cut": window.cut.isoformat(),
                    "customers": result.evaluation.customers,
                    "cold_customers": result.evaluation.cold_customers,
                    "metrics": result.evaluation.metrics,
                    "headline": result.report["headline"],
                    "seconds": result.report["seconds"]["total"],
                }
            )
    return {"weeks": weeks, "pooled": pool(evaluations, seed)}


def pool(evaluations: Sequence[Evaluation], seed: int) -> dict[str, Any]:
    """Means over all weeks' customers, every (customer, week) counted once, and `full` against each baseline; customers
    are resampled with all their weeks."""
    boards = [board for evaluation in evaluations if (board := evaluation.board) is not None]
    names = [name for name in boards[0].scores if all(name in board.scores for board in boards)]
    baselines = [name for name in boards[0].baselines if name in names]
    pooled = Pool([(name, metric) for name in names for metric in HEADLINE])
    for evaluation, board in zip(evaluations, boards, strict=True):
        scores = np.stack([board.scores[name][metric] for name, metric in pooled.columns], axis=1)
        pooled.add(evaluation.judged, scores)
    found = pooled.result(seed)
    metrics = {name: {metric: found.mean(name, metric) for metric in HEADLINE} for name in names}
    comparisons = [found.compare("full", other, metric) for metric in HEADLINE for other in names if other != "full"]
    best = {metric: max((metrics[name][metric], name) for name in baselines)[1] for metric in HEADLINE}
    return {
        "customers": found.customers,
        "customer_weeks": found.customer_steps,
        "metrics": metrics,
        "headline": [row for row in comparisons if row["baseline"] == best[row["metric"]]],
        "comparisons": comparisons,
    }
