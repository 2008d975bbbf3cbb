"""The cooperative protocol without a broker: what members claim, what the leader makes of it, and who reads when."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata
from aiokafka.structs import TopicPartition
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.kafka_assignor import CooperativeAssignor


class Cluster:
    """As much of aiokafka's cluster as an assignor asks for."""

    def __init__(self, partitions: dict[str, int]) -> None:
        self.partitions = partitions

    def topics(self) -> set[str]:
        return set(self.partitions)

    def partitions_for_topic(self, topic: str) -> set[int] | None:
        count = self.partitions.get(topic)
        return None if count is None else set(range(count))


class Group:
    """The broker's part: hands the members' claims to a leader and its plan back, as bytes.

    members: by name, which they keep; ids: what the broker calls them, which changes when they are thrown out.
    """

    def __init__(self, partitions: dict[str, int], members: str = "") -> None:
        self.cluster = Cluster(partitions)
        self.members: dict[str, CooperativeAssignor] = {}
        self.topics: dict[str, list[str]] = {}
        self.ids: dict[str, str] = {}
        self._serial = 0
        for name in members:
            self.join(name)

    def join(
        self, name: str, topics: Iterable[str] | None = None, *, asleep: CooperativeAssignor | None = None
    ) -> None:
        """A new member of the group; or one that was thrown out, which it has slept through."""
        self._serial += 1
        self.ids[name] = f"{name}-{self._serial}"
        self.members[name] = asleep or CooperativeAssignor()
        self.topics[name] = list(topics or self.cluster.partitions)

    def rebalance(self, deaf: Iterable[str] = ()) -> None:
        """One generation of the group; who is `deaf` joins but never hears what it was assigned."""
        claims = {
            self.ids[name]: ConsumerProtocolMemberMetadata.decode(member.metadata(self.topics[name]).encode())
            for name, member in self.members.items()
        }
        leader = next(iter(self.members.values()))
        plan = leader.assign(self.cluster, claims)
        for name, member in self.members.items():
            if name not in deaf:
                member.on_assignment(ConsumerProtocolMemberAssignment.decode(plan[self.ids[name]].encode()))

    def settle(self) -> int:
        """Rebalance until nothing is asked back; returns how often."""
        for rounds in range(1, 10):
            self.rebalance()
            back = {name: member.asked_back for name, member in self.members.items() if member.asked_back}
            if not back:
                return rounds
            for name, partitions in back.items():
                self.members[name].give_up(partitions)
        raise AssertionError("the group does not come to rest")

    def held(self, name: str) -> set[str]:
        return {f"{place.topic}{place.partition}" for place in self.members[name].held}

    def readers(self) -> dict[TopicPartition, list[str]]:
        """Who reads what, of those who know that they are in the group."""
        readers: dict[TopicPartition, list[str]] = {}
        for name, member in self.members.items():
            if member._member == self.ids[name]:
                for place in member.held:
                    readers.setdefault(place, []).append(name)
        return readers


def test_the_first_member_has_everything_at_once() -> None:
    group = Group({"t": 3}, "a")
    assert group.settle() == 1
    assert group.held("a") == {"t0", "t1", "t2"}


def test_what_is_to_move_stays_with_its_holder_until_it_is_given_up() -> None:
    group = Group({"t": 4}, "a")
    group.settle()
    group.join("b")
    group.rebalance()
    assert group.held("a") == {"t0", "t1", "t2", "t3"}
    assert group.held("b") == set()
    moving = group.members["a"].asked_back
    assert len(moving) == 2
    group.members["a"].give_up(moving)
    group.rebalance()
    assert group.members["b"].held.keys() == moving
    assert not group.members["a"].asked_back


def test_a_holder_that_takes_its_time_keeps_it_through_other_rebalances() -> None:
    group = Group({"t": 2}, "a")
    group.settle()
    group.join("b")
    for _ in range(3):
        group.rebalance()
        assert group.held("a") == {"t0", "t1"}
        assert len(group.members["a"].asked_back) == 1


def test_what_a_leaver_had_is_shared_at_once_and_nothing_else_moves() -> None:
    group = Group({"t": 6}, "abc")
    group.settle()
    before = {name: set(group.members[name].held) for name in "ab"}
    del group.members["c"]
    assert group.settle() == 1
    for name in "ab":
        assert before[name] < group.members[name].held.keys()
        assert len(group.members[name].held) == 3


@pytest.mark.parametrize(("asleep", "awake"), ["ab", "ba"])
def test_who_was_thrown_out_and_does_not_know_it_yields_to_who_has_it_now(asleep: str, awake: str) -> None:
    group = Group({"t": 2}, "ab")
    group.settle()
    (stalled,) = group.members[asleep].held
    sleeper = group.members.pop(asleep)
    group.settle()  # the other has both now
    group.join(asleep, asleep=sleeper)
    assert stalled in sleeper.held  # it thinks
    group.rebalance()
    assert stalled in group.members[awake].held
    assert stalled not in sleeper.held


def test_who_was_thrown_out_learns_it_also_where_nothing_is_taken_from_it() -> None:
    """Somebody else may have had its partitions meanwhile, and gone."""
    group = Group({"t": 2}, "a")
    group.settle()
    sleeper = group.members.pop("a")
    before = sleeper.held
    group.join("a", asleep=sleeper)
    group.settle()
    assert sleeper.held.keys() == before.keys()
    assert all(sleeper.held[place] != number for place, number in before.items())


