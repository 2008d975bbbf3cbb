"""Which offsets may be committed, by hand."""

from __future__ import annotations

import pytest
from aiokafka.structs import ConsumerRecord, TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from streams.batches import Batch, InFlight, batch_of, times_requeued

P0, P1 = TopicPartition("t", 0), TopicPartition("t", 1)


def batch(**offsets: int) -> Batch:
    return Batch([], {TopicPartition("t", int(name[1:])): offset for name, offset in offsets.items()})


def record(partition: int, offset: int, value: bytes, headers: tuple[tuple[str, bytes], ...] = ()) -> ConsumerRecord:
    return ConsumerRecord("t", partition, offset, 0, 0, b"k", value, None, 1, 1, headers)


def in_flight(*batches: Batch) -> InFlight:
    held = InFlight()
    held.assigned([P0, P1])
    for one in batches:
        held.add(one)
    return held


def test_records_become_messages_in_order_with_the_next_offset_to_read() -> None:
    made = batch_of(
        {P1: [record(1, 7, b"a"), record(1, 9, b"b")], P0: [record(0, 3, b"c", (("modiste-requeued", b"2"),))]}
    )
    assert [(m.partition, m.offset, m.value, m.requeued) for m in made.messages] == [
        (1, 7, b"a", 0),
        (1, 9, b"b", 0),
        (0, 3, b"c", 2),
    ]
    assert made.offsets == {P1: 10, P0: 4}


@pytest.mark.parametrize(
    ("headers", "times"),
    [
        ((), 0),
        ((("other", b"5"),), 0),
        ((("modiste-requeued", b"3"),), 3),
        ((("modiste-requeued", b"-3"),), 0),
        ((("modiste-requeued", b"9" * 50),), 0),
        ((("modiste-requeued", None),), 0),
    ],
)
def test_header_of_a_requeued_message(headers: tuple[tuple[str, bytes | None], ...], times: int) -> None:
    assert times_requeued(headers) == times


def test_only_what_is_applied_with_all_before_it_is_due() -> None:
    first, second, third = batch(p0=10), batch(p0=20, p1=5), batch(p1=9)
    held = in_flight(first, second, third)
    second.ok = True
    assert held.due() == {P1: 5}  # the first is still out, and has nothing of p1
    held.committed({P1: 5})
    third.ok = True
    assert held.due() == {P1: 9}
    held.committed({P1: 9})
    first.ok = True
    assert held.due() == {P0: 20}
    assert len(held) == 0


@given(
    st.lists(st.frozensets(st.sampled_from([0, 1, 2]), min_size=1), min_size=1, max_size=8).flatmap(
        lambda made: st.tuples(st.just(made), st.permutations(range(len(made))))
    )
)
def test_a_partition_is_committed_up_to_its_first_batch_that_is_out(
    given_: tuple[list[frozenset[int]], list[int]],
) -> None:
    """Batch n holds offset n of each of its partitions; whatever the order in which they end, and never backwards."""
    made, order = given_
    places = [TopicPartition("t", n) for n in range(3)]
    batches = [Batch([], {places[p]: n + 1 for p in parts}) for n, parts in enumerate(made)]
    held = InFlight()
    held.assigned(places)
    for one in batches:
        held.add(one)
    committed = dict.fromkeys(places, 0)
    for ended, n in enumerate(order, start=1):
        batches[n].ok = True
        due = held.due()
        held.committed(due)
        assert all(at > committed[place] for place, at in due.items())
        committed |= due
        for p, place in enumerate(places):
            mine = [n for n, parts in enumerate(made) if p in parts]
            out = [n for n in mine if n not in order[:ended]]
            assert committed[place] == max((n + 1 for n in mine if not out or n < out[0]), default=0)
    assert len(held) == 0


def test_due_stays_due_until_the_broker_has_it() -> None:
    done = batch(p0=10)
    done.ok = True
    held = in_flight(done)
    assert held.due() == held.due() == {P0: 10}
    held.committed({P0: 10})
    assert held.due() == {}


def test_what_came_due_during_a_commit_is_not_taken_for_committed() -> None:
    first, second = batch(p0=10), batch(p0=20)
    first.ok = True
    held = in_flight(first, second)
    asked = held.due()
    second.ok = True
    held.due()
    held.committed(asked)
    assert held.due() == {P0: 20}


def test_batch_that_outlives_its_ownership_commits_nothing_when_the_partition_comes_back() -> None:
    late = batch(p0=10, p1=4)
    held = in_flight(late)
    held.revoked([P0, P1])  # another worker reads on, to 500, and commits
    held.assigned([P0])  # and the partition comes back
    late.ok = True
    assert held.due() == {}
    fresh = batch(p0=510)
    held.add(fresh)
    fresh.ok = True
    assert held.due() == {P0: 510}


def test_due_offset_of_a_lost_partition_is_forgotten() -> None:
    done = batch(p0=10, p1=4)
    done.ok = True
    held = in_flight(done)
    assert held.due() == {P0: 10, P1: 4}
    held.revoked([P0])
    assert held.due() == {P1: 4}
    held.assigned([P0, P1])
    assert held.due() == {}


def test_batch_that_was_never_handed_over_does_not_hold_up_the_next() -> None:
    dropped = batch(p0=10)
    held = in_flight(dropped)
    held.withdraw(dropped)
    after = batch(p0=10)
    after.ok = True
    held.add(after)
    assert held.due() == {P0: 10}
    held.withdraw(after)
    assert held.reading([P0]) == []
