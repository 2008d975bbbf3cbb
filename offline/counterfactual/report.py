"""A counterfactual evaluation in plain words and as a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from offline.counterfactual.estimators import Estimate
from offline.counterfactual.evaluation import Evaluation
from offline.counterfactual.open_bandit import Case

NAMES = {
    "ips": "inverse propensity (IPS)",
    "clipped ips": "IPS, weights clipped",
    "snips": "self-normalised IPS (SNIPS)",
    "dm": "reward model alone (DM)",
    "dr": "doubly robust (DR)",
    "sndr": "self-normalised DR",
    "switch-dr": "switch DR",
    "logged mean": "the log's own mean",
}


def show_cases(console: Console, found: Sequence[Case], totals: Sequence[dict[str, Any]]) -> None:
    """Every case of Open Bandit, then the estimators over all of them."""
    for case in found:
        truth = case.truth
        title = (
            f"{case.campaign}: `{case.target}` estimated from the log of `{case.logged}`; its own log says "
            f"{truth.value:.5f} [{truth.low:.5f}, {truth.high:.5f}], {case.truth_clicks} clicks in {case.truth_rows:,}"
        )
        table = _table(title, "off by", "agrees")
        values = (*case.evaluation.estimates, case.evaluation.logged)
        for estimate, against in zip(values, case.against, strict=True):
            error = "-" if against.relative_error is None else f"{against.relative_error:.0%}"
            table.add_row(*_cells(estimate), error, "yes" if against.agrees else "no")
        console.print(table)
        _tell_support(console, case.evaluation)
        if case.shares_check is not None:
            console.print(
                f"shares of `{case.target}` are frequencies in half of its log, as it looks at no visitor; from what "
                f"its propensities say they are {case.shares_check['distance']:.0%} apart"
            )
    table = Table(title="all cases", title_justify="left")
    for name in ("estimator", "off by, mean", "agrees"):
        table.add_column(name, justify="left" if name == "estimator" else "right")
    for row in totals:
        error = "-" if row["mean_relative_error"] is None else f"{row['mean_relative_error']:.0%}"
        table.add_row(NAMES[row["name"]], error, f"{row['agrees']} of {row['cases']}")
    console.print(table)
    console.print("agrees: the 95% interval of the difference, with the chance of both logs in it, holds 0")


def show_evaluation(console: Console, title: str, found: Evaluation, truth: float | None) -> None:
    """One target on one log; truth: its true value, where a world knows it."""
    table = _table(title, *(() if truth is None else ("holds the truth",)))
    for estimate in found.estimates:
        held = () if truth is None else ("yes" if estimate.low <= truth <= estimate.high else "no",)
        table.add_row(*_cells(estimate), *held)
    table.add_row(*_cells(found.logged), *(() if truth is None else ("",)))
    console.print(table)
    if truth is not None:
        console.print(f"true value: {truth:.5f}")
    if found.bounds is not None:
        low, high = found.bounds
        console.print(f"whatever the unseen would have earned, the target's mean is between {low:.5f} and {high:.5f}")
    _tell_support(console, found)


def _table(title: str, *more: str) -> Table:
    table = Table(title=title, title_justify="left")
    for name in ("estimator", "value", "95% interval", "bootstrap", *more):
        table.add_column(name, justify="left" if name == "estimator" else "right")
    return table


def _cells(estimate: Estimate) -> tuple[str, str, str, str]:
    drawn = "-" if estimate.bootstrap is None else f"[{estimate.bootstrap[0]:.5f}, {estimate.bootstrap[1]:.5f}]"
    return (
        NAMES[estimate.name],
        f"{estimate.value:.5f}",
        rf"\[{estimate.low:.5f}, {estimate.high:.5f}]",
        drawn.replace("[", r"\["),
    )


def _tell_support(console: Console, found: Evaluation) -> None:
    s = found.support
    console.print(
        f"{s.rows:,} rows of {s.units:,} units tell as much as {s.effective_rows:,.0f} of equal weight; mean weight "
        f"{s.mean_weight:.3f}, largest {s.largest_weight:,.1f}, {s.clipped:.2%} clipped at {s.clip:.1f}"
    )
    for caution in s.cautions:
        console.print(f"CAUTION {caution.code}: {caution.message}", style="bold", markup=False)
