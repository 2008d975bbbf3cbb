"""Keeps long pauses away from work that somebody waits for: heavy work beside it goes in small steps with rests between
them, and the collector does not go through what never becomes garbage.

A thread that loads a bundle takes the interpreter in turns of 5 ms from those that answer, at each of the handful of
moments at which an answer must have it back. Resting nine times as long as it worked, it meets few requests, each for
one step (`modiste bench swap`).
"""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

SHARE = 0.1
# Of one step, however long it was: work that cannot be cut up must not take minutes.
MAX_REST_S = 0.5


class _Pace:
    """How far this thread had worked when it last rested."""

    def __init__(self, share: float) -> None:
        self._rest_per_s = 1 / share - 1
        self._worked = time.thread_time()

    def rest(self) -> None:
        time.sleep(min(MAX_REST_S, (time.thread_time() - self._worked) * self._rest_per_s))
        self._worked = time.thread_time()


_pace: ContextVar[_Pace | None] = ContextVar("pace", default=None)


@contextmanager
def unhurried(share: float = SHARE) -> Iterator[None]:
    """Inside, `rest` makes this thread work for at most this share of its time (0 < share <= 1). Not for the thread of
    an event loop, which would rest with it."""
    token = _pace.set(_Pace(share))
    try:
        yield
    finally:
        _pace.reset(token)


def rest() -> None:
    """Between two steps of work that may be done beside requests; does nothing where nobody is `unhurried`."""
    pace = _pace.get()
    if pace is not None:
        pace.rest()


def keep_what_is_loaded() -> None:
    """Take all that lives now out of the garbage collector's rounds: call it once, when a process has its imports.

    Modules, classes and functions are more than a hundred thousand objects, and a full round over them holds every
    thread up: 40 ms where nothing else runs, 100 ms in a responder at work.
    """
    gc.collect()
    gc.freeze()
