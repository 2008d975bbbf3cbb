"""The report of a run as one HTML file: no script, no request to anywhere, everything inside.

The data is what `report.json` of a bundle holds (see `Evaluation.report`), with what the command adds: `bundle_id`,
`command`, `source`, `data` (hash), `code_revision`, `seconds` by stage, `peak_memory_mb`, `training` (name -> losses).
Whatever is absent is not shown.
"""

from __future__ import annotations

import base64
import resource
import shlex
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

from jinja2 import Environment, PackageLoader
from markupsafe import Markup

from infra.errors import ConfigurationError
from offline import plots

if TYPE_CHECKING:
    from offline.content.images import ImageStore

Row = Mapping[str, Any]

COLUMNS = {
    "map@12": "MAP@12",
    "recall@100": "Recall@100",
    "ndcg@12": "NDCG@12",
    "hr@12": "HR@12",
    "coverage@12": "coverage",
    "gini@12": "Gini",
    "novelty@12": "novelty, bits",
    "diversity@12": "diversity",
}
TITLES = {"complete-journey": "Complete Journey", "hm": "H&M", "retailrocket": "RetailRocket"}


def write_report(path: Path, report: Row, pictures: ImageStore | None = None) -> None:
    """Render and write, whole or not at all.

    Args:
        pictures: photos by article, put into the file where an example customer meets the article.

    Raises:
        ConfigurationError: matplotlib is not installed.
    """
    write_page(path, render_report(report, pictures))


def write_page(path: Path, text: str) -> None:
    """Whole or not at all."""
    aside = path.with_name(path.name + ".part")
    aside.write_text(text, encoding="utf-8")
    aside.replace(path)


def check_page(path: Path) -> None:
    """Before a run that takes minutes.

    Raises:
        ConfigurationError: there is no directory to write the report into.
    """
    if not path.parent.is_dir():
        raise ConfigurationError(f"--report {path}: there is no directory {path.parent}")


