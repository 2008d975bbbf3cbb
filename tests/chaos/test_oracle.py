"""The oracle finds each thing that can be wrong, and nothing where nothing is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import msgspec
import numpy as np
import numpy.typing as npt
import pytest

from serving.messages import Item, RecommendationRequest, Recommendations, encode_recommendations
from streams.dead_letters import encode_dead_letter
from streams.events import Event, encode_event
from streams.processor import RawMessage
from streams.redis_store import pack
from streams.state import CustomerState, empty_state, fold
from streams.store import StoredCustomer
from streams.topics import DEAD_LETTERS, RECOMMENDATIONS, REQUESTS, TRANSACTIONS
from tests.chaos.evidence import Archived, Evidence, Message
from tests.chaos.oracle import DIFFERENT, DOUBLED, LOST, UNANSWERED, Verdict, judge

NOON = datetime(2020, 7, 27, 12, tzinfo=UTC)


class Toy:
    """Two numbers of a state."""

    space = "toy"

    def encode(self, states: Sequence[CustomerState]) -> npt.NDArray[np.float32]:
        return np.array([[len(state), float(state.quantities.sum())] for state in states], np.float32)


def event(number: int, customer: str = "anna") -> Event:
    return Event(
        event_id=f"e{number}",
        type="purchase",
        occurred_at=NOON - timedelta(minutes=number),
        customer_id=customer,
        article_id=f"a{number}",
        quantity=number + 1,
    )


EVENTS = [event(0), event(1), event(2), event(3, "bo")]
POISON = b"{"


def stored(events: Sequence[Event], customer: str = "anna", *, doubled: bool = False) -> bytes:
    state, _ = fold(empty_state(customer), events)
    (vector,) = Toy().encode([state])
    if doubled:
        names = ("occurred_at", "keys", "types", "prices", "quantities")
        columns = {name: np.repeat(getattr(state, name), 2) for name in names}
        state = msgspec.structs.replace(state, article_ids=tuple(a for a in state.article_ids for _ in "ab"), **columns)
    return pack(StoredCustomer(state, 0, "toy", vector), 4)


def on(topic: str, values: Sequence[bytes]) -> list[Message]:
    return [Message(topic, 0, offset, 1_000 * offset, b"k", value) for offset, value in enumerate(values)]


def request(number: int) -> bytes:
    return msgspec.json.encode(RecommendationRequest(request_id=f"r{number}", customer_id="anna"))


def answer(number: int, *, score: float = 0.5, as_of: datetime | None = NOON, latency_ms: float = 1.0) -> bytes:
    return encode_recommendations(
        Recommendations(
            request_id=f"r{number}",
            customer_id="anna",
            items=[Item(article_id="a1", rank=1, score=score, source="popular")],
            as_of=as_of,
            latency_ms=latency_ms,
        )
    )


def letter(offset: int, value: bytes = POISON) -> bytes:
    return encode_dead_letter(RawMessage(TRANSACTIONS, 0, offset, b"k", value), reason="rejected", error="why")


# Of five messages the fourth is poison and the last repeats the first.
LOG = [*map(encode_event, EVENTS[:3]), POISON, encode_event(EVENTS[3]), encode_event(EVENTS[0])]
ROWS = [(0, 0, "anna", "e0"), (0, 1, "anna", "e1"), (0, 2, "anna", "e2"), (0, 4, "bo", "e3")]


def evidence(**changes: object) -> Evidence:
    """All as it ought to be, but for the changes: topics by name, or fields of Evidence."""
    topics = {
        TRANSACTIONS: LOG,
        REQUESTS: [request(0), request(1)],
        RECOMMENDATIONS: [answer(0), answer(1), answer(1, latency_ms=7.0)],
        DEAD_LETTERS: [letter(3), letter(3)],
    }
    topics |= {name: values for name, values in changes.items() if name in topics}  # type: ignore[misc]
    whole = Evidence(
        topics={name: on(name, values) for name, values in topics.items()},
        values={"anna": stored(EVENTS[:3]), "bo": stored(EVENTS[3:], "bo")},
        acknowledged={(TRANSACTIONS, 0, offset): value for offset, value in enumerate(LOG)},
        archived=Archived(ROWS, skipped=1, repeated=1),
    )
    return replace(whole, **{name: value for name, value in changes.items() if name not in topics})  # type: ignore[arg-type]


def judged(given: Evidence) -> Verdict:
    return judge(given, Toy(), NOON, unchanging=lambda customer: True)


def test_nothing_is_found_where_all_is_well() -> None:
    verdict = judged(evidence())
    assert verdict.findings == []
    counts = verdict.counts
    assert (counts["events on the log"], counts["distinct events"], counts["refused messages"]) == (5, 4, 1)
    assert (counts["repeated answers"], counts["repeated letters"], counts["answers: ok"]) == (1, 1, 3)


REFUSED = encode_recommendations(Recommendations(request_id=f"invalid-{REQUESTS}-0-1", customer_id="k"))
ANNA, BO = stored(EVENTS[:3]), stored(EVENTS[3:], "bo")

WRONG = {
    "an event is missing": (evidence(values={"anna": stored(EVENTS[:2]), "bo": BO}), {LOST: 1}),
    "a customer is missing": (evidence(values={"anna": ANNA}), {LOST: 1}),
    "each event twice": (evidence(values={"anna": ANNA, "bo": stored(EVENTS[3:], "bo", doubled=True)}), {DOUBLED: 1}),
    "an event of nowhere": (evidence(values={"anna": stored([*EVENTS[:3], event(9)]), "bo": BO}), {DOUBLED: 1}),
    "a customer of nowhere": (evidence(values={"anna": ANNA, "bo": BO, "cy": stored([], "cy")}), {DOUBLED: 1}),
    "another article": (
        evidence(values={"anna": ANNA, "bo": stored([msgspec.structs.replace(EVENTS[3], article_id="zz")], "bo")}),
        {DIFFERENT: 1},
    ),
    "one bit of an embedding": (
        evidence(values={"anna": ANNA[:19] + bytes([ANNA[19] ^ 1]) + ANNA[20:], "bo": BO}),
        {DIFFERENT: 1},
    ),
    "a value that is none": (evidence(values={"anna": ANNA, "bo": b"what"}), {DIFFERENT: 1}),
    "a request without an answer": (evidence(**{RECOMMENDATIONS: [answer(1)]}), {UNANSWERED: 1}),
    "an answer to nobody": (evidence(**{REQUESTS: [request(0)]}), {DOUBLED: 1}),
    "another answer from the same state": (
        evidence(**{RECOMMENDATIONS: [answer(0), answer(1), answer(1, score=0.25)]}),
        {DIFFERENT: 1},
    ),
    "a poisoned request without a letter": (
        evidence(**{REQUESTS: [request(0), b"["], RECOMMENDATIONS: [answer(0), REFUSED]}),
        {LOST: 1},
    ),
    "no letter": (evidence(**{DEAD_LETTERS: []}), {LOST: 1}),
    "a letter of an event": (evidence(**{DEAD_LETTERS: [letter(3), letter(0)]}), {DOUBLED: 1}),
    "a letter with other bytes": (evidence(**{DEAD_LETTERS: [letter(3, b"}")]}), {DIFFERENT: 1}),
    "an acknowledged message is not on the log": (evidence(acknowledged={(TRANSACTIONS, 0, 17): b"x"}), {LOST: 1}),
    "not archived": (evidence(archived=Archived(ROWS[:3], 1, 1)), {LOST: 1}),
    "archived twice": (evidence(archived=Archived([*ROWS, ROWS[0]], 1, 1)), {DOUBLED: 1}),
    "archived at another offset": (evidence(archived=Archived([*ROWS[:3], (0, 3, "bo", "e3")], 1, 1)), {DIFFERENT: 1}),
    "a message the archive did not read": (evidence(archived=Archived(ROWS, 1, 0)), {LOST: 1}),
}


@pytest.mark.parametrize("name", WRONG)
def test_each_wrong_is_found_once_and_called_by_its_name(name: str) -> None:
    given, expected = WRONG[name]
    assert Counter(finding.kind for finding in judged(given).findings) == expected


def test_a_later_answer_of_a_changing_customer_may_know_more_and_never_less() -> None:
    more = evidence(**{RECOMMENDATIONS: [answer(0), answer(1, as_of=NOON - timedelta(1)), answer(1, score=0.25)]})
    less = evidence(**{RECOMMENDATIONS: [answer(0), answer(1), answer(1, as_of=NOON - timedelta(1))]})
    kinds = [judge(given, Toy(), NOON, unchanging=lambda customer: False).findings for given in (more, less)]
    assert kinds[0] == []
    assert [finding.kind for finding in kinds[1]] == [DIFFERENT]
