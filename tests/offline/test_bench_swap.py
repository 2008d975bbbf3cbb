"""The judgement of `bench swap` on a log that a reader can count: what failed, what was mixed, what was slow."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from offline.swap_judge import K, Log, Turn, judge
from serving.messages import Item, Recommendations, RequestError, encode_recommendations


def answer(bundle: str, first: int, **fields: Any) -> Recommendations:
    """Articles first, first + 1, ... with falling scores."""
    items = [Item(article_id=f"a{first + n}", rank=n + 1, score=1.0 - n / 100, source="popular") for n in range(K)]
    given = {"request_id": "r", "customer_id": "anna", "bundle_id": bundle, "items": items}
    return Recommendations(**{**given, **fields})


EXPECTED = {"red": {"anna": answer("red", 0)}, "blue": {"anna": answer("blue", 50)}}


def judged(*lines: tuple[float, float | None, Recommendations | None]) -> dict[str, Any]:
    """Lines: sent at, seconds to the answer, answer. Two turns, quiet from 1 and 31 s, swapping from 10 and 40 s, over
    at 20 and 50 s; the channel moves to blue at 10 s."""
    turns = [Turn(1.0, 10.0, 20.0), Turn(31.0, 40.0, 50.0)]
    log = Log(moved=[(10.0, "blue")], turns=turns, late=[(0.5, 9.0), (2.0, 0.004)])
    for number, (sent, took, given) in enumerate(lines):
        log.sent[str(number)] = ("anna", sent)
        if given is not None and took is not None:
            raw = encode_recommendations(msgspec.structs.replace(given, request_id=str(number)))
            log.heard.append((raw, sent + took))
    return judge(log, EXPECTED)


def test_good_answers_of_both_bundles() -> None:
    red, blue = answer("red", 0), answer("blue", 50)
    found = judged(
        (0.5, 3.0, red),  # before the first turn: no time of it counts
        (1.0, 0.010, red),
        (9.9, 0.5, red),  # asked for in the quiet, held up by the swap
        (10.4, 0.1, blue),
        (20.0, 0.3, blue),  # between the turns
        (32.0, 0.020, blue),
        (41.0, 0.2, blue),
    )
    assert (found["failed"], found["mixed"]) == (0, 0)
    assert found["takes_effect_s"] == {"p50": 0.4, "max": 0.4}  # the last answer of the old bundle
    assert found["measured"] == {"quiet": 2, "swapping": 3, "around_a_swap": 2}
    turns = [(one["quiet"], one["swapping"]) for one in found["p99_by_turn"]]
    assert turns == [(10.0, 496.0), (20.0, 200.0)]
    assert found["p99_ms_of_all"]["quiet"] == 19.9 and found["p99_ratio"] == pytest.approx(494.0 / 19.9, abs=0.001)
    assert found["client_late_ms"] == {"p99": 4.0, "max": 4.0}
    assert found["customers_whose_lists_differ"] == 1.0


def test_articles_or_scores_of_the_other_bundle_are_mixed() -> None:
    red, blue = answer("red", 0), answer("blue", 50)
    half = replace_items(red, [*red.items[:6], *blue.items[6:]])
    scores = replace_items(red, [item_with(item, item.score + 0.01) for item in red.items])
    lines = [(n, 0.1, given) for n, given in enumerate((red, answer("blue", 0), half, scores, answer("green", 0)))]
    assert judged(*lines)["mixed"] == 4


def test_no_answer_errors_degraded_and_short_lists_have_failed() -> None:
    red = answer("red", 0)
    lines = (
        (1.0, None, None),
        (2.0, 0.1, answer("red", 0, error=RequestError(code="internal", message="", retryable=False))),
        (3.0, 0.1, answer("red", 0, degraded=["ranker_failed"])),
        (4.0, 0.1, replace_items(red, red.items[:-1])),
        (5.0, 0.1, red),
    )
    found = judged(*lines)
    assert (found["failed"], found["mixed"], found["requests"]) == (4, 0, 5)
    assert found["failures"] == {"no_answer": 1, "internal": 1, "ranker_failed": 1, "short": 1}


def test_ratio_is_the_median_of_rounds_of_whole_turns() -> None:
    """Three rounds of two turns, an answer quiet and one swapping in each: the slower ones of a round decide."""
    red = answer("red", 0)
    turns = [(0.010, 0.020), (0.008, 0.016), (0.010, 0.900), (0.010, 0.010), (0.010, 0.020), (0.020, 0.030)]
    log = Log(moved=[(5.0, "blue")], turns=[Turn(20.0 * n, 20.0 * n + 5, 20.0 * n + 10) for n in range(len(turns))])
    for turn, (quiet, swapping) in zip(log.turns, turns, strict=True):
        for sent, took in ((turn.began + 1, quiet), (turn.middle + 1, swapping)):
            number = str(len(log.sent))
            log.sent[number] = ("anna", sent)
            log.heard.append((encode_recommendations(msgspec.structs.replace(red, request_id=number)), sent + took))
    found = judge(log, EXPECTED, rounds=3)
    assert [round(one["ratio"], 1) for one in found["p99_by_round"]] == [2.0, 89.1, 1.5]
    assert found["p99_by_round"][2] == pytest.approx({"quiet": 19.9, "swapping": 29.9, "ratio": 1.503})
    assert found["p99_ratio"] == found["p99_by_round"][0]["ratio"]
    assert found["p99_ms_of_all"]["swapping"] > 800  # of all rounds, nothing left out


def replace_items(given: Recommendations, items: list[Item]) -> Recommendations:
    return answer(given.bundle_id or "", 0, items=items)


def item_with(item: Item, score: float) -> Item:
    return Item(article_id=item.article_id, rank=item.rank, score=score, source=item.source)
