"""States as bytes: they come back, equal ones are equal bytes, old ones are read, and rubbish is refused."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.errors import DataError
from streams.columns import (
    pack_ids,
    pack_prices,
    pack_quantities,
    pack_times,
    unpack_ids,
    unpack_prices,
    unpack_quantities,
    unpack_times,
)
from streams.events import EPOCH, EVENT_TYPES, Event, encode_event, id_key, parse_event
from streams.redis_store import pack, unpack
from streams.state import Bounds, CustomerState, Past, empty_state, fold
from streams.state_format import decode_state, encode_state
from streams.store import StoredCustomer
from streams.totals import Totals

CONTRACTS = sorted((Path(__file__).parents[1] / "contracts").glob("state-format-*.json"))
BOUNDS = Bounds(window=90, ledger=70, bought=2)

ids = (
    st.integers(0, 10**20).map(str)
    | st.integers(0, 10**9).map("{:010d}".format)
    | st.sampled_from(["0", "00", "007", "-1", "1,2", "1.0", "1e3", " 1", "٣", "hat-ä", "1\n", "null", "[1]", '"', "a"])
)
moments = st.integers(0, 2**51) | st.integers(0, 20_000).map(lambda day: day * 86_400_000_000)
some_prices = st.none() | st.integers(0, 70_000).map(lambda cents: cents / 100) | st.floats(0, 1e12)


@st.composite
def states(draw: st.DrawFn) -> CustomerState:
    """Events of one habit: ids of one kind, times of one grain, more often than not."""
    n = draw(st.integers(0, 8) | st.integers(60, 200))
    random = draw(st.randoms(use_true_random=False))
    pools: list[list[Any]] = [
        draw(st.lists(choice, min_size=1, max_size=4)) for choice in (ids, moments, some_prices, st.integers(1, 65_535))
    ]
    events = [
        Event(
            event_id=f"{random.random()}",
            type=random.choice(EVENT_TYPES),
            occurred_at=EPOCH + timedelta(microseconds=random.choice(pools[1])) + timedelta(days=random.randrange(9)),
            customer_id="anna",
            article_id=random.choice(pools[0]),
            price=random.choice(pools[2]),
            quantity=random.choice(pools[3]),
        )
        for _ in range(n)
    ]
    return fold(empty_state("anna"), events, BOUNDS)[0]


def assert_equal(one: CustomerState, other: CustomerState, *, bought: bool = True) -> None:
    for name in ("occurred_at", "keys", "types", "prices", "quantities"):
        a, b = getattr(one, name), getattr(other, name)
        assert a.dtype == b.dtype
        assert a.tobytes() == b.tobytes()
    assert (one.customer_id, one.article_ids, one.totals) == (other.customer_id, other.article_ids, other.totals)
    assert (one.past is None) == (other.past is None)
    if one.past is not None and other.past is not None:
        assert one.past.totals == other.past.totals
        assert one.past.occurred_at.tolist() == other.past.occurred_at.tolist()
        assert one.past.keys.tolist() == other.past.keys.tolist()
        if bought:
            assert (one.past.bought.tolist(), one.past.whole) == (other.past.bought.tolist(), other.past.whole)


@given(state=states())
def test_encoded_state_comes_back(state: CustomerState) -> None:
    raw = encode_state(state)
    back = decode_state(raw)
    assert_equal(back, state)
    assert encode_state(back) == raw


@given(state=states(), data=st.data())
def test_hostile_bytes_are_refused_or_read_but_never_crash(state: CustomerState, data: st.DataObject) -> None:
    """Whatever is read can be folded, counted and written again."""
    vector = np.linspace(-1, 1, 8).astype(np.float32)
    raw = bytearray(pack(StoredCustomer(state, 3, "space", vector), 4))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(raw[: data.draw(st.integers(0, len(raw)))]) if data.draw(st.booleans()) else bytes(raw)
    try:
        found = unpack(cut).state
    except DataError:
        return
    assert len(found.totals) >= 0
    event = Event(event_id="e", type="view", occurred_at=EPOCH, customer_id=found.customer_id, article_id="a")
    again, _ = fold(found, [event], BOUNDS)
    decode_state(encode_state(again))


@pytest.mark.parametrize("raw", [b"", b"\x00", b"not a state", encode_state(empty_state("anna"))[:-1]])
def test_foreign_bytes_are_refused(raw: bytes) -> None:
    with pytest.raises(DataError, match="not a customer state"):
        decode_state(raw)


def test_a_newer_format_is_named() -> None:
    raw = bytearray(encode_state(empty_state("anna")))
    raw[1] = 4
    with pytest.raises(DataError, match="format 4; this code reads 1, 2, 3"):
        decode_state(bytes(raw))


@pytest.mark.parametrize("path", CONTRACTS, ids=lambda path: path.stem)
def test_saved_values_of_every_format_are_read_for_ever(path: Path) -> None:
    saved = json.loads(path.read_text())
    events = [parse_event(json.dumps(event).encode()) for event in saved["events"]]
    bounds = Bounds(**saved.get("bounds", {}))
    expected, _ = fold(empty_state("900"), events, bounds)
    told = saved["format"] >= 3
    assert_equal(decode_state(base64.b64decode(saved["state"])), expected, bought=told)
    stored = unpack(base64.b64decode(saved["redis_value"]))
    assert_equal(stored.state, expected, bought=told)
    assert (stored.version, stored.space) == (saved["version"], saved["space"])
    assert stored.embedding is not None
    assert stored.embedding.tolist() == np.array(saved["embedding"], np.float32).tolist()
    # What is written next is of the present format, and folding goes on where it was.
    again, outcomes = fold(decode_state(encode_state(stored.state)), events, bounds)
    assert len(again.totals) == len(events)
    assert {outcome.value for outcome in outcomes} == {"duplicate"}


def test_values_of_every_format_are_saved() -> None:
    assert [path.stem for path in CONTRACTS] == ["state-format-1", "state-format-2", "state-format-3"]


def test_what_a_format_did_not_tell_is_known_to_be_unknown() -> None:
    """Of formats 2 and 3 with the same events: two purchases have left the window."""
    two, three = (decode_state(base64.b64decode(json.loads(path.read_text())["state"])).past for path in CONTRACTS[1:])
    assert two is not None and three is not None
    assert (two.whole, two.bought.tolist()) == (False, [])
    assert (three.whole, three.bought.tolist()) == (True, sorted([id_key("1082185"), id_key("995242")]))


def test_a_full_state_of_format_one_may_have_forgotten_purchases() -> None:
    """It kept 1,000 events and did not tell whether there were more; what was read so is written so."""
    saved = json.loads(CONTRACTS[0].read_text())
    fields = msgspec.msgpack.decode(base64.b64decode(saved["state"]))
    n = len(fields[-1])
    full = [*fields[:2], *((column * -(-1_000 // n))[: 1_000 * len(column) // n] for column in fields[2:])]
    for state in (
        decode_state(msgspec.msgpack.encode(full)),
        decode_state(encode_state(decode_state(msgspec.msgpack.encode(full)))),
    ):
        assert len(state) == 1_000
        assert state.past is not None and not state.past.whole
        assert len(state.totals) == 1_000
        assert state.totals.first == state.occurred_at.min()


def test_articles_that_do_not_ascend_are_refused() -> None:
    past = Past(Totals((1, 0, 0), (1, 0, 0), (0, 0, 0), 1, 1), *two_columns(), np.array([5, 5], np.uint64), True)
    with pytest.raises(DataError, match="articles that do not ascend"):
        decode_state(encode_state(msgspec.structs.replace(empty_state("anna"), past=past)))


def two_columns() -> tuple[np.ndarray, np.ndarray]:
    return np.array([1], np.int64), np.array([1], np.uint64)


def test_twenty_purchases_of_a_supermarket_are_small() -> None:
    """Baskets, prices in cents, numbers as ids: 8 bytes of digest, 2 of price, 3 of article, and what is in common."""
    start = datetime(2025, 3, 1, 9, 30, tzinfo=UTC)
    events = [
        parse_event(
            encode_event(
                Event(
                    event_id=f"e{n}",
                    type="purchase",
                    occurred_at=start + timedelta(days=3 * (n // 5)),
                    customer_id="1228",
                    article_id=str(1_082_185 + n),
                    price=n + 0.99,
                )
            )
        )
        for n in range(20)
    ]
    assert len(encode_state(fold(empty_state("1228"), events)[0])) == 20 * (8 + 2 + 3) + 19 + 32


def test_columns_by_hand() -> None:
    day = 86_400_000_000
    assert pack_times(np.array([day, day, 3 * day])) == (day, 4, [0, 2])
    assert pack_times(np.array([7, 7, 1_000_007])) == (7, 2, [0, 1])
    assert pack_prices(np.array([1.29, 655.34, np.nan], np.float32)) == b"\x81\x00\xfe\xff\xff\xff"
    assert pack_prices(np.array([np.nan, np.nan], np.float32)) == b""
    assert len(pack_prices(np.array([1.29, 655.35], np.float32))) == 8
    assert len(pack_prices(np.array([1.29, 0.001], np.float32))) == 8
    assert len(pack_prices(np.array([1.29, 3e38], np.float32))) == 8  # which a hundred times over is no float32
    assert pack_quantities(np.array([1, 1], np.uint16)) == b""
    assert pack_quantities(np.array([1, 255], np.uint16)) == b"\x01\xff"
    assert pack_quantities(np.array([1, 256], np.uint16)) == b"\x01\x00\x00\x01"
    assert pack_ids(("7", "258")) == (0, b"\x07\x00\x02\x01")
    assert pack_ids(("0007", "0258")) == (4, b"\x07\x00\x02\x01")
    assert pack_ids(("1007", "0258")) == (4, b"\xef\x03\x02\x01")
    assert unpack_ids(4, b"\xef\x03\x02\x01", 2) == ("1007", "0258")
    assert pack_ids(("007", "0258")) == ["007", "0258"]
    assert pack_ids(("0", "00")) == ["0", "00"]
    assert pack_ids(("hat", "0258")) == ["hat", "0258"]
    assert pack_ids(("",)) == [""]


def test_every_price_in_cents_is_the_float32_of_its_decimal() -> None:
    """Prices of JSON are rounded to float32 from a double, ours from a division of float32: the same, to the bit."""
    prices = (np.arange(65_535) / 100).astype(np.float32)
    raw = pack_prices(prices)
    assert len(raw) == 2 * len(prices)
    assert unpack_prices(raw, len(prices)).tobytes() == prices.tobytes()


@pytest.mark.parametrize(
    ("broken", "args"),
    [
        (unpack_times, (0, 9, [1], 2)),
        (unpack_times, (0, 0, [-1], 2)),
        (unpack_times, (0, 4, [10**9], 2)),
        (unpack_times, (0, 0, [1, 2], 2)),
        (unpack_times, (0, 0, b"", 100)),
        (unpack_prices, (b"123", 2)),
        (unpack_quantities, (b"123", 2)),
        (unpack_ids, (0, b"123", 2)),
        (unpack_ids, (1, b"\x0b\x0c", 2)),
        (unpack_ids, (19, b"12", 2)),
        (unpack_ids, (0, b"", 2)),
    ],
)
def test_broken_columns_are_refused(broken: Any, args: tuple[Any, ...]) -> None:
    with pytest.raises(ValueError):
        broken(*args)
