"""Keeps long pauses away from work that somebody waits for: heavy work beside it goes in steps with rests between them,
and the collector does not go through what never becomes garbage.

A thread that loads a bundle takes the interpreter in turns of 5 ms from those that answer, at each of the handful of
moments at which an answer must have it back. Resting nine times as long as it worked, it meets few requests, each for
one step (`modiste bench swap`). Who is waited for says for how long it may rest in all.
"""

from __future__ import annotations

import gc
import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

SHARE = 0.1
# Of one step, however long it was: work that cannot be cut up must not take minutes, nor all that may be rested.
MAX_REST_S = 0.2


class _Pace(threading.local):
    """Of this thread: how long it rests for a second of work, how long in all from now on, how far it had worked when
    it last rested, and what ends all rests."""

    rest_per_s = 0.0
    left_s = math.inf
    worked = 0.0
    hurry: threading.Event | None = None


_pace = _Pace()


@contextmanager
def unhurried(
    hurry: threading.Event | None = None, *, share: float = SHARE, most_s: float = math.inf
) -> Iterator[None]:
    """Inside, `rest` makes this thread work for at most this share of its time (0 < share <= 1), until it has rested
    for `most_s` seconds or `hurry` is set. Not for the thread of an event loop, which would rest with it; not to be
    nested."""
    _pace.rest_per_s, _pace.left_s, _pace.worked, _pace.hurry = 1 / share - 1, most_s, time.thread_time(), hurry
    try:
        yield
    finally:
        _pace.rest_per_s, _pace.hurry = 0.0, None


def rest() -> None:
    """Between two steps of work that may be done beside requests; does nothing where nobody is `unhurried`."""
    if not _pace.rest_per_s:
        return
    seconds = min(MAX_REST_S, _pace.left_s, (time.thread_time() - _pace.worked) * _pace.rest_per_s)
    _pace.left_s -= seconds
    if _pace.hurry is None:
        time.sleep(seconds)
    else:
        _pace.hurry.wait(seconds)
    _pace.worked = time.thread_time()


def keep_what_is_loaded() -> None:
    """Take all that lives now out of the garbage collector's rounds: call it once, when a process has its imports.

    Modules, classes and functions are more than a hundred thousand objects, and a full round over them holds every
    thread up: 40 ms where nothing else runs, 100 ms in a responder at work.
    """
    gc.collect()
    gc.freeze()
