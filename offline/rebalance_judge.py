"""The judgement of `bench rebalance`: how long messages waited while members came and went.

A partition whose messages all have one reader, from shortly before a change until the next, was kept; the others
moved. What the protocols differ in is what happens to those that were kept.
"""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

BEFORE_S = 1.0
# What is sent so shortly before the next change may still be on its way then, and belongs to neither.
ON_ITS_WAY_S = 0.5


@dataclass(frozen=True, slots=True)
class Reading:
    """A message by its number, as one member read it; sent and read: seconds of one clock."""

    number: int
    partition: int
    member: str
    sent: float
    read: float


@dataclass(frozen=True, slots=True)
class Change:
    """kind: `quiet`, `join`, `leave` or `death`; what is sent from start to end is looked at."""

    kind: str
    start: float
    end: float


def readings(member: str, lines: Iterable[str]) -> list[Reading]:
    """The notes of one member (`offline.peers.members`); a last line that its end cut off is left out."""
    found = []
    for line in lines:
        words = line.split()
        if line.endswith("\n") and len(words) == 4:
            number, sent, partition, read = map(int, words)
            found.append(Reading(number, partition, member, sent / 1e9, read / 1e9))
    return found


def judge(noted: Sequence[Reading], changes: Sequence[Change], sent: int, killed: Collection[str]) -> dict[str, Any]:
    """kind -> longest wait in ms of a message in a partition that was kept, and in one that moved: the median of the
    n changes of this kind, and the worst. lost: messages read by nobody. doubled: readings too many, without those of
    members that were killed, who could not commit any more.
    """
    first: dict[int, Reading] = {}
    for one in sorted(noted, key=lambda one: one.read):
        first.setdefault(one.number, one)
    waits: dict[str, Mapping[str, list[float]]] = defaultdict(lambda: {"kept": [], "moved": []})
    for change in changes:
        readers: dict[int, set[str]] = defaultdict(set)
        longest: dict[int, float] = defaultdict(float)
        for one in first.values():
            if change.start - BEFORE_S <= one.sent < change.end - ON_ITS_WAY_S:
                readers[one.partition].add(one.member)
            if change.start <= one.sent < change.end - ON_ITS_WAY_S:
                longest[one.partition] = max(longest[one.partition], one.read - one.sent)
        fates: dict[str, list[float]] = {"kept": [], "moved": []}
        for partition, names in readers.items():
            fates["kept" if len(names) == 1 else "moved"].append(longest[partition])
        for fate, found in fates.items():
            if found:
                waits[change.kind][fate].append(max(found))
    living = Counter(one.number for one in noted if one.member not in killed)
    return {
        **{kind: {fate: _summary(found) for fate, found in by_fate.items()} for kind, by_fate in waits.items()},
        "lost": sent - len(first),
        "doubled": sum(living.values()) - len(living),
    }


def _summary(seconds: Sequence[float]) -> dict[str, float] | None:
    if not seconds:
        return None
    median, worst = (round(seconds_ * 1e3, 1) for seconds_ in (statistics.median(seconds), max(seconds)))
    return {"median": median, "worst": worst, "n": len(seconds)}
