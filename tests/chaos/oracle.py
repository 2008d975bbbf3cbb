"""What ought to be, computed anew from the topics' log, against what is. Pure: evidence in, findings out.

States come from `streams.replay.replay_states`, which sorts columns and never folds one event onto a state, so the two
sides share the parser and no more. The contract that is checked:

- every event on the log is in its customer's state once; the state's bytes and the embedding's are those of the log;
- every refused message is on `dead-letters` under its coordinates; the same letter may stand there again after a crash;
- every request is answered or refused with a reason at least once; after a crash an answer may come again, made anew:
  the same where the customer's state is the same, and never from an older one;
- the archive holds every event of the log once.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from infra.errors import DataError, InvalidMessage
from serving.messages import Recommendations, parse_request
from streams.dead_letters import DeadLetter, decode_dead_letter
from streams.events import Event, id_key
from streams.processor import admitted
from streams.redis_store import pack, unpack
from streams.replay import replay_states
from streams.state import CustomerState
from streams.store import StoredCustomer
from streams.topics import DEAD_LETTERS, RECOMMENDATIONS, REQUESTS, TRANSACTIONS
from tests.chaos.evidence import Evidence, Message, Place, shown

LOST, DOUBLED, DIFFERENT, UNANSWERED = "lost", "doubled", "different", "unanswered"
KINDS = (LOST, DOUBLED, DIFFERENT, UNANSWERED)


class Encoder(Protocol):
    """What is needed of `streams.encoder.QueryEncoder`."""

    @property
    def space(self) -> str: ...

    def encode(self, states: Sequence[CustomerState]) -> npt.NDArray[np.float32]: ...


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it ought to be; `at_ms`: when its message came onto the log, None where it has none."""

    kind: str
    what: str
    at_ms: int | None = None


@dataclass(frozen=True)
class Verdict:
    findings: list[Finding]
    counts: Counter[str]

    def count(self, kind: str) -> int:
        return sum(finding.kind == kind for finding in self.findings)


def judge(evidence: Evidence, encoder: Encoder, latest: datetime, *, unchanging: Callable[[str], bool]) -> Verdict:
    """Compare everything.

    Args:
        latest: events after it had to be refused.
        unchanging: says of a customer that the state was the same whenever a request was answered.
    """
    counts: Counter[str] = Counter()
    events: list[tuple[Event, Message]] = []
    refused: dict[Place, Message] = {}
    for message in evidence.topics[TRANSACTIONS]:
        try:
            events.append((admitted(message.value, latest), message))
        except InvalidMessage:
            refused[message.place] = message
    findings = _log(evidence)
    findings += _states(events, evidence.values, encoder, counts)
    findings += _answers(evidence, refused, unchanging, counts)
    findings += _letters(evidence.topics[DEAD_LETTERS], refused, counts)
    findings += _archive(events, evidence, counts)
    counts["events on the log"] = len(events)
    counts["refused messages"] = len(refused)
    return Verdict(findings, counts)


def _log(evidence: Evidence) -> list[Finding]:
    there = {message.place: message for messages in evidence.topics.values() for message in messages}
    return [
        Finding(LOST, f"{shown(place)} was acknowledged by the broker and is not on the log")
        for place, value in evidence.acknowledged.items()
        if place not in there or (there[place].value or b"") != value
    ]


def _states(
    events: Sequence[tuple[Event, Message]], values: Mapping[str, bytes], encoder: Encoder, counts: Counter[str]
) -> list[Finding]:
    findings: list[Finding] = []
    expected = replay_states([_table([event for event, _ in events])])
    first: dict[tuple[str, str], Message] = {}
    for event, message in events:
        first.setdefault((event.customer_id, event.event_id), message)
    counts["distinct events"] = len(first)
    counts["out of order"] = _out_of_order([event for event, _ in events])
    counts["customers"] = len(expected)
    by_customer: dict[str, list[tuple[str, Message]]] = defaultdict(list)
    for (customer, event_id), message in first.items():
        by_customer[customer].append((event_id, message))
    for customer in sorted(expected.keys() | values.keys()):
        wanted, raw = expected.get(customer), values.get(customer)
        if wanted is None:
            findings.append(Finding(DOUBLED, f"customer {customer!r} is stored and has no event on the log"))
            continue
        try:
            stored = None if raw is None else unpack(raw)
        except DataError as error:
            findings.append(Finding(DIFFERENT, f"customer {customer!r}: {error}"))
            continue
        problems = _state(customer, wanted, stored, by_customer[customer])
        if stored is not None and not problems:
            problems = _embedding(customer, wanted, stored, encoder)
        findings += problems
    return findings