def run_facts() -> dict[str, Any]:
    """What this process knows of itself: the command line, and the most memory it held."""
    return {"command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]), "peak_memory_mb": peak_memory_mb()}


def peak_memory_mb() -> float:
    """The most memory this process held so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # kilobytes on Linux, bytes on macOS
    return round(peak / (1 if sys.platform == "linux" else 1024) / 1024, 1)


def templates() -> Environment:
    """The templates of the pages, with what they say numbers by; whatever is put in is text, never markup."""
    environment = Environment(
        loader=PackageLoader("offline"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "verdict": verdict,
        "gain": gain,
        "whole": whole,
        "percent": percent,
        "hue": hue,
        "ago": ago,
    }
    return environment


def render_report(report: Row, pictures: ImageStore | None = None) -> str:
    """The page as text."""
    return (
        templates()
        .get_template("report.html")
        .render(
            report=report,
            title=title(report),
            days=days(report),
            columns=COLUMNS,
            groups=groups(report),
            best=best_values(report),
            plots={name: Markup(svg) for name, svg in draw(report).items()},
            picture=lambda article: picture(pictures, article),
            pictured=pictures is not None,
        )
    )


def verdict(row: Row) -> str:
    """A comparison in words.

    >>> row = {"contender": "full", "baseline": "repurchase", "verdict": "better", "ratio": 1.093}
    >>> verdict(row | {"ratio_interval": [1.067, 1.121]})
    'full is better than repurchase by 9.3% [6.7, 12.1]'
    """
    mine, other = row["contender"], row["baseline"]
    if row["verdict"] == "undecided":
        return f"{mine} and {other} cannot be told apart: {gain(row)}"
    return f"{mine} is {row['verdict']} than {other} by {gain(row, towards=-1 if row['verdict'] == 'worse' else 0)}"


def gain(row: Row, towards: int = 1) -> str:
    """The ratio as a gain in percent with its interval, or the difference where there is no ratio.

    Args:
        towards: 1 writes signs; 0 leaves out the sign of a gain; -1 writes a loss as what was lost.
    """
    by = -1 if towards < 0 else 1
    if row["ratio"] is None:
        value, ends, unit = row["difference"], row["difference_interval"], ""
        number = "{:.4f}"
    else:
        value, unit, number = 100 * (row["ratio"] - 1), "%", "{:.1f}"
        ends = [None if end is None else 100 * (end - 1) for end in row["ratio_interval"]]
    low, high = ("∞" if end is None else number.format(by * end) for end in ends[::by])
    sign = "+" if towards > 0 and value > 0 else ""
    return f"{sign}{number.format(by * value)}{unit} [{low}, {high}]".replace("-", "−")


def whole(number: float) -> str:
    """With thousands apart: 1 234 567."""
    return f"{number:,.0f}".replace(",", "\u202f")


def percent(share: float) -> str:
    return f"{100 * share:.1f}%"


def ago(days: float) -> str:
    """How long before the cut.

    >>> ago(0.4), ago(1.0), ago(12.6)
    ('the day before', '1 day before', '13 days before')
    """
    whole_days = round(days)
    return "the day before" if days < 1 else f"{whole_days} day{'s' if whole_days != 1 else ''} before"


def hue(text: str) -> int:
    """A colour for a category: the same on every page."""
    return crc32(text.encode()) % 360


def title(report: Row) -> str:
    source = str(report.get("source", ""))
    return TITLES.get(source, source) or "Offline run"


def days(report: Row) -> str:
    """The days that were predicted."""
    first = datetime.fromisoformat(report["cut"])
    return days_in_words(first, first + timedelta(days=report["horizon_days"] - 1))


def days_in_words(first: datetime, last: datetime) -> str:
    """From the first day to the last, both counted.

    >>> days_in_words(datetime(2017, 11, 26), datetime(2018, 1, 1))
    '26 November 2017 – 1 January 2018'
    """
    if (last.year, last.month) == (first.year, first.month):
        return (
            f"{last.day} {last:%B %Y}" if last.day == first.day else f"{first.day}\u2060–\u2060{last.day} {last:%B %Y}"
        )
    year = "" if last.year == first.year else f" {first.year}"
    return f"{first.day} {first:%B}{year} – {last.day} {last:%B %Y}"


def groups(report: Row) -> dict[str, list[str]]:
    """The contenders as the big table shows them: what serves, its rivals, its parts."""
    names = list(report["metrics"])
    return {
        "Serves": [name for name in names if name == "full"],
        "Strategies": [name for name in names if not name.startswith("full")],
        "Other rankers": [name for name in names if name.startswith("full, ")],
        "Without one source": [name for name in names if name.startswith("full without ")],
    }


def best_values(report: Row) -> dict[str, float]:
    """The best of each column; of Gini the lowest."""
    rows = list(report["metrics"].values())
    return {
        column: (min if column == "gini@12" else max)(row[column] for row in rows if column in row)
        for column in COLUMNS
        if any(column in row for row in rows)
    }


def draw(report: Row) -> dict[str, str]:
    """Plot name -> SVG, for what the report has data for."""
    found: dict[str, str] = {}
    for metric, name in (("map@12", "baselines_map"), ("recall@100", "baselines_recall")):
        if rows := _ratios(report.get("comparisons", ()), metric, "baseline"):
            found[name] = plots.intervals(rows, f"{COLUMNS[metric]}, full over each strategy")
    for baseline, name in (("popular", "segments_popular"), (report.get("best_baseline"), "segments_best")):
        parts = [
            {**row, "segment": part["segment"]}
            for part in report.get("segments", ())
            for row in part["full_over"]
            if row["baseline"] == baseline
        ]
        if rows := _ratios(parts, "map@12", "segment"):
            found[name] = plots.intervals(rows, f"MAP@12, full over {baseline}, by kind of customer")
    without = [
        {**row, "part": row["baseline"].removeprefix("full").lstrip(", ")} for row in report.get("ablations", ())
    ]
    for metric, name in (("map@12", "ablations_map"), ("recall@100", "ablations_recall")):
        if rows := _ratios(without, metric, "part"):
            found[name] = plots.intervals(rows, f"{COLUMNS[metric]}, full over full without the part")
    stale = [{**row, "age": f"{row['days']} day{'s' * (row['days'] > 1)} old"} for row in report.get("staleness", ())]
    if rows := _ratios(stale, "map@12", "age"):
        found["staleness"] = plots.intervals(rows, "MAP@12, fresh state over a stale one")
    if sources := report.get("sources"):
        bars = [(row["source"], row["recall"], row["lift"]) for row in sources]
        found["sources"] = plots.bars(bars, "recall alone", "lift of the union")
    if bins := (report.get("calibration") or {}).get("bins"):
        found["calibration"] = plots.calibration(bins)
    shown = [name for name in report["metrics"] if name == "full" or not name.startswith("full")]
    if all("coverage@12" in report["metrics"][name] for name in shown):
        where = [(name, report["metrics"][name]["coverage@12"], report["metrics"][name]["map@12"]) for name in shown]
        found["variety"] = plots.points(where, "share of the catalogue shown", "MAP@12")
    if training := report.get("training"):
        found["training"] = plots.curves(training, "loss")
    return found


def _ratios(rows: Sequence[Row], metric: str, label: str) -> list[tuple[str, float, float | None, float | None]]:
    return [
        (str(row[label]), row["ratio"], *row["ratio_interval"])
        for row in rows
        if row["metric"] == metric and row["ratio"]
    ]


def picture(pictures: ImageStore | None, article: str) -> str | None:
    """The article's photo as a data URI."""
    found = pictures.get(article) if pictures is not None else None
    if found is None:
        return None
    kind = "png" if found.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(found).decode()}"
