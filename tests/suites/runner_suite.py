"""What every backtest runner must do. A test module derives `RunnerSuite` and gives the fixture `runner`.

The shop is that of tests/support/tiny.py: even customers buy tops, odd ones shoes, on one day of each week (the number
of the customer, modulo seven) two articles each.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import msgspec
import numpy as np

from infra.bundle import Bundle
from offline.backtest.runner import Runner
from offline.event_log import EventLog, import_data
from serving.golden import make_golden
from serving.messages import STRATEGIES, RecommendationRequest, Recommendations, encode_recommendations
from serving.runtime import load_runtime
from serving.statistics import ItemStatistics
from streams.state import Outcome
from tests.support.remade import remade
from tests.support.tiny import CUSTOMERS, START, article_number, customer_id, plant, write_tiny_shop
from tests.support.tiny_fixture import Tiny

WEEK = timedelta(days=7)
CUT = START + 7 * WEEK
SHOE = article_number("shoe", 0)


def requests(*, strategy: str = "full", k: int = 5) -> list[RecommendationRequest]:
    """Of every customer and of one that nobody knows."""
    who = [*map(customer_id, range(CUSTOMERS)), "nobody"]
    return [
        RecommendationRequest(request_id=f"{strategy}-{name}", customer_id=name, k=k, strategy=strategy) for name in who
    ]


def everything() -> list[RecommendationRequest]:
    return [request for strategy in STRATEGIES for request in requests(strategy=strategy, k=12)]


def as_bytes(answers: list[Recommendations]) -> list[bytes]:
    """The messages as they stand on the topic, but for what a clock says."""
    return [encode_recommendations(msgspec.structs.replace(answer, latency_ms=0.0)) for answer in answers]


def articles(answer: Recommendations) -> list[str]:
    return [item.article_id for item in answer.items]


def backwards(bundle: Bundle, directory: Path) -> Bundle:
    """The same with its list of the popular turned round, so that everybody sees which one answers."""

    def turn(copy: Path) -> None:
        statistics = ItemStatistics.load(copy / "statistics.npz", bundle.manifest.counts["items"])
        replace(statistics, top=np.ascontiguousarray(statistics.top[:, ::-1])).save(copy / "statistics.npz")

    draft = remade(bundle, directory / "draft", turn)
    golden = make_golden(load_runtime(draft), [None], draft.manifest.trained_through)
    return remade(draft, directory / "final", lambda copy: (copy / "golden.jsonl").write_bytes(golden))


def with_more(directory: Path, *lines: tuple[datetime, str, str]) -> EventLog:
    """The shop's log and purchases (day, customer, article) beside it; what both hold has the same event ids."""
    shop = write_tiny_shop(directory / "shop")
    plant(shop, [(*line, 9.5) for line in lines])
    return import_data("hm", shop, directory / "log")


class RunnerSuite:
    async def test_an_event_counts_once(self, runner: Runner, tiny: Tiny) -> None:
        await runner.take(tiny.bundle)
        assert await runner.fold(tiny.log, None, CUT) == {Outcome.APPLIED: 7 * CUSTOMERS * 2}
        once = await runner.answer(everything(), CUT)
        assert await runner.fold(tiny.log, None, CUT) == {Outcome.DUPLICATE: 7 * CUSTOMERS * 2}
        assert as_bytes(await runner.answer(everything(), CUT)) == as_bytes(once)

    async def test_what_comes_late_counts_and_a_stranger_becomes_known(
        self, runner: Runner, tiny: Tiny, tmp_path: Path
    ) -> None:
        """Customer 0 never buys shoes; the purchase of one, weeks ago, comes after everything else."""
        late = with_more(tmp_path, (START + WEEK, customer_id(0), SHOE), (START + WEEK, "nobody", SHOE))
        await runner.take(tiny.bundle)
        await runner.fold(tiny.log, None, CUT)
        asked = requests(strategy="repurchase", k=12)
        before, stranger = (await runner.answer(asked, CUT))[0], (await runner.answer(asked, CUT))[-1]
        assert SHOE not in [item.article_id for item in before.items if item.source == "repurchase"]
        assert (stranger.cold_start, stranger.as_of) == (True, None)
        outcomes = await runner.fold(late, None, CUT)
        assert outcomes == {Outcome.APPLIED: 2, Outcome.DUPLICATE: 7 * CUSTOMERS * 2}
        after = await runner.answer(asked, CUT)
        assert SHOE in [item.article_id for item in after[0].items if item.source == "repurchase"]
        assert after[0].as_of == before.as_of  # an older event is not news
        assert (after[-1].cold_start, after[-1].as_of) == (False, START + WEEK)
        assert articles(after[-1])[0] == SHOE

    async def test_the_bundle_taken_last_answers(self, runner: Runner, tiny: Tiny, tmp_path: Path) -> None:
        turned = backwards(tiny.bundle, tmp_path)
        asked = requests(strategy="popular", k=13)
        await runner.take(tiny.bundle)
        await runner.fold(tiny.log, None, CUT)
        first = (await runner.answer(asked, CUT))[-1]
        await runner.take(turned)
        await runner.fold(tiny.log, CUT, CUT + WEEK)
        second = (await runner.answer(asked, CUT + WEEK))[-1]
        await runner.take(tiny.bundle)
        third = (await runner.answer(asked, CUT + WEEK))[-1]
        assert [answer.bundle_id for answer in (first, second, third)] == [
            tiny.bundle_id,
            turned.bundle_id,
            tiny.bundle_id,
        ]
        assert articles(second)[: len(articles(first))] == articles(first)[::-1]
        assert articles(third) == articles(first)

    async def test_nobody_is_asked_for_more_than_is_known(self, runner: Runner, tiny: Tiny, tmp_path: Path) -> None:
        """The events of a moment are not known at it, nor is anything after it, whatever the log holds."""
        planted = with_more(tmp_path, (CUT, customer_id(1), SHOE), (CUT + WEEK, "nobody", SHOE))
        await runner.take(tiny.bundle)
        assert (await runner.fold(planted, None, CUT)).total() == 7 * CUSTOMERS * 2
        then = await runner.answer(requests(), CUT)
        assert [answer.as_of for answer in then[:2]] == [CUT - WEEK, CUT - WEEK + timedelta(days=1)]
        assert then[-1].cold_start
        # Customers 0, 7, 14, 21 buy two articles each on the day of the cut, customer 1 the planted one.
        assert (await runner.fold(planted, CUT, CUT + timedelta(days=1))).total() == 9
        later = await runner.answer(requests(), CUT + timedelta(days=1))
        assert [answer.as_of for answer in later[:2]] == [CUT, CUT]
        assert later[-1].cold_start

    async def test_answers_are_in_the_order_of_the_requests(self, runner: Runner, tiny: Tiny) -> None:
        await runner.take(tiny.bundle)
        await runner.fold(tiny.log, None, CUT)
        asked = everything()[::-1]
        answers = await runner.answer(asked, CUT)
        assert [(a.request_id, a.customer_id, a.strategy) for a in answers] == [
            (r.request_id, r.customer_id, r.strategy) for r in asked
        ]
        assert all(answer.error is None and not answer.degraded for answer in answers)
        assert await runner.answer([], CUT) == []