def _out_of_order(events: Sequence[Event]) -> int:
    """Events that stand on the log behind a later one of their customer."""
    newest: dict[str, datetime] = {}
    count = 0
    for event in events:
        before = newest.setdefault(event.customer_id, event.occurred_at)
        count += event.occurred_at < before
        newest[event.customer_id] = max(before, event.occurred_at)
    return count


def _state(
    customer: str, wanted: CustomerState, stored: StoredCustomer | None, events: Sequence[tuple[str, Message]]
) -> list[Finding]:
    when = {id_key(event_id): message.time_ms for event_id, message in events}
    ought = Counter(_keys(wanted))
    found = Counter() if stored is None else Counter(_keys(stored.state))
    findings = [
        Finding(LOST, f"{customer}: event {key:016x} is not in the state", when.get(key))
        for key in (ought - found).elements()
    ]
    findings += [
        Finding(DOUBLED, f"{customer}: event {key:016x} is in the state once more than on the log", when.get(key))
        for key in (found - ought).elements()
    ]
    if stored is not None and not findings:
        counted, distinct = len(stored.state.totals), len(events)
        if counted != distinct:
            kind = LOST if counted < distinct else DOUBLED
            findings += [Finding(kind, f"{customer}: {counted} events in the totals, {distinct} on the log")]
        elif _bytes(stored.state) != _bytes(wanted):
            findings.append(Finding(DIFFERENT, f"{customer}: the same events, another state"))
    return findings


def _keys(state: CustomerState) -> list[int]:
    """Of the window and of what is still known beyond it."""
    beyond = [] if state.past is None else state.past.keys.tolist()
    return [*beyond, *state.keys.tolist()]


def _bytes(state: CustomerState) -> bytes:
    return pack(StoredCustomer(state), 0)


def _embedding(customer: str, wanted: CustomerState, stored: StoredCustomer, encoder: Encoder) -> list[Finding]:
    if stored.space != encoder.space or stored.embedding is None:
        return [Finding(DIFFERENT, f"{customer}: embedding of space {stored.space}, not of {encoder.space}")]
    (vector,) = encoder.encode([wanted])
    if vector.astype("<f4").tobytes() == stored.embedding.astype("<f4").tobytes():
        return []
    away = float(np.abs(vector - stored.embedding).max())
    return [Finding(DIFFERENT, f"{customer}: the embedding is not that of the state (by up to {away:.2g})")]


def _table(events: Sequence[Event]) -> pa.Table:
    columns = {
        name: pa.array([getattr(event, name) for event in events], kind)
        for name, kind in (
            ("event_id", pa.string()),
            ("type", pa.string()),
            ("customer_id", pa.string()),
            ("article_id", pa.string()),
            ("price", pa.float64()),
            ("quantity", pa.int32()),
        )
    }
    moments = [event.occurred_at.astimezone(UTC) for event in events]
    return pa.table({**columns, "occurred_at": pa.array(moments, pa.timestamp("us", "UTC"))})


def _answers(
    evidence: Evidence, refused: dict[Place, Message], unchanging: Callable[[str], bool], counts: Counter[str]
) -> list[Finding]:
    """Adds the requests that had to be refused to `refused`."""
    asked: dict[str, list[Message]] = defaultdict(list)
    for message in evidence.topics[REQUESTS]:
        try:
            asked[parse_request(message.value or b"").request_id].append(message)
        except InvalidMessage:
            refused[message.place] = message
            asked[_id_of(message)].append(message)
    answers: dict[str, list[Recommendations]] = defaultdict(list)
    decoder = msgspec.json.Decoder(Recommendations)
    for message in evidence.topics[RECOMMENDATIONS]:
        answer = decoder.decode(message.value or b"")
        answers[answer.request_id].append(answer)
        counts[_sort(answer)] += 1
    findings = []
    for request_id in asked.keys() | answers.keys():
        messages, given = asked.get(request_id, []), answers.get(request_id, [])
        missing = len(messages) - len(given)
        findings += [
            Finding(UNANSWERED, f"request {request_id} has no answer", message.time_ms)
            for message in messages[: max(0, missing)]
        ]
        if not messages:
            findings.append(Finding(DOUBLED, f"an answer to request {request_id}, which nobody made"))
        elif missing < 0:
            counts["repeated answers"] -= missing
            counts["repeated answers from one state"] -= missing * unchanging(given[0].customer_id)
        at_ms = messages[0].time_ms if messages else None
        findings += [Finding(DIFFERENT, f"request {request_id}: {why}", at_ms) for why in _unequal(given, unchanging)]
    counts["requests"] = sum(len(messages) for messages in asked.values())
    return findings


