"""Who reads which partition of a consumer group: the cooperative protocol, as an assignor of aiokafka's.

A rebalance takes nothing from anybody. Every member says with its join what it holds and goes on reading; the leader
(a member like any other) shares the partitions out anew, as evenly as it can with the fewest moves. One that is to move
stays with its holder, who is asked for it back, finishes it, and joins again without it; only then has it no holder,
and the next plan gives it to somebody else. So of those who hear from their group a partition has one reader at any
time, and those that do not move are read without a pause. This is what KIP-429 brought to the Java client; there a
partition that is asked back leaves the assignment at once, here when it is given up, so that whoever looks at the group
sees who still has it.

aiokafka 0.14 knows only the eager protocol, in which all give up everything first. What a member holds travels in the
field that the protocol leaves to assignors, as JSON.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import msgspec
from aiokafka.coordinator.assignors.abstract import AbstractPartitionAssignor
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyAssignorUserDataV1, StickyPartitionAssignor
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata
from aiokafka.structs import TopicPartition

logger = logging.getLogger(__name__)

T = TypeVar("T", bound=msgspec.Struct)
Partitions = frozenset[TopicPartition]
NONE: Partitions = frozenset()


class _Claim(msgspec.Struct):
    """What a member says with its join: topic -> partitions it holds, and as which member it was given them.

    The broker that throws a member out for its silence gives it another id when it comes back. What it was given under
    the former is another's by then, or has been; under the same id nobody else can have had it.
    """

    member: str = ""
    holds: dict[str, list[int]] = {}


class _Plan(msgspec.Struct):
    """What the leader says beside the assignment itself: to whom, and which partitions in it are asked back."""

    member: str = ""
    give_up: dict[str, list[int]] = {}


class CooperativeAssignor(AbstractPartitionAssignor):  # type: ignore[misc]
    """One a consumer: it knows what this consumer holds.

    held: partition -> a number that is another one whenever it was not ours in between, or may not have been.
    asked_back: those of them that are to be given up. Both change with each assignment, and by `give_up`.
    """

    name = "modiste-cooperative"

    def __init__(self) -> None:
        self.held: dict[TopicPartition, int] = {}
        self.asked_back = NONE
        self._member = ""
        self._taken = 0

    def give_up(self, partitions: Iterable[TopicPartition]) -> None:
        """Not ours any more; the next join says so."""
        given = frozenset(partitions)
        self.held = {place: number for place, number in self.held.items() if place not in given}
        self.asked_back -= given

    def metadata(self, topics: Iterable[str]) -> Any:
        """What goes with a join."""
        claim = _Claim(self._member, _by_topic(self.held))
        return ConsumerProtocolMemberMetadata(0, sorted(topics), msgspec.json.encode(claim))

    def on_assignment(self, assignment: Any) -> None:
        """An assignment has come."""
        plan = _decoded(assignment.user_data, _Plan)
        before = self.held if plan.member == self._member else {}
        self._member = plan.member
        self._taken += 1
        self.held = {
            place: before.get(place, self._taken) for place in (TopicPartition(*p) for p in assignment.partitions())
        }
        self.asked_back = _of_topics(plan.give_up) & frozenset(self.held)

    def assign(self, cluster: Any, members: Mapping[str, Any]) -> dict[str, Any]:
        """As the leader: member id -> what it is to read, from what the cluster has and the members say."""
        holders = _holders(cluster, members)
        held: dict[str, set[TopicPartition]] = {member: set() for member in members}
        for place, member in holders.items():
            held[member].add(place)
        assignments = {}
        for member, wanted in _shared_out(cluster, members, held).items():
            now = held[member] | {place for place in wanted if place not in holders}
            back = {place for place in held[member] - wanted if cluster.partitions_for_topic(place.topic) is not None}
            plan = _Plan(member, _by_topic(back))
            assignments[member] = ConsumerProtocolMemberAssignment(
                0, list(_by_topic(now).items()), msgspec.json.encode(plan)
            )
        return assignments


def _holders(cluster: Any, members: Mapping[str, Any]) -> dict[TopicPartition, str]:
    """Partition -> who holds it, for those whose topic the holder still reads. Of a topic that the cluster cannot tell
    of at this moment all are believed to exist."""
    holders: dict[TopicPartition, str] = {}
    for member, metadata in members.items():
        claim = _decoded(metadata.user_data, _Claim)
        if claim.member != member:
            continue
        for place in _of_topics(claim.holds):
            known = cluster.partitions_for_topic(place.topic)
            if place.topic in metadata.subscription and (known is None or place.partition in known):
                holders[place] = member
    return holders


def _shared_out(
    cluster: Any, members: Mapping[str, Any], held: Mapping[str, Iterable[TopicPartition]]
) -> dict[str, set[TopicPartition]]:
    """Member -> its share when all moves are done: even, and with few moves (KIP-54)."""
    told = {
        member: ConsumerProtocolMemberMetadata(
            0, metadata.subscription, StickyAssignorUserDataV1(list(_by_topic(held[member]).items()), 1).encode()
        )
        for member, metadata in members.items()
    }
    shares = StickyPartitionAssignor.assign(cluster, told)
    return {member: {TopicPartition(*place) for place in share.partitions()} for member, share in shares.items()}


def _decoded(raw: bytes | None, kind: type[T]) -> T:
    """What another member sent; nothing where it is not of our making, as from a newer version."""
    if not raw:
        return kind()
    try:
        return msgspec.json.decode(raw, type=kind)
    except msgspec.MsgspecError:
        logger.warning("a member of the group sent %d bytes that are not a %s; left out", len(raw), kind.__name__)
        return kind()


def _by_topic(partitions: Iterable[TopicPartition]) -> dict[str, list[int]]:
    topics: dict[str, list[int]] = defaultdict(list)
    for topic, partition in sorted(partitions):
        topics[topic].append(partition)
    return topics


def _of_topics(topics: Mapping[str, Iterable[int]]) -> Partitions:
    return frozenset(TopicPartition(topic, partition) for topic, numbers in topics.items() for partition in numbers)
