"""Plots of the report as SVG that stands inside the page: its colours are the page's variables, so that a plot is as
legible in dark mode as in light, and its text is text."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from html import escape
from math import log
from typing import TYPE_CHECKING, Any

from infra.errors import ConfigurationError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Matplotlib wants colours, the page has names: each stands for one until the SVG is written.
INK, SOFT, LINE, ACCENT, WARM, PAPER = (f"#0000{n:02x}" for n in range(1, 7))
SERIES = tuple(f"#0000{n:02x}" for n in range(7, 13))  # of lines that stand for equals; the page's legend has them too
NAMES = {INK: "--ink", SOFT: "--soft", LINE: "--line", ACCENT: "--accent", WARM: "--warm", PAPER: "--card"}
NAMES |= {colour: f"--series-{n}" for n, colour in enumerate(SERIES)}
STYLE: Any = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # labels are data: two dollar signs in one are no formula
    "font.size": 11,
    "text.color": INK,
    "axes.edgecolor": LINE,
    "axes.labelcolor": SOFT,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "grid.color": LINE,
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
}
WIDTH = 5.2  # inches of 72 points: a phone shows it almost at full size
DAY = 86_400.0  # seconds
ENOUGH = 1.15  # of a logarithmic axis, either side of what is drawn


def intervals(rows: Sequence[tuple[str, float, float | None, float | None]], what: str) -> str:
    """Ratios with their intervals, one row each, against a line at 1; logarithmic, as a half is as far as a double.

    Args:
        rows: label, ratio, low, high; an end that is None runs off the plot.
        what: said to those who do not see it.
    """
    with _figure(max(1.1, 0.36 * len(rows) + 0.55)) as (figure, axes):
        ends = [end for _, ratio, low, high in rows for end in (ratio, low, high) if end is not None and end > 0]
        left, right = min([0.95, *ends]) / ENOUGH, max([1.05, *ends]) * ENOUGH
        axes.set_xscale("log")
        axes.set_xlim(left, right)
        axes.axvline(1, color=SOFT, linewidth=1, linestyle=(0, (3, 3)))
        for place, (_, ratio, low, high) in enumerate(rows):
            ends_here = (low or left, right if high is None else high)
            colour = ACCENT if ends_here[0] > 1 else WARM if ends_here[1] < 1 else SOFT
            axes.plot(ends_here, (place, place), color=colour, linewidth=2.2, solid_capstyle="round")
            axes.plot([ratio], [place], "o", color=colour, markersize=6.5)
        axes.set_yticks(range(len(rows)), [label for label, *_ in rows])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        ticks = [t for t in (0.1, 0.2, 0.5, 0.8, 0.9, 1, 1.1, 1.25, 1.5, 2, 3, 5, 10, 20, 50) if left <= t <= right]
        axes.set_xticks(_apart(ticks, left, right), minor=False)
        axes.set_xticks([], minor=True)
        axes.xaxis.set_major_formatter(lambda value, _: f"×{value:g}")
        axes.grid(axis="x")
        return _svg(figure, what)


def bars(rows: Sequence[tuple[str, float, float]], first: str, second: str) -> str:
    """Two bars a row: label, first, second."""
    with _figure(max(1.4, 0.44 * len(rows) + 0.9)) as (figure, axes):
        places = range(len(rows))
        axes.barh([p - 0.18 for p in places], [row[1] for row in rows], height=0.32, color=LINE, label=first)
        axes.barh([p + 0.18 for p in places], [row[2] for row in rows], height=0.32, color=ACCENT, label=second)
        axes.set_yticks(places, [row[0] for row in rows])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.grid(axis="x")
        axes.legend(frameon=False, loc="lower right", labelcolor=SOFT)
        return _svg(figure, first)


def calibration(bins: Sequence[Mapping[str, float]]) -> str:
    """Observed over predicted by bin, both logarithmic; bins in which nothing happened have no place there."""
    there = [(b["predicted"], b["observed"]) for b in bins if b["observed"] > 0 and b["predicted"] > 0]
    with _figure(3.6) as (figure, axes):
        if there:
            low, high = min(map(min, there)) / 1.6, min(1.0, max(map(max, there)) * 1.6)
            axes.set_xscale("log")
            axes.set_yscale("log")
            axes.plot([low, high], [low, high], color=SOFT, linewidth=1, linestyle=(0, (3, 3)))
            axes.plot(*zip(*there, strict=True), "o-", color=ACCENT, markersize=6, linewidth=1.4)
            axes.set_xlim(low, high)
            axes.set_ylim(low, high)
            axes.minorticks_off()
        _percent(axes)
        axes.grid()
        axes.set_xlabel("predicted probability of a purchase")
        axes.set_ylabel("bought")
        return _svg(figure, "calibration")


def points(rows: Sequence[tuple[str, float, float]], x: str, y: str) -> str:
    """Named points; the first is the one the report is about. x is logarithmic where they are far apart."""
    with _figure(3.6) as (figure, axes):
        across_all = [row[1] for row in rows]
        if min(across_all) > 0 and max(across_all) >= 10 * min(across_all):  # nearer, the axis might have no number
            axes.set_xscale("log")
            axes.margins(x=0.22)
            axes.minorticks_off()
        axes.margins(y=0.16)
        for place, (_, across, up) in enumerate(rows):
            axes.plot([across], [up], "o", color=WARM if place else ACCENT, markersize=6 if place else 9)
        _percent(axes, "x")
        axes.grid()
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        # Only now, with everything else in its place, is it known which labels would meet.
        figure.draw_without_rendering()
        at = [tuple(axes.transData.transform(row[1:]) * 72 / figure.dpi) for row in rows]
        offsets = _clear_offsets([row[0] for row in rows], at)
        for place, ((label, across, up), offset) in enumerate(zip(rows, offsets, strict=True)):
            colour = SOFT if place else INK
            axes.annotate(
                label,
                (across, up),
                offset,
                textcoords="offset points",
                ha="center",
                color=colour,
                annotation_clip=False,
            )
        return _svg(figure, x)


def curves(lines: Mapping[str, Sequence[float]], y: str) -> str:
    """Values by step, each line on its own length."""
    with _figure(2.8) as (figure, axes):
        for n, (name, values) in enumerate(lines.items()):
            across = [step / max(len(values) - 1, 1) for step in range(len(values))]
            axes.plot(across, values, color=(ACCENT, WARM, SOFT, INK)[n % 4], linewidth=1.6, label=name)
        axes.grid(axis="y")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        axes.set_xlabel("of the training")
        axes.set_ylabel(y)
        axes.legend(frameon=False, labelcolor=SOFT)
        return _svg(figure, y)


def bands(lines: Sequence[Sequence[tuple[datetime, float, float, float]]], what: str) -> str:
    """Values over time, each line in a band from low to high; the first two, which are compared, stand out.

    Args:
        lines: (time, value, low, high) of one or more moments each, in the order of SERIES; beyond these the colours
            come again, dashed.
    """
    with _figure(3.1) as (figure, axes):
        for n, line in reversed(list(enumerate(lines))):
            colour, style = SERIES[n % len(SERIES)], "-" if n < len(SERIES) else (0, (4, 2))
            times, values, low, high = zip(*line, strict=True)
            place = [moment.timestamp() / DAY for moment in times]
            if len(line) > 1:
                axes.fill_between(place, low, high, color=colour, alpha=0.16 if n < 2 else 0.06, linewidth=0)
            else:
                axes.vlines(place, low, high, color=colour, linewidth=2, alpha=0.5)
            axes.plot(
                place, values, color=colour, linestyle=style, linewidth=2.4 if n < 2 else 1.4, marker="o", markersize=4
            )
        moments = sorted({point[0] for line in lines for point in line})
        ticks = moments[:: -(-len(moments) // 6)]
        axes.set_xticks([t.timestamp() / DAY for t in ticks], [f"{t.day} {t:%b}" for t in ticks])
        axes.margins(x=0.03)
        axes.grid(axis="y")
        return _svg(figure, what)


@contextmanager
def _figure(height: float) -> Iterator[tuple[Figure, Axes]]:
    """One figure with one pair of axes in the report's style; nothing global is left changed."""
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            "the report's plots need matplotlib; install it: pip install 'modiste[train]'"
        ) from error
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        yield figure, figure.add_subplot()


