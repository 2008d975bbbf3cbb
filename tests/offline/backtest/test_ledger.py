"""A step is there when it is whole, and holds what was said; what was bought comes apart from it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from infra.errors import DataError
from offline.backtest.ledger import PREDICTIONS, Ledger, StepNote
from offline.backtest.plan import Step
from offline.backtest.reveal import buyers, truth
from serving.messages import Item, Recommendations
from tests.offline.backtest.toy_backtest import START, WEEK, toy_log

CUT = START + 8 * WEEK  # behind the ordinary purchases
STEP = Step(3, CUT, CUT + WEEK, 0, 3)
NOTE = StepNote(
    number=3,
    cut=STEP.cut,
    until=STEP.until,
    bundle_ids={"full": "20200701T000000Z-1234567"},
    trained_through={"full": CUT},
    learned=False,
    built=True,
    events=5,
    outcomes={"applied": 5},
    customers=1,
    seconds={"fold": 0.5},
    peak_mb=100.0,
)


def answer(customer: str, articles: list[str], ms: float = 0.0) -> Recommendations:
    items = [Item(article_id=a, rank=n, score=1.0 / n, source="popular") for n, a in enumerate(articles, start=1)]
    return Recommendations(
        request_id="r",
        customer_id=customer,
        items=items,
        bundle_id="b",
        cold_start=customer == "new",
        as_of=None if customer == "new" else datetime(2020, 7, 1, 12, tzinfo=UTC),
        latency_ms=ms,
    )


def test_a_sealed_step_says_what_was_said(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.seal(NOTE, [("full", answer("anna", ["a", "b"], 1.5)), ("full", answer("new", []))])
    assert ledger.sealed == [3]
    assert ledger.note(3) == NOTE
    table = ledger.predictions(3)
    assert table.schema.equals(PREDICTIONS)
    assert table.to_pylist() == [
        {
            "contender": "full",
            "customer_id": "anna",
            "article_ids": ["a", "b"],
            "cold": False,
            "as_of": datetime(2020, 7, 1, 12, tzinfo=UTC),
            "ms": 1.5,
        },
        {
            "contender": "full",
            "customer_id": "new",
            "article_ids": [],
            "cold": True,
            "as_of": None,
            "ms": None,
        },
    ]


def test_lists_without_their_note_are_no_sealed_step(tmp_path: Path) -> None:
    """As a kill between the two files leaves them."""
    ledger = Ledger(tmp_path)
    ledger.seal(NOTE, [])
    (tmp_path / "step-0003.json").unlink()
    assert ledger.sealed == []
    with pytest.raises(DataError, match="step 3 is not sealed"):
        ledger.predictions(3)


def test_a_damaged_step_is_named(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.seal(NOTE, [])
    (tmp_path / "step-0003.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"step-0003.parquet: not a whole Parquet file"):
        ledger.predictions(3)


def test_the_truth_is_one_row_a_customer_and_article(tmp_path: Path) -> None:
    hour = timedelta(hours=1)
    bought = [
        (CUT - hour, "anna", "top-1", 5.0),  # before the step
        (CUT, "anna", "top-2", 5.0),
        (CUT + 2 * hour, "anna", "top-2", 7.0),
        (CUT + hour, "anna", "shoe-1", 3.0),
        (CUT + hour, "bert", "top-1", 2.0),
        (STEP.until, "cora", "top-1", 2.0),  # after it
    ]
    log = toy_log(tmp_path / "shop", bought)
    ledger = Ledger(tmp_path)
    ledger.seal(NOTE, [])
    found = truth(ledger, log, STEP)
    assert found.bought() == {"anna": {"shoe-1": 3.0, "top-2": 12.0}, "bert": {"top-1": 2.0}}
    assert found.customers == buyers(log, STEP) == ["anna", "bert"]
    assert found.purchases.slice(1, 1).to_pylist() == [
        {
            "customer_id": "anna",
            "article_id": "top-2",
            "occurred_at": CUT,
            "quantity": 2,
            "spend": 12.0,
            "category": "top",
            "channel": 1,
        }
    ]