def test_who_missed_its_assignment_but_not_the_group_goes_on_with_what_it_has() -> None:
    group = Group({"t": 2}, "ab")
    group.settle()
    before = {name: group.members[name].held for name in "ab"}
    group.join("c")
    group.rebalance(deaf="a")
    group.rebalance()
    assert {name: group.members[name].held for name in "ab"} == before


def test_what_was_given_up_and_comes_back_is_taken_over_anew() -> None:
    group = Group({"t": 2}, "a")
    group.settle()
    member = group.members["a"]
    before = dict(member.held)
    member.give_up({TopicPartition("t", 0)})
    group.rebalance()
    assert member.held[TopicPartition("t", 0)] != before[TopicPartition("t", 0)]
    assert member.held[TopicPartition("t", 1)] == before[TopicPartition("t", 1)]


def test_a_topic_of_which_the_leader_knows_nothing_for_a_moment_stays_where_it_is() -> None:
    group = Group({"t": 2, "u": 2}, "ab")
    group.settle()
    before = {name: dict(member.held) for name, member in group.members.items()}
    count = group.cluster.partitions.pop("u")
    group.rebalance()
    assert {name: dict(member.held) for name, member in group.members.items()} == before
    assert not any(member.asked_back for member in group.members.values())
    group.cluster.partitions["u"] = count
    group.settle()
    assert {name: dict(member.held) for name, member in group.members.items()} == before


def test_partitions_that_the_topic_does_not_have_any_more_are_nobody_s() -> None:
    group = Group({"t": 4}, "ab")
    group.settle()
    group.cluster.partitions["t"] = 2  # made anew
    group.settle()
    assert group.held("a") | group.held("b") == {"t0", "t1"}


def test_a_member_gets_partitions_of_its_own_topics_only() -> None:
    group = Group({"t": 2, "u": 2})
    group.join("a", ["t"])
    group.join("b", ["t", "u"])
    group.settle()
    assert group.held("b") >= {"u0", "u1"}
    group.topics["b"] = ["t"]
    group.rebalance()  # aiokafka takes no partition of a topic that it does not read, not even to give it up
    assert group.held("a") | group.held("b") == {"t0", "t1"}


@pytest.mark.parametrize("said", [b"", b"\x00\x01", b'{"holds": "many"}', b'{"more": 1, "member": "b"}'])
def test_words_of_another_kind_are_no_claim(said: bytes) -> None:
    member = CooperativeAssignor()
    claims = {"a": ConsumerProtocolMemberMetadata(0, ["t"], said)}
    assignment = member.assign(Cluster({"t": 1}), claims)["a"]
    assert [*assignment.partitions()] == [TopicPartition("t", 0)]
    member.on_assignment(ConsumerProtocolMemberAssignment(0, [("t", [0])], said))
    assert member.held.keys() == {TopicPartition("t", 0)}
    assert member.asked_back == set()


# What can happen to a group between two of its rebalances, by members a to e.
happenings = st.tuples(
    st.sampled_from(["joins", "leaves", "falls asleep", "wakes", "gives up", "is deaf"]), st.sampled_from("abcde")
)


def happen(group: Group, asleep: dict[str, CooperativeAssignor], what: str, who: str) -> None:
    if what == "joins" and who not in group.members and who not in asleep:
        group.join(who)
    elif what == "leaves":
        group.members.pop(who, None)
    elif what == "falls asleep" and who in group.members:
        asleep[who] = group.members.pop(who)
    elif what == "wakes" and who in asleep:
        group.join(who, asleep=asleep.pop(who))
    elif what == "gives up" and who in group.members:
        group.members[who].give_up(group.members[who].asked_back)


@settings(max_examples=400, deadline=None)
@given(st.lists(st.lists(happenings, max_size=3), max_size=12), st.integers(1, 7))
def test_a_partition_has_one_reader_and_in_the_end_everyone_an_even_share(
    story: list[list[tuple[str, str]]], partitions: int
) -> None:
    """Of those who know that they are members; and who has read it without a gap is the last who took it over."""
    group = Group({"t": partitions})
    asleep: dict[str, CooperativeAssignor] = {}
    takings: set[tuple[TopicPartition, CooperativeAssignor, int]] = set()
    last: dict[TopicPartition, tuple[CooperativeAssignor, int]] = {}
    for chapter in story:
        deaf = set()
        for what, who in chapter:
            if what == "is deaf":
                deaf.add(who)
            else:
                happen(group, asleep, what, who)
        if group.members:
            group.rebalance(deaf)
        assert all(len(names) == 1 for names in group.readers().values())
        for name, assignor in group.members.items():
            if name in deaf:
                continue
            for place, number in assignor.held.items():
                if (place, assignor, number) in takings:
                    assert last[place] == (assignor, number)
                takings.add((place, assignor, number))
                last[place] = (assignor, number)
    if group.members:
        group.settle()
        assert len(group.readers()) == partitions
        assert all(len(names) == 1 for names in group.readers().values())
        shares = [len(member.held) for member in group.members.values()]
        assert max(shares) - min(shares) <= 1


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 12), st.integers(1, 5))
def test_one_more_member_moves_only_its_share(partitions: int, members: int) -> None:
    group = Group({"t": partitions}, "abcdef"[:members])
    group.settle()
    before = {name: set(member.held) for name, member in group.members.items()}
    group.join("z")
    assert group.settle() <= 2
    moved = {place for name, held in before.items() for place in held - group.members[name].held.keys()}
    assert moved == group.members["z"].held.keys()
    assert len(moved) == partitions // (members + 1)
