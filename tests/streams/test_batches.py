"""Which offsets may be committed, by hand."""

from __future__ import annotations

import pytest
from aiokafka.structs import ConsumerRecord, TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from streams.batches import Batch, InFlight, batch_of, times_requeued
from streams.processor import RawMessage

P0, P1 = TopicPartition("t", 0), TopicPartition("t", 1)


def batch(**offsets: int) -> Batch:
    """Of one message, whatever it says of offsets."""
    return made_of({TopicPartition("t", int(name[1:])): offset for name, offset in offsets.items()})


def made_of(offsets: dict[TopicPartition, int]) -> Batch:
    return Batch([RawMessage("t", 0, 0, None, b"")], offsets)


def record(partition: int, offset: int, value: bytes, headers: tuple[tuple[str, bytes], ...] = ()) -> ConsumerRecord:
    return ConsumerRecord("t", partition, offset, 0, 0, b"k", value, None, 1, 1, headers)


def in_flight(*batches: Batch) -> InFlight:
    held = InFlight()
    held.assigned([P0, P1])
    for one in batches:
        held.add(one, 1)
    return held


def test_records_become_messages_in_order_with_the_next_offset_to_read() -> None:
    made = batch_of(
        {P1: [record(1, 7, b"a"), record(1, 9, b"b")], P0: [record(0, 3, b"c", (("modiste-requeued", b"2"),))]}
    )
    assert [(m.partition, m.offset, m.value, m.requeued) for m in made.take()] == [
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
    batches = [made_of({places[p]: n + 1 for p in parts}) for n, parts in enumerate(made)]
    held = InFlight()
    held.assigned(places)
    for one in batches:
        held.add(one, 1)
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
    held.add(fresh, 1)
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


def read(partition: int, *offsets: int) -> Batch:
    return batch_of({TopicPartition("t", partition): [record(partition, offset, b"") for offset in offsets]})


def read_both(zero: int, one: int) -> Batch:
    return batch_of({P0: [record(0, zero, b"")], P1: [record(1, one, b"")]})


def places_of(messages: list[RawMessage]) -> list[tuple[int, int]]:
    return [(message.partition, message.offset) for message in messages]


def test_waiting_batch_grows_by_what_is_read_after_it_up_to_the_limit() -> None:
    held = in_flight()
    waiting = read(0, 1, 2)
    assert held.add(waiting, 4)
    assert not held.add(read(1, 7), 4)
    assert not held.add(read(0, 3), 4)
    assert held.add(read(0, 4), 4)  # it would be the fifth
    assert len(held) == 2
    assert waiting.offsets == {P0: 4, P1: 8}
    assert places_of(waiting.take()) == [(0, 1), (0, 2), (1, 7), (0, 3)]
    waiting.ok = True
    assert held.due() == {P0: 4, P1: 8}


def test_batch_that_is_taken_grows_no_more() -> None:
    held = in_flight()
    first = read(0, 1)
    held.add(first, 100)
    assert places_of(first.take()) == [(0, 1)]
    assert held.add(read(0, 2), 100)
    assert len(first) == 1
    with pytest.raises(RuntimeError, match="grows no more"):
        first.extend(read(0, 2))
    first.ok = True
    assert held.due() == {P0: 2}  # not 3


def test_batch_does_not_grow_by_what_was_read_under_another_ownership() -> None:
    held = in_flight()
    late = read(0, 1)
    held.add(late, 100)
    held.revoked([P0])
    held.assigned([P0])
    assert held.add(read(0, 500), 100)
    late.ok = True
    assert held.due() == {}  # which would have set the group back
    assert not held.add(read(1, 1), 100)  # to the newest: of p1 it has nothing that could contradict
    held.revoked([P1])
    held.assigned([P1])
    assert held.add(read_both(501, 2), 100)  # p0 is as before, p1 is not
    assert not held.add(read_both(502, 3), 100)


@given(
    st.lists(st.tuples(st.sampled_from(["read", "take", "end", "lose"]), st.integers(0, 1)), max_size=40),
    st.integers(1, 5),
)
def test_whatever_grows_together_nothing_is_left_out_or_committed_before_it_is_applied(
    steps: list[tuple[str, int]], most: int
) -> None:
    held = in_flight()
    waiting: list[Batch] = []
    out: list[Batch] = []
    begins, applied, tenure = [0, 0], [set[int](), set[int]()], [0, 0]
    taken: list[tuple[int, int, int]] = []
    for step, p in steps:
        if step == "read":
            new = batch_of({TopicPartition("t", p): [record(p, begins[p], str(tenure[p]).encode())]})
            begins[p] += 1
            if held.add(new, most):
                waiting.append(new)
        elif step == "take" and waiting:
            out.append(waiting.pop(0))
            messages = out[-1].take()
            assert 1 <= len(messages) <= most
            taken += [(m.partition, m.offset, int(m.value or b"")) for m in messages]
        elif step == "end" and out:
            done = out.pop(p % len(out))
            done.ok = True
            for message in done.take():
                applied[message.partition].add(message.offset)
        elif step == "lose":
            held.revoked([TopicPartition("t", p)])
            held.assigned([TopicPartition("t", p)])
            tenure[p] += 1
            first = next((n for n in range(begins[p] + 1) if n not in applied[p]), 0)
            begins[p] = min(begins[p], first)
        for tp, offset in held.due().items():
            assert set(range(offset)) <= applied[tp.partition]
    for p in (0, 1):
        for now in range(tenure[p] + 1):
            mine = [offset for partition, offset, when in taken if (partition, when) == (p, now)]
            assert mine == sorted(set(mine))


def test_batch_that_was_never_handed_over_does_not_hold_up_the_next() -> None:
    dropped = batch(p0=10)
    held = in_flight(dropped)
    held.withdraw(dropped)
    after = batch(p0=10)
    after.ok = True
    held.add(after, 1)
    assert held.due() == {P0: 10}
    held.withdraw(after)
    assert held.reading([P0]) == []
