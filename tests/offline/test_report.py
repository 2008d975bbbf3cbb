"""The report: sentences that say what the numbers say, and a page that needs nothing but itself."""

from __future__ import annotations

import doctest
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from offline import plots, report
from offline.report import gain, render_report, verdict, write_report
from tests.support.tiny_fixture import Tiny

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PIXEL = b"\x89PNG\r\n\x1a\n-and-so-on"


def row(verdict: str, ratio: float | None, low: float | None, high: float | None, **more: Any) -> dict[str, Any]:
    return {
        "contender": "full",
        "baseline": "popular",
        "verdict": verdict,
        "ratio": ratio,
        "ratio_interval": [low, high],
        "difference": 0.0123,
        "difference_interval": [-0.001, 0.02],
        "metric": "map@12",
        "value": 0.2,
        "baseline_value": 0.1,
        **more,
    }


def told(tiny: Tiny, **more: Any) -> dict[str, Any]:
    """The tiny shop's report, as its bundle holds it."""
    return {**json.loads(tiny.bundle.file("report.json").read_text()), **more}


def test_the_docstrings_sentences_are_true() -> None:
    failed, tried = doctest.testmod(report)
    assert tried >= 3
    assert failed == 0


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (row("better", 1.5, 1.2, 2.0), "full is better than popular by 50.0% [20.0, 100.0]"),
        (row("worse", 0.96, 0.937, 0.979), "full is worse than popular by 4.0% [2.1, 6.3]"),
        (row("undecided", 1.01, 0.99, 1.03), "full and popular cannot be told apart: +1.0% [−1.0, 3.0]"),
        (row("better", 20.0, 6.0, None), "full is better than popular by 1900.0% [500.0, ∞]"),
        (row("undecided", None, None, None), "full and popular cannot be told apart: +0.0123 [−0.0010, 0.0200]"),
    ],
)
def test_verdicts_in_words(given: dict[str, Any], says: str) -> None:
    assert verdict(given) == says


def test_a_loss_in_a_table_keeps_its_sign() -> None:
    assert gain(row("worse", 0.96, 0.937, 0.979)) == "−4.0% [−6.3, −2.1]"


@pytest.mark.parametrize(
    ("cut", "horizon", "said"),
    [
        ("2017-12-24T00:00:00+00:00", 7, "24\u2060–\u206030 December 2017"),
        ("2020-09-21T00:00:00+00:00", 1, "21 September 2020"),
        ("2020-06-28T00:00:00+00:00", 7, "28 June – 4 July 2020"),
    ],
)
def test_the_days_that_were_predicted(cut: str, horizon: int, said: str) -> None:
    assert report.days({"cut": cut, "horizon_days": horizon}) == said


class Page(HTMLParser):
    """Everything a browser would fetch, every tag, and whether they close."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.tags: set[str] = set()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.fetched += [v for k, v in attrs if v and k in ("src", "href", "xlink:href", "srcset", "data", "poster")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_asks_nobody_for_anything(tiny: Tiny, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    write_report(out, told(tiny, command="modiste offline run", seconds={"total": 3.5}, training={"tower": [2.0, 1.0]}))
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    text = out.read_text()
    page = Page()
    page.feed(text)
    assert page.open == []
    assert "script" not in page.tags
    assert {"table", "svg", "h1"} <= page.tags
    assert [link for link in page.fetched if not link.startswith("#")] == []
    assert set(re.findall(r"url\(([^)#]*)", text)) <= {""}
    assert text == render_report(
        told(tiny, command="modiste offline run", seconds={"total": 3.5}, training={"tower": [2.0, 1.0]})
    )


def test_the_page_says_what_the_report_holds(tiny: Tiny) -> None:
    data = told(tiny)
    text = render_report(data)
    for headline in data["headline"]:
        assert verdict(headline) in text
    for contender, scores in data["metrics"].items():
        assert f"<td>{contender}</td>" in text
        assert f"{scores['map@12']:.4f}" in text
    for part in data["segments"]:
        assert part["segment"] in text
    for example in data["examples"]:
        assert example["customer"] in text


def test_what_is_absent_is_not_shown() -> None:
    little = {
        "cut": "2020-07-20T00:00:00+00:00",
        "horizon_days": 7,
        "customers": 3,
        "cold_customers": 1,
        "metrics": {"full": {"map@12": 0.5}, "popular": {"map@12": 0.25}},
    }
    text = render_report(little)
    assert "0.5000" in text
    for section in ("customers", "cold", "sources", "examples"):
        assert f'id="{section}"' not in text


def test_a_title_is_text_and_never_markup(tiny: Tiny) -> None:
    data = told(tiny, source="<script>alert(1)</script>")
    data["examples"][0]["recommended"][0]["title"] = "<img src=x>"
    page = Page()
    page.feed(render_report(data))
    assert "script" not in page.tags
    assert "x" not in page.fetched


def test_photos_stand_in_the_file_where_there_are_any(tiny: Tiny) -> None:
    data = told(tiny)
    article = data["examples"][0]["recommended"][0]["article_id"]

    class OnePhoto:
        def get(self, article_id: str) -> bytes | None:
            return PIXEL if article_id == article else None

    page = Page()
    page.feed(render_report(data, OnePhoto()))
    pictures = [link for link in page.fetched if link.startswith("data:")]
    assert pictures
    assert set(pictures) == {report.picture(OnePhoto(), article)}
    assert pictures[0].startswith("data:image/png;base64,")


def test_plots_take_their_colours_from_the_page() -> None:
    rows = [("popular", 3.2, 2.8, 3.9), ("repurchase", 0.9, 0.0, None)]
    drawn = [
        plots.intervals(rows, "MAP@12"),
        plots.bars([("popular", 0.3, 0.1)], "recall", "lift"),
        plots.calibration([{"predicted": 0.1, "observed": 0.2}, {"predicted": 0.01, "observed": 0.0}]),
        plots.calibration([{"predicted": 0.01, "observed": 0.0}]),
        plots.points([("full", 0.05, 0.17), ("popular", 0.05, 0.17)], "coverage", "MAP@12"),
        plots.curves({"tower": [2.0, 1.5, 1.2], "ranker": [0.5]}, "loss"),
    ]
    for svg in drawn:
        assert not re.search(r"#[0-9a-f]{6}\b", svg)
        assert "var(--soft)" in svg
        assert "<style" not in svg
    assert ">popular</text>" in drawn[0]
    assert "var(--warm)" not in drawn[0]  # an interval from 0 to nowhere decides nothing
    assert drawn[0] == plots.intervals(rows, "MAP@12")


def test_labels_of_points_at_one_place_do_not_lie_on_each_other() -> None:
    first, second = plots._clear_offsets(["full", "popular"], [(100.0, 100.0), (100.0, 100.0)])
    assert first != second


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (Debian: apt-get install chromium)")
@pytest.mark.parametrize("width", [1400, 390])
def test_the_page_fits_a_desk_and_a_phone(tiny: Tiny, tmp_path: Path, width: int) -> None:
    from playwright.sync_api import sync_playwright

    write_report(tmp_path / "report.html", told(tiny))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": width, "height": 900})
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto((tmp_path / "report.html").as_uri())
        assert asked == [(tmp_path / "report.html").as_uri()]
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        box = page.locator("#contenders svg").first.bounding_box()
        assert box is not None
        assert box["width"] > 250
        browser.close()
