"""Who reads which partition of a consumer group: the cooperative protocol, as an assignor of aiokafka's.

A rebalance takes nothing from anybody. Every member says with its join what it holds and goes on reading; the leader
(a member like any other) shares the partitions out anew, as evenly as it can with the fewest moves. One that is to move
stays with its holder, who is asked for it back, finishes it, and joins again without it; only then has it no holder,
and the same leader's plan gives it to the next. So a partition has one reader at any time, and those that do not move
are read without a pause. This is what KIP-429 brought to the Java client, with one difference: there a partition that
is asked back has no owner while its last messages are finished; here it still has one, who can commit them.

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
    """What a member says with its join: topic -> partitions it holds, and since which assignment.

    epoch counts the assignments of the group. Of two who claim the same partition the later one is believed: the other
    was thrown out meanwhile and does not know yet.
    """

    epoch: int = 0
    holds: dict[str, list[int]] = {}


class _Plan(msgspec.Struct):
    """What the leader says beside the assignment itself: the partitions in it that are asked back."""

    epoch: int = 0
    give_up: dict[str, list[int]] = {}


class CooperativeAssignor(AbstractPartitionAssignor):  # type: ignore[misc]
    """One a consumer: it knows what this consumer holds. `held` and `asked_back` change with each assignment, and when
    the consumer gives something up."""

    name = "modiste-cooperative"

    def __init__(self) -> None:
        self.held = NONE
        self.asked_back = NONE
        self._epoch = 0

    def give_up(self, partitions: Iterable[TopicPartition]) -> None:
        """Not ours any more; the next join says so."""
        given = frozenset(partitions)
        self.held -= given
        self.asked_back -= given

    def metadata(self, topics: Iterable[str]) -> Any:
        """What goes with a join."""
        claim = _Claim(self._epoch, _by_topic(self.held))
        return ConsumerProtocolMemberMetadata(0, sorted(topics), msgspec.json.encode(claim))

    def on_assignment(self, assignment: Any) -> None:
        """An assignment has come."""
        plan = _decoded(assignment.user_data, _Plan)
        self._epoch = plan.epoch
        self.held = frozenset(TopicPartition(*place) for place in assignment.partitions())
        self.asked_back = _of_topics(plan.give_up) & self.held

    def assign(self, cluster: Any, members: Mapping[str, Any]) -> dict[str, Any]:
        """As the leader: member id -> what it is to read, from what the cluster has and the members say."""
        claims = {member: _decoded(metadata.user_data, _Claim) for member, metadata in members.items()}
        holders = _holders(cluster, members, claims)
        held: dict[str, set[TopicPartition]] = {member: set() for member in members}
        for place, member in holders.items():
            held[member].add(place)
        epoch = 1 + max((claim.epoch for claim in claims.values()), default=0)
        assignments = {}
        for member, wanted in _shared_out(cluster, members, held).items():
            now = held[member] | {place for place in wanted if place not in holders}
            plan = _Plan(epoch, _by_topic(held[member] - wanted))
            assignments[member] = ConsumerProtocolMemberAssignment(
                0, list(_by_topic(now).items()), msgspec.json.encode(plan)
            )
        return assignments


def _holders(cluster: Any, members: Mapping[str, Any], claims: Mapping[str, _Claim]) -> dict[TopicPartition, str]:
    """Partition -> who holds it, for those that exist and whose topic the holder still reads."""
    holders: dict[TopicPartition, str] = {}
    for member in sorted(members):
        for place in _of_topics(claims[member].holds):
            if place.topic not in members[member].subscription:
                continue
            if place.partition not in (cluster.partitions_for_topic(place.topic) or ()):
                continue
            other = holders.get(place)
            if other is None or claims[other].epoch < claims[member].epoch:
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