def _sort(answer: Recommendations) -> str:
    if answer.error is not None:
        return f"answers: {answer.error.code}"
    return "answers: degraded" if answer.degraded else "answers: ok"


def _unequal(given: Sequence[Recommendations], unchanging: Callable[[str], bool]) -> list[str]:
    """Why the answers to one request, in their order, contradict each other."""
    if len({answer.customer_id for answer in given}) > 1:
        return ["answers for several customers"]
    sound = [_timeless(answer) for answer in given if answer.error is None and not answer.degraded]
    for before, after in itertools.pairwise(sound):
        if unchanging(after.customer_id) and before != after:
            return ["two answers from one state differ"]
        if before.as_of is not None and (after.as_of is None or after.as_of < before.as_of):
            return [f"the later answer knows less ({after.as_of} after {before.as_of})"]
    return []


def _timeless(answer: Recommendations) -> Recommendations:
    """The answer without what differs each time."""
    return msgspec.structs.replace(answer, latency_ms=0.0)


def _id_of(message: Message) -> str:
    """Under which id a message that is no request is answered."""
    try:
        given = msgspec.json.decode(message.value or b"")["request_id"]
    except (msgspec.DecodeError, KeyError, TypeError):
        given = None
    derived = f"invalid-{message.topic}-{message.partition}-{message.offset}"
    return given if isinstance(given, str) and given else derived


def _letters(found: Sequence[Message], refused: Mapping[Place, Message], counts: Counter[str]) -> list[Finding]:
    letters: dict[Place, list[DeadLetter]] = defaultdict(list)
    for message in found:
        letter = decode_dead_letter(message.value or b"")
        letters[letter.topic, letter.partition, letter.offset].append(letter)
    findings = []
    for place in refused.keys() | letters.keys():
        message, kept = refused.get(place), letters.get(place, [])
        where = shown(place)
        if message is None:
            findings.append(Finding(DOUBLED, f"a dead letter of {where}, which is no poison"))
        elif not kept:
            findings.append(Finding(LOST, f"no dead letter of {where}", message.time_ms))
        elif any(letter.raw_bytes != (message.value or b"") for letter in kept):
            findings.append(Finding(DIFFERENT, f"the dead letter of {where} holds other bytes", message.time_ms))
        counts["repeated letters"] += max(0, len(kept) - 1)
    counts["letters"] = len(found)
    return findings


def _archive(events: Sequence[tuple[Event, Message]], evidence: Evidence, counts: Counter[str]) -> list[Finding]:
    archived = evidence.archived
    if archived is None:
        return []
    findings = []
    places = Counter((partition, offset) for partition, offset, *_ in archived.rows)
    findings += [
        Finding(DOUBLED, f"{TRANSACTIONS}/{place[0]}@{place[1]} is in the archive {count} times")
        for place, count in places.items()
        if count > 1
    ]
    there = {(message.partition, message.offset): event for event, message in events}
    kept = {(customer, event_id) for *_, customer, event_id in archived.rows}
    # A compacted day keeps one row of an event that stands on the log again; what it left out is counted.
    findings += [
        Finding(LOST, f"{TRANSACTIONS}/{message.partition}@{message.offset} is not in the archive", message.time_ms)
        for event, message in events
        if (event.customer_id, event.event_id) not in kept
    ]
    for partition, offset, customer, event_id in archived.rows:
        event = there.get((partition, offset))
        if event is None or (event.customer_id, event.event_id) != (customer, event_id):
            what = f"{TRANSACTIONS}/{partition}@{offset} is event {event_id!r} in the archive and not on the log"
            findings.append(Finding(DIFFERENT, what))
    read = len(archived.rows) + archived.repeated + archived.skipped
    on_log = len(evidence.topics[TRANSACTIONS])
    if read != on_log and not findings:
        kind = LOST if read < on_log else DOUBLED
        findings.append(Finding(kind, f"the archive has read {read} messages, the log has {on_log}"))
    counts["archived"] = len(archived.rows)
    return findings
