"""The report of a backtest as one HTML file: no script, no request to anywhere, everything inside.

The data is what `judge` returns, with what the command adds: `command`, `code_revision`, and `freshness` where it was
measured. Whatever is absent is not shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from offline import plots
from offline.report import COLUMNS, TITLES, days_in_words, picture, templates, write_page
from offline.scoreboard import HEADLINE

if TYPE_CHECKING:
    from offline.content.images import ImageStore

Row = Mapping[str, Any]

VARIETY = {
    "coverage@12": "coverage",
    "gini@12": "Gini",
    "novelty@12": "novelty, bits",
    "popular_share@12": "top 1%",
}
KINDS = {
    "customers": "By what was known of the customer",
    "category": "By category of what was bought",
    "channel": "By sales channel of the purchase",
    "articles": "New articles",
}


def write_backtest_report(path: Path, report: Row, pictures: ImageStore | None = None) -> None:
    """Render and write, whole or not at all.

    Args:
        pictures: photos by article, put into the file where an example customer meets the article.

    Raises:
        ConfigurationError: matplotlib is not installed.
    """
    write_page(path, render_backtest(report, pictures))


def render_backtest(report: Row, pictures: ImageStore | None = None) -> str:
    """The page as text."""
    names = order(report)
    source = str(report["data"]["source"])
    return (
        templates()
        .get_template("backtest.html")
        .render(
            report=report,
            title=TITLES.get(source, source),
            days=days(report),
            names=names,
            columns={metric: COLUMNS[metric] for metric in next(iter(report["pooled"]["metrics"].values()))},
            variety=VARIETY,
            headline=HEADLINE,
            comparison=lambda name, other, metric: comparison(report["pooled"]["comparisons"], name, other, metric),
            segments=segments(report),
            best=best_values(report),
            plots={name: Markup(svg) for name, svg in draw(report, names).items()},
            picture=lambda article: picture(pictures, article),
            pictured=pictures is not None,
        )
    )


def order(report: Row) -> list[str]:
    """The contenders: the one the report is about, the baseline, then the others, best in MAP@12 first."""
    pooled = report["pooled"]
    first = list(dict.fromkeys([pooled["subject"], pooled["baseline"]]))
    others = [name for name in pooled["metrics"] if name not in first]
    return first + sorted(others, key=lambda name: -float(pooled["metrics"][name]["map@12"]["mean"]))


def days(report: Row) -> str:
    """The days that were answered for."""
    first = datetime.fromisoformat(report["plan"]["start"])
    last = datetime.fromisoformat(report["plan"]["end"]) - timedelta(microseconds=1)
    return days_in_words(first, last)


def comparison(rows: Sequence[Row], name: str, other: str, metric: str) -> dict[str, Any] | None:
    """One contender over another, however they stand in the report; None of one over itself."""
    for row in rows:
        if row["metric"] == metric and (row["contender"], row["baseline"]) == (name, other):
            return dict(row)
        if row["metric"] == metric and (row["contender"], row["baseline"]) == (other, name):
            return turned(row)
    return None


def turned(row: Row) -> dict[str, Any]:
    """The same comparison seen from the other side. The ratio of means turns over; so do the ends of its interval, as
    every resample's ratio does."""
    low, high = row["ratio_interval"]
    return {
        **row,
        "contender": row["baseline"],
        "baseline": row["contender"],
        "value": row["baseline_value"],
        "baseline_value": row["value"],
        "difference": -row["difference"],
        "difference_interval": [-end for end in row["difference_interval"]][::-1],
        "ratio": _over(row["ratio"]),
        "ratio_interval": [0.0 if high is None else _over(high), _over(low)],
        "verdict": {"better": "worse", "worse": "better"}.get(row["verdict"], row["verdict"]),
    }


def segments(report: Row) -> dict[str, list[Row]]:
    """Title of each kind -> its parts."""
    found = {title: [part for part in report["segments"] if part["kind"] == kind] for kind, title in KINDS.items()}
    return {title: parts for title, parts in found.items() if parts}


def best_values(report: Row) -> dict[str, float]:
    """The best of each column of the big table and of the variety's; of Gini and of the most popular the least."""
    metrics = report["pooled"]["metrics"].values()
    best = {metric: max(row[metric]["mean"] for row in metrics) for metric in next(iter(metrics))}
    rows = report["variety"].values()
    for column in VARIETY:
        choose = min if column in ("gini@12", "popular_share@12") else max
        best[column] = choose(row[column] for row in rows)
    return best


def draw(report: Row, names: Sequence[str]) -> dict[str, str]:
    """Plot name -> SVG, for what the report has data for."""
    found: dict[str, str] = {}
    pooled, subject, baseline = report["pooled"], report["pooled"]["subject"], report["pooled"]["baseline"]
    for metric in HEADLINE:
        lines = [[_point(step, name, metric) for step in report["steps"] if step["metrics"]] for name in names]
        found[f"time_{metric}"] = plots.bands(lines, f"{COLUMNS[metric]} of each step")
        over = [row for name in names[1:] if (row := comparison(pooled["comparisons"], subject, name, metric))]
        if rows := _ratios(over, "baseline"):
            found[f"over_{metric}"] = plots.intervals(rows, f"{COLUMNS[metric]}, {subject} over each other")
        for kind in KINDS:
            parts = [
                {**row, "part": part["name"]}
                for part in report["segments"]
                if part["kind"] == kind and not part["few"]
                for row in part["comparisons"]
                if (row["contender"], row["metric"]) == (subject, metric)
            ]
            if rows := _ratios(parts, "part"):
                what = f"{COLUMNS[metric]}, {subject} over {baseline}, {kind}"
                found[f"segments_{kind}_{metric}"] = plots.intervals(rows, what)
    fresh = report.get("freshness") or {}
    stale = [{**row, "age": row["baseline"].removeprefix("a state ")} for row in fresh.get("staleness", ())]
    if rows := _ratios([row for row in stale if row["metric"] == "map@12"], "age"):
        found["staleness"] = plots.intervals(rows, "MAP@12, a fresh state over a stale one")
    visits = [row for row in fresh.get("batch_versus_stream", ()) if row["metric"] == "map@12"]
    if rows := _ratios(visits, "visits"):
        found["stream"] = plots.intervals(rows, "MAP@12, stream over batch")
    where = [(n, report["variety"][n]["coverage@12"], pooled["metrics"][n]["map@12"]["mean"]) for n in names]
    found["variety"] = plots.points(where, "share of the catalogue shown", "MAP@12")
    return found


def _point(step: Row, name: str, metric: str) -> tuple[datetime, float, float, float]:
    cell = step["metrics"][name][metric]
    return datetime.fromisoformat(step["cut"]), cell["mean"], cell["low"], cell["high"]


def _ratios(rows: Sequence[Row], label: str) -> list[tuple[str, float, float | None, float | None]]:
    return [(str(row[label]), row["ratio"], *row["ratio_interval"]) for row in rows if row["ratio"]]


def _over(ratio: float | None) -> float | None:
    return None if not ratio else round(1 / ratio, 4)
