"""Answers of every strategy are those on record: whoever makes the pipeline faster changes none of them.

After a change that is meant to change answers, write them anew:
`python -m tests.parity.test_recorded_answers`, and read the difference before committing it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from serving.messages import STRATEGIES, Filters
from serving.pipeline import Pipeline
from streams.store import StoredCustomer
from tests.support.toy_catalog import CosineRanker, ask, event, pipeline, state

RECORD = Path(__file__).with_name("recorded_answers.json")
CUSTOMERS = {
    "habit": state(event(40, "bread"), event(60, "bread"), event(60, "milk", price=1.5), event(80, "bread", n=2)),
    "looker": state(event(90, "hat", type="view"), event(95, "shirt", type="cart"), event(96, "socks")),
    "both": state(event(10, "socks"), event(70, "cheese"), event(97, "rolls", price=None), event(97, "apple")),
    "stranger": None,
    "yara": None,
}
# Each puts another part of the features to the test.
RANKED_BY = ("two_tower_cosine", "bought_decayed", "subcategory_due", "related_sum", "content_nearest", "found_by")
ASKED = (*STRATEGIES, *(f"full by {name}" for name in RANKED_BY))


def answers(given: Pipeline, strategy: str) -> dict[str, list[list[Any]]]:
    """customer -> (article, score, source) of everything shown, with and without what was bought."""
    found = {}
    for name, known in CUSTOMERS.items():
        for filters in (Filters(), Filters(exclude_bought=True)):
            stored = None if known is None else StoredCustomer(known, 1)
            request = ask(name, k=8, strategy=strategy, filters=filters)
            (answer,) = given.recommend([request], [stored])
            key = f"{name}, new only" if filters.exclude_bought else name
            found[key] = [[item.article_id, item.score, item.source] for item in answer.items]
    return found


def of(asked: str) -> dict[str, list[list[Any]]]:
    strategy, _, feature = asked.partition(" by ")
    return answers(pipeline(CosineRanker(feature), depth=3) if feature else pipeline(), strategy)


@pytest.mark.parametrize("asked", ASKED)
def test_answers_are_those_on_record(asked: str) -> None:
    expected, found = json.loads(RECORD.read_text())[asked], of(asked)
    assert found.keys() == expected.keys()
    for customer, items in expected.items():
        assert [[article, source] for article, _, source in found[customer]] == [
            [article, source] for article, _, source in items
        ]
        assert [score for _, score, _ in found[customer]] == pytest.approx([score for _, score, _ in items], abs=1e-6)


def write() -> None:
    """A line a customer, so that a difference can be read."""
    parts = []
    for asked in ASKED:
        lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(items)}" for name, items in of(asked).items())
        parts.append(f" {json.dumps(asked)}: {{\n{lines}\n }}")
    RECORD.write_text("{\n" + ",\n".join(parts) + "\n}\n")


if __name__ == "__main__":
    write()