def _apart(ticks: list[float], left: float, right: float) -> list[float]:
    """Those of the ticks that leave each other room on a logarithmic axis; 1 always stays."""
    room = 0.16 * log(right / left)
    kept = [1.0]
    for tick in sorted(ticks, key=lambda t: abs(log(t))):
        if all(abs(log(tick / other)) >= room for other in kept):
            kept.append(tick)
    return sorted(kept)


def _clear_offsets(labels: Sequence[str], at: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Where each label stands from its point, in points: of four places the one least in the way of other points and
    of labels that stand already."""
    taken = [(x - 5, y - 5, x + 5, y + 5) for x, y in at]
    found: list[tuple[float, float]] = []
    for label, (x, y) in zip(labels, at, strict=True):
        half = 3.1 * len(label)
        boxes = {
            (dx, dy): (x + dx - half, y + dy - 2, x + dx + half, y + dy + 10)
            for dx, dy in ((0, 8), (0, -17), (half + 9, -4), (-half - 9, -4))
        }
        best = min(boxes, key=lambda offset: sum(_overlap(boxes[offset], other) for other in taken))
        found.append(best)
        taken.append(boxes[best])
    return found


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> float:
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def _percent(axes: Axes, which: str = "both") -> None:
    def text(value: float, _: float) -> str:
        return f"{100 * value:.3g}%"

    axes.xaxis.set_major_formatter(text)
    if which == "both":
        axes.yaxis.set_major_formatter(text)


def _svg(figure: Figure, what: str) -> str:
    from matplotlib import rc_context

    out = io.StringIO()
    # The salt makes ids the same in every run and different between the plots of one page.
    with rc_context({"svg.hashsalt": what}):
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    said = f' role="img" aria-label="{escape(what)}" width="100%"'
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', lambda tag: tag[1] + said, text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    text = re.sub(r"<style.*?</style>", "", text, flags=re.DOTALL)  # would reach beyond the SVG
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    text = re.sub(r"font-family: [^;\"]*", "font-family: var(--sans)", text)
    for colour, name in NAMES.items():
        text = text.replace(colour, f"var({name})")
    return text.strip()
