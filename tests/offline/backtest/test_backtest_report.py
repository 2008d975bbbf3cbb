"""The page of a backtest: it says what the report holds, needs nothing but itself, and fits a desk and a phone."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from offline.backtest.judge import judge
from offline.backtest.report import comparison, order, render_backtest, turned, write_backtest_report
from tests.offline.backtest.toy_ledger import ARTICLES, LINES, PLAN, ledger_of, log_of
from tests.offline.test_report import CHROMIUM, PIXEL, Page, row

FRESH = {
    "contender": "full",
    "customers": 3,
    "steps": 2,
    "staleness": [row("better", 1.2, 1.1, 1.3, contender="a fresh state", baseline="a state 7 days old", days=7)],
    "batch_versus_stream": [row("better", 1.1, 1.05, 1.2, contender="stream", baseline="batch", visits="later visits")],
}
for _one in (*FRESH["staleness"], *FRESH["batch_versus_stream"]):  # type: ignore[misc]
    _one["sentence"] = f"{_one['contender']} is better than {_one['baseline']}"


def told(directory: Path, **more: Any) -> dict[str, Any]:
    report = judge(ledger_of(directory / "ledger"), log_of(directory), PLAN)
    return report | {"command": "modiste backtest --data lines", "freshness": FRESH, "code_revision": "abc1234"} | more


def test_the_page_is_whole_and_asks_nobody_for_anything(tmp_path: Path) -> None:
    report = told(tmp_path)
    write_backtest_report(tmp_path / "out.html", report)
    text = (tmp_path / "out.html").read_text()
    page = Page()
    page.feed(text)
    assert page.open == []
    assert "script" not in page.tags
    assert {"table", "svg", "h1", "details"} <= page.tags
    assert [link for link in page.fetched if not link.startswith("#")] == []
    assert set(re.findall(r"url\(([^)#]*)", text)) <= {""}
    assert text == render_backtest(report)
    anchors = {link[1:] for link in page.fetched}
    assert anchors <= set(re.findall(r'id="([^"]+)"', text))


def test_the_page_says_what_the_report_holds(tmp_path: Path) -> None:
    report = told(tmp_path)
    text = render_backtest(report)
    assert "lines, 1\u2060–\u206014 March 2020" in text
    for comparing in report["pooled"]["headline"]:
        assert comparing["sentence"] in text
    for part in report["segments"]:
        assert part["name"] in text
        assert "too few to tell" in text
    for wanted in ("stream is better than batch", "modiste backtest --data lines", report["data"]["content_hash"]):
        assert wanted in text
    assert "bundle-1" in text
    assert "1 purchases of articles of which nobody had heard" in text


def test_what_was_not_measured_is_not_shown(tmp_path: Path) -> None:
    report = told(tmp_path, freshness={}, examples=[], segments=[])
    text = render_backtest(report)
    for section in ("freshness", "examples", "segments"):
        assert f'id="{section}"' not in text
        assert f'href="#{section}"' not in text


def test_names_are_text_and_never_markup_nor_formulas(tmp_path: Path) -> None:
    hostile = '<script>alert("$x$ & \\1")</script>'
    kinds = {name: hostile if kind == "bags" else "$a$ $b" for name, kind in ARTICLES.items()}
    report = judge(ledger_of(tmp_path / "ledger"), log_of(tmp_path, LINES, categories=kinds), PLAN)
    report["pooled"] = _renamed(report["pooled"], hostile)
    for part in [*report["segments"], *report["steps"]]:
        part.update(_renamed({"metrics": part["metrics"], "comparisons": part["comparisons"]}, hostile))
        part["few"] = False
    report["variety"] = {hostile if name == "full" else name: v for name, v in report["variety"].items()}
    text = render_backtest(report)
    page = Page()
    page.feed(text)
    assert page.open == []
    assert "script" not in page.tags
    assert "$a$ $b" in text


def _renamed(part: dict[str, Any], name: str) -> dict[str, Any]:
    """The same with another name for `full`."""
    new = dict(part)
    new["metrics"] = {name if n == "full" else n: v for n, v in part["metrics"].items()}
    new["comparisons"] = [{**r, "contender": name} for r in part["comparisons"]]
    if "subject" in new:
        new["subject"] = name
        new["headline"] = [{**r, "contender": name} for r in part["headline"]]
    return new


def test_photos_stand_in_the_file(tmp_path: Path) -> None:
    class OnePhoto:
        def get(self, article_id: str) -> bytes | None:
            return PIXEL if article_id == "bag-1" else None

    page = Page()
    page.feed(render_backtest(told(tmp_path), OnePhoto()))
    pictures = [link for link in page.fetched if link.startswith("data:image/png;base64,")]
    assert len(pictures) == 3  # twice in ann's history, once in what popular shows her


def test_a_comparison_can_be_read_from_either_side() -> None:
    one = row("better", 2.0, 1.6, 4.0)
    other = turned(one)
    assert (other["contender"], other["baseline"], other["verdict"]) == ("popular", "full", "worse")
    assert (other["ratio"], other["ratio_interval"]) == (0.5, [0.25, 0.625])
    assert (other["difference"], other["difference_interval"]) == (-0.0123, [-0.02, 0.001])
    assert turned(other) == one | {"difference_interval": [-0.001, 0.02]}
    assert turned(row("better", 20.0, 6.0, None))["ratio_interval"] == [0.0, 0.1667]
    assert comparison([one], "full", "full", "map@12") is None
    assert comparison([one], "popular", "full", "map@12") == other
    assert comparison([one], "full", "popular", "map@12") == one


def test_the_subject_stands_first_and_the_baseline_second() -> None:
    metrics = {name: {"map@12": {"mean": value}} for name, value in (("a", 0.1), ("b", 0.3), ("c", 0.2), ("d", 0.4))}
    assert order({"pooled": {"subject": "a", "baseline": "c", "metrics": metrics}}) == ["a", "c", "d", "b"]


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (Debian: apt-get install chromium)")
@pytest.mark.parametrize("width", [1400, 390])
@pytest.mark.parametrize("colours", ["light", "dark"])
def test_the_page_fits_a_desk_and_a_phone(tmp_path: Path, width: int, colours: Any) -> None:
    from playwright.sync_api import sync_playwright

    report = told(tmp_path)
    (one,) = report["examples"]
    one["history"] *= 6  # twelve a list, as they are
    for shown in one["lists"]:
        shown["shown"] *= 12 // len(shown["shown"])
    write_backtest_report(tmp_path / "out.html", report)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=colours)
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto((tmp_path / "out.html").as_uri())
        assert asked == [(tmp_path / "out.html").as_uri()]
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        box = page.locator("#time svg").first.bounding_box()
        assert box is not None
        assert box["width"] > 250
        ink, paper = (page.evaluate(f"getComputedStyle(document.body).{name}") for name in ("color", "backgroundColor"))
        assert ink != paper
        browser.close()
