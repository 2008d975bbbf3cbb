"""Columns of a customer's events as few bytes, by few operations: most customers have few events, and each costs time.

A `pack_*` depends on the values alone, so equal columns give equal bytes, and its `unpack_*` gives them back exactly.
What no `pack_*` made raises ValueError or OverflowError.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from itertools import pairwise

import msgspec
import numpy as np
import numpy.typing as npt

Times = npt.NDArray[np.int64]
Unsigned = npt.NDArray[np.uint64]
Prices = npt.NDArray[np.float32]
Types = npt.NDArray[np.uint8]
Quantities = npt.NDArray[np.uint16]

# Microseconds. Producers seldom know more than the second, many shops only the minute or the day.
UNITS = (1, 1_000, 1_000_000, 60_000_000, 86_400_000_000)
FIRST_TIME, LAST_TIME = -62_135_596_800_000_000, 253_402_300_799_999_999  # what a datetime can say
# Up to here lists are faster than arrays, whose every operation costs a microsecond.
_FEW = 64
_HUNDRED = np.float32(100)
_UNKNOWN = 65_535
_MAX_CENTS = 65_534
_NAN = np.float32(np.nan).tobytes()
MAX_DIGITS = 18

# What most columns are, made once; whoever has a state does not write into it.
_PURCHASES, _SINGLES = np.zeros(1_024, np.uint8), np.ones(1_024, np.uint16)
_PURCHASES.flags.writeable = _SINGLES.flags.writeable = False

_json_ints = msgspec.json.Decoder(list[int])


def pack_uints(values: Unsigned, greatest: int) -> bytes:
    """uint64[n], little-endian, each as wide as the greatest needs, one byte at least."""
    width = max(1, (greatest.bit_length() + 7) // 8)
    if width == 8:
        return values.tobytes()
    return values.astype("<u8", copy=False).view(np.uint8).reshape(-1, 8)[:, :width].tobytes()


def unpack_uints(raw: bytes, n: int) -> Unsigned:
    width, rest = divmod(len(raw), n) if n else (0, len(raw))
    if rest or width > 8:
        raise ValueError(f"{len(raw)} bytes for {n} numbers")
    wide = np.zeros((n, 8), np.uint8)
    wide[:, :width] = np.frombuffer(raw, np.uint8).reshape(n, width)
    return wide.view("<u8").reshape(n)


def pack_times(times: Times) -> tuple[int, int, list[int] | bytes]:
    """Ascending int64[n] as (first, unit, steps between them).

    Events of one basket share a time. So of many events the steps are a bit each (is there one?) and those that there
    are; MessagePack makes the few of a list small by itself.
    """
    n = len(times)
    if n == 0:
        return 0, 0, []
    if n <= _FEW:
        few = [later - earlier for earlier, later in pairwise(times.tolist())]
        code = _unit(math.gcd(*few))
        unit = UNITS[code]
        return int(times[0]), code, few if code == 0 else [step // unit for step in few]
    steps = times[1:] - times[:-1]
    moves = steps != 0
    some = steps[moves]
    code = _unit(math.gcd(*np.unique(some).tolist()))
    if code:
        some //= UNITS[code]
    return (
        int(times[0]),
        code,
        np.packbits(moves).tobytes() + pack_uints(some.view(np.uint64), int(some.max(initial=0))),
    )


def _unit(step: int) -> int:
    """Number of the coarsest unit that divides a step."""
    if step % UNITS[2]:
        return 0 if step % UNITS[1] else 1
    if step % UNITS[3]:
        return 2
    return 3 if step % UNITS[4] else 4


def unpack_times(first: int, code: int, packed: list[int] | bytes, n: int) -> Times:
    if not (0 <= code < len(UNITS) and FIRST_TIME <= first <= LAST_TIME):
        raise ValueError(f"times from {first} in unit {code}")
    times = np.empty(n, np.int64)
    if n == 0:
        return times
    if isinstance(packed, list):
        if first + sum(packed) * UNITS[code] > LAST_TIME or min(packed, default=0) < 0:
            raise ValueError(f"times from {first} end after the year 9999")
        times[1:] = packed
    else:
        bits = (n + 6) // 8
        if len(packed) < bits:
            raise ValueError(f"{len(packed)} bytes for {n} times")
        moves = np.unpackbits(np.frombuffer(packed, np.uint8, bits), count=n - 1).view(np.bool_)
        some = unpack_uints(packed[bits:], int(np.count_nonzero(moves)))
        if first + float(some.sum(dtype=np.float64)) * UNITS[code] > LAST_TIME:
            raise ValueError(f"times from {first} end after the year 9999")
        times[1:] = 0
        times[1:][moves] = some.view(np.int64)
    if code:
        times[1:] *= UNITS[code]
    times[0] = first
    return np.add.accumulate(times)


def pack_types(types: Types) -> bytes:
    """uint8[n]; nothing where all are purchases, the type 0."""
    raw = types.tobytes()
    return b"" if raw.count(0) == len(raw) else raw


def unpack_types(raw: bytes, n: int, known: int) -> Types:
    """Args:
    known: how many types there are.
    """
    if not raw:
        return _PURCHASES[:n] if n <= len(_PURCHASES) else np.zeros(n, np.uint8)
    if len(raw) != n or max(raw) >= known:
        raise ValueError(f"{len(raw)} types up to {max(raw)} for {n} events; this code knows {known} types")
    return np.frombuffer(raw, np.uint8)


def pack_quantities(quantities: Quantities) -> bytes:
    """uint16[n]; nothing where all are 1, a byte each where all are below 256."""
    raw = quantities.astype("<u2", copy=False).tobytes()
    low, high = raw[::2], raw[1::2]
    if high.count(0) < len(high):
        return raw
    return b"" if low.count(1) == len(low) else low


def unpack_quantities(raw: bytes, n: int) -> Quantities:
    if not raw:
        return _SINGLES[:n] if n <= len(_SINGLES) else np.ones(n, np.uint16)
    if len(raw) == n:
        return np.frombuffer(raw, np.uint8).astype(np.uint16)
    if len(raw) != 2 * n:
        raise ValueError(f"{len(raw)} bytes for {n} quantities")
    return np.frombuffer(raw, "<u2")


def pack_prices(prices: Prices) -> bytes:
    """float32[n], nan where unknown: two bytes each where all are whole cents up to 655.34, else as they are.

    A zero has no sign: who keeps prices lets none be -0.0.
    """
    raw = prices.astype("<f4", copy=False).tobytes()
    if _NAN not in raw:
        known, unknown = prices, None
    else:  # or it only looks so, across two prices
        unknown = np.isnan(prices)
        if unknown.all():
            return b""
        known = np.where(unknown, np.float32(0.0), prices)
    with np.errstate(over="ignore"):  # a price beyond 3e36 is none of whole cents either
        rounded = np.rint(known * _HUNDRED)
    if (rounded / _HUNDRED).tobytes() != (raw if unknown is None else known.tobytes()):
        return raw
    if not rounded.max(initial=0.0) <= _MAX_CENTS:
        return raw
    cents: npt.NDArray[np.uint16] = rounded.astype("<u2")
    if unknown is not None:
        cents[unknown] = _UNKNOWN
    return cents.tobytes()


def unpack_prices(raw: bytes, n: int) -> Prices:
    if not raw:
        return np.full(n, np.nan, np.float32)
    if len(raw) == 4 * n:
        return np.frombuffer(raw, "<f4")
    if len(raw) != 2 * n:
        raise ValueError(f"{len(raw)} bytes for {n} prices")
    cents = np.frombuffer(raw, "<u2")
    prices: Prices = np.divide(cents, _HUNDRED, dtype=np.float32)
    if b"\xff\xff" in raw:
        prices[cents == _UNKNOWN] = np.nan
    return prices


def pack_ids(ids: Sequence[str]) -> tuple[int, bytes] | list[str]:
    """Ids that are numbers as (digits, numbers): digits is 0 where none has leading zeros, else the length of all.
    Others as they are.

    A JSON library parses numbers far faster than a loop. It knows no leading zeros, so what it takes, if there are only
    digits, it will write again the same; where it does not, a 1 is put before each.
    """
    text, digits = ",".join(ids), 0
    if not text or text.encode().translate(None, b"0123456789,"):
        return list(ids)
    try:
        numbers = _json_ints.decode(f"[{text}]")
    except msgspec.DecodeError:
        digits = len(ids[0])
        try:
            numbers = _json_ints.decode(f"[1{text.replace(',', ',1')}]")
        except msgspec.DecodeError:
            return list(ids)
    greatest = max(numbers)
    if len(numbers) != len(ids) or greatest >= 2**63:
        return list(ids)
    values: Unsigned = np.frombuffer(array("Q", numbers), np.uint64)
    if digits == 0:
        return 0, pack_uints(values, greatest)
    # All have this length if what the 1 stands for is the same.
    base = 10**digits
    if digits <= MAX_DIGITS and base <= min(numbers) and greatest < 2 * base:
        return digits, pack_uints(values - np.uint64(base), greatest - base)
    return list(ids)


def _json_text(numbers: list[int]) -> str:
    return msgspec.json.encode(numbers).decode()[1:-1]


def unpack_ids(digits: int, raw: bytes, n: int) -> tuple[str, ...]:
    if n == 0:
        return ()
    if not 0 <= digits <= MAX_DIGITS or not raw:
        raise ValueError(f"{len(raw)} bytes for {n} ids of {digits} digits")
    numbers = np.frombuffer(raw, "<u4") if len(raw) == 4 * n else unpack_uints(raw, n)
    if digits == 0:
        return tuple(_json_text(numbers.tolist()).split(","))
    base = 10**digits
    if int(np.max(numbers)) >= base:
        raise ValueError(f"an id of more than {digits} digits")
    return tuple(_json_text((numbers.astype(np.uint64) + np.uint64(base)).tolist())[1:].split(",1"))
