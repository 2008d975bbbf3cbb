"""One thread a process for linear algebra: processes share the cores with each other, a broker and a store.

Left alone, OpenBLAS and OpenMP start a thread a core for every product and let it spin. Under four processes on two
cores that made the slowest answers seventeen times as slow (`modiste bench swap`). To use more cores, start more
processes.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_limits

# p99 over HTTP at 100 requests a second, turns of this beside turns of Python's own 5 ms: two gateways 17, 31 and 19 ms
# beside 21, 31 and 20, one 32 beside 43.
TURN_S = 0.0005
VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def one_thread() -> None:
    """Hold libraries that are loaded, and those that will be, to one thread; whoever has set OMP_NUM_THREADS decides.

    Call it first in a process: OpenMP reads its variable once, and its threads are counted by each thread that calls.
    """
    if "OMP_NUM_THREADS" in os.environ:
        return
    os.environ.update(dict.fromkeys(VARIABLES, "1"))
    threadpool_limits(1)


def take_turns() -> None:
    """Let the event loop have the interpreter soon after it asks: beside a thread that ranks, the loop needs it for a
    moment at every step of every other request."""
    sys.setswitchinterval(TURN_S)


@contextmanager
def answering() -> Iterator[None]:
    """The same inside, for a process that also learns on more threads: products of one customer are too small to share,
    and threads that spin beside another process made a backtest's answers four times as slow."""
    with threadpool_limits(1):
        yield
