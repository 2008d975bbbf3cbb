"""What `bench swap` counts: answers that failed, answers of no one bundle, and how long quiet ones and others took.

Every answer must be what the bundle that it names gives, article by article. Times are the client's, from a request's
send to the arrival of its answer. A p99 is decided by a few moments of a second, and some of them are others': Apache
Kafka compiles a part of itself on one of two processors, whoever swaps. So the ratio is the median of the rounds'
ratios; each round's is of the 99th percentiles of all its answers, and is told beside it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np

from serving.messages import Recommendations

K = 12
# An answer belongs to a swap from the move of the channel until so long after the last answer of the old bundle.
AFTER_S = 0.5
SCORE_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Turn:
    """Quiet from `began` to `middle`, swapping from there to `ended`."""

    began: float
    middle: float
    ended: float


@dataclass
class Log:
    """What the client saw; times are from time.perf_counter(). Outside of turns failures count and times do not.

    sent: customer and time by request id. heard: answers as they came, which cost the client nothing while it times.
    late: when a request was due, and how long after that the client itself got to it.
    """

    sent: dict[str, tuple[str, float]] = field(default_factory=dict)
    heard: list[tuple[bytes, float]] = field(default_factory=list)
    moved: list[tuple[float, str]] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)
    late: list[tuple[float, float]] = field(default_factory=list)

    def answers(self) -> dict[str, tuple[Recommendations, float]]:
        """By request id, with the time at which each was heard."""
        decode = msgspec.json.Decoder(Recommendations).decode
        return {answer.request_id: (answer, heard) for raw, heard in self.heard for answer in (decode(raw),)}


@dataclass(frozen=True)
class Times:
    """When good answers were asked for and when they came: (n,) float64 each, in seconds."""

    sent: np.ndarray
    heard: np.ndarray

    def waited(self, start: float, end: float) -> np.ndarray:
        """Whether an answer was waited for at some moment from start to end, (n,) bool."""
        return (self.heard >= start) & (self.sent < end)

    def p99(self, chosen: np.ndarray) -> float:
        """Milliseconds; nan where none is chosen."""
        return float(np.percentile((self.heard - self.sent)[chosen], 99) * 1e3) if chosen.any() else float("nan")


def judge(log: Log, expected: Mapping[str, Mapping[str, Recommendations]], rounds: int = 1) -> dict[str, Any]:
    """Counts and times.

    Args:
        expected: bundle id -> customer id -> what that bundle answers.
        rounds: into which the turns fall, all of the same length.
    """
    failures: Counter[str] = Counter()
    mixed = 0
    good: list[tuple[float, float]] = []
    answers = log.answers()
    heard_of: dict[str, list[float]] = {bundle_id: [] for bundle_id in expected}
    for request_id, (customer, sent) in log.sent.items():
        answer, heard = answers.get(request_id, (None, 0.0))
        reason = _failure(answer)
        if answer is None or reason is not None:
            failures[reason or "no_answer"] += 1
            continue
        good.append((sent, heard))
        heard_of.setdefault(answer.bundle_id or "", []).append(heard)
        mixed += not _same(answer, expected.get(answer.bundle_id or "", {}).get(customer))
    times = Times(*np.array(good, dtype=np.float64).reshape(-1, 2).T)
    took, beside = _effects(log, heard_of, times)
    # An answer that a swap may have held up is no quiet one, also where it was asked for before.
    swapping = [times.waited(turn.middle, turn.ended) for turn in log.turns]
    quiet = [(times.sent >= turn.began) & (times.heard < turn.middle) & ~np.any(swapping, axis=0) for turn in log.turns]
    parts = {"quiet": np.any(quiet, axis=0), "swapping": np.any(swapping, axis=0), "around_a_swap": beside}
    p99 = {name: times.p99(chosen) for name, chosen in parts.items()}
    by_round = [
        _compared(times, np.any(quiet[part], axis=0), np.any(swapping[part], axis=0))
        for part in _parts(len(log.turns), rounds)
    ]
    differing = [
        customer
        for customer in next(iter(expected.values()))
        if len({tuple(item.article_id for item in known[customer].items) for known in expected.values()}) > 1
    ]
    return {
        "failed": failures.total(),
        "mixed": mixed,
        "p99_ratio": round(float(np.median([found["ratio"] for found in by_round])), 3),
        "p99_by_round": by_round,
        "swaps": len(log.moved),
        "requests": len(log.sent),
        "failures": dict(failures),
        "p99_ms_of_all": {name: round(ms, 2) for name, ms in p99.items()},
        "p99_by_turn": [_compared(times, before, after) for before, after in zip(quiet, swapping, strict=True)],
        "client_late_ms": _lateness(log),
        "measured": {name: int(chosen.sum()) for name, chosen in parts.items()},
        "takes_effect_s": {"p50": round(float(np.median(took)), 3), "max": round(max(took), 3)} if took else {},
        "answers_by_bundle": {bundle_id: len(heard) for bundle_id, heard in heard_of.items()},
        "customers_whose_lists_differ": round(len(differing) / len(next(iter(expected.values()))), 3),
    }


def _compared(times: Times, quiet: np.ndarray, swapping: np.ndarray) -> dict[str, float]:
    """Milliseconds, and how many times the quiet the swapping is."""
    before, after = times.p99(quiet), times.p99(swapping)
    return {"quiet": round(before, 2), "swapping": round(after, 2), "ratio": round(after / before, 3)}


def _parts(turns: int, rounds: int) -> list[slice]:
    ends = [turns * number // rounds for number in range(rounds + 1)]
    return [slice(start, end) for start, end in pairwise(ends)]


def _lateness(log: Log) -> dict[str, float]:
    """Of the client alone: where this is large, so is every other time, whatever the servers do."""
    late = [ms for due, ms in log.late if any(turn.began <= due < turn.ended for turn in log.turns)]
    return {"p99": round(float(np.percentile(late, 99)) * 1e3, 2), "max": round(max(late) * 1e3, 2)} if late else {}


def _effects(log: Log, heard_of: Mapping[str, Sequence[float]], times: Times) -> tuple[list[float], np.ndarray]:
    """Seconds from each move to the last answer of another bundle before the next move, when every process has the new
    one, and which answers were waited for around that."""
    took: list[float] = []
    beside = np.zeros(len(times.sent), dtype=bool)
    ends = [moved for moved, _ in log.moved[1:]] + [float("inf")]
    for (moved, target), end in zip(log.moved, ends, strict=True):
        if not any(moved < heard < end for heard in heard_of[target]):
            continue
        others = [heard for name, told in heard_of.items() if name != target for heard in told if moved < heard < end]
        last = max(others, default=moved)
        took.append(last - moved)
        beside |= times.waited(moved, last + AFTER_S)
    return took, beside


def _failure(answer: Recommendations | None) -> str | None:
    """Why it is none, by name; None where it is one."""
    if answer is None:
        return "no_answer"
    if answer.error is not None:
        return answer.error.code
    return answer.degraded[0] if answer.degraded else None if len(answer.items) == K else "short"


def _same(answer: Recommendations, expected: Recommendations | None) -> bool:
    """The same articles in the same order with the same scores, to what a batch may change of a float32."""
    if expected is None:
        return False
    given, wanted = _columns(answer), _columns(expected)
    return given[0] == wanted[0] and bool(np.allclose(given[1], wanted[1], atol=SCORE_TOLERANCE, rtol=SCORE_TOLERANCE))


def _columns(answer: Recommendations) -> tuple[Sequence[str], Sequence[float]]:
    return [item.article_id for item in answer.items], [item.score for item in answer.items]
