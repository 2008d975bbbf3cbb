"""What was bought before the window of a customer's state stays hidden, or the answer says that nobody knows."""

from __future__ import annotations

from typing import Any

from serving.messages import STRATEGIES, Filters
from streams.events import Event
from streams.state import Bounds, empty_state, fold
from streams.store import StoredCustomer
from tests.support.toy_catalog import N, ask, event, pipeline


def test_what_was_bought_a_thousand_events_ago_stays_hidden() -> None:
    """A state keeps 1,000 events, and what was bought before them. By every strategy, and in what fills up."""
    looks = [event(10 + n / 1_000, "hat", type="view") for n in range(1_000)]
    known, _ = fold(empty_state("anna"), [event(1, "bread"), *looks])
    assert "bread" not in known.article_ids
    for strategy in STRATEGIES:
        for hide in (True, False):
            wanted = ask(k=N, strategy=strategy, filters=Filters(exclude_bought=hide))
            (answer,) = pipeline().recommend([wanted], [StoredCustomer(known, 1)])
            assert answer.degraded == []
            assert ("bread" in {item.article_id for item in answer.items}) == (not hide)


def test_more_purchases_than_can_be_remembered_are_told() -> None:
    """One article bought before the window is remembered here: of two, nobody knows one."""
    bounds = Bounds(window=3, ledger=3, bought=1)
    looks = [event(30 + n, "hat", type="view") for n in range(3)]

    def degraded(*events: Event, **fields: Any) -> list[str]:
        known, _ = fold(empty_state("anna"), events, bounds)
        (answer,) = pipeline().recommend([ask(**fields)], [StoredCustomer(known, 1)])
        return answer.degraded

    hidden = Filters(exclude_bought=True)
    assert degraded(event(20, "bread"), event(21, "bread"), *looks, filters=hidden) == []
    assert degraded(event(20, "bread"), event(21, "milk"), *looks, filters=hidden) == ["bought_unknown"]
    assert degraded(event(20, "bread"), event(21, "milk"), *looks) == []  # nobody asked that it be kept
    assert degraded(event(20, "milk", type="view"), event(21, "bread"), *looks, filters=hidden) == []
