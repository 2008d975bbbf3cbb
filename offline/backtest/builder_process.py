"""The builder in a process of its own, so that building the next bundle and answering from this one share no
interpreter: on two cores a year of weekly steps takes two thirds of the time.

The process ends with the one that started it, however that ends: a backtest that is killed and started again must not
find the builder of the last one at work in its directory.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from types import TracebackType
from typing import Self

from infra.bundle import Bundle, open_bundle
from infra.errors import Unavailable
from infra.threads import one_thread
from offline.backtest.builder import BundleBuilder
from offline.backtest.plan import BacktestPlan, Step
from offline.content.images import open_images
from offline.event_log import EventLog
from offline.run import limit_threads

_PR_SET_PDEATHSIG = 1
THREADS = 2

# The builder of this process, where it is one.
_builder: BundleBuilder | None = None


class BuilderProcess:
    """A `BundleBuilder` elsewhere. Start it from the thread that lives longest: on Linux it ends with that thread."""

    def __init__(
        self, log: EventLog, plan: BacktestPlan, directory: Path, data_dir: Path, images: Path | None = None
    ) -> None:
        self._arguments = log.path, plan, directory, data_dir, images
        self._pool = ProcessPoolExecutor(
            1, mp_context=multiprocessing.get_context("spawn"), initializer=_begin, initargs=(os.getpid(),)
        )

    def __enter__(self) -> Self:
        try:
            self._pool.submit(_open, *self._arguments).result()  # the process starts here, and what is wrong is told
        except BaseException:
            self._pool.shutdown(wait=False)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def bundle(self, step: Step) -> Bundle:
        """As `BundleBuilder.bundle`; blocks.

        Raises:
            Unavailable: the process was killed, perhaps for its memory; what is sealed stays, start again.
        """
        try:
            return open_bundle(self._pool.submit(_build, step).result())
        except BrokenProcessPool as error:
            raise Unavailable(
                "the process that builds bundles was killed, perhaps for its memory; start again to go on"
            ) from error


def _begin(parent: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)  # it died in between
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches both; the parent decides
    # Counting and factorising keep to one core: this step's answers are on the other, and threads that wait for each
    # other by spinning would slow both. Networks learn before there is anything to answer with.
    one_thread()
    limit_threads(THREADS)


def _open(log: Path, plan: BacktestPlan, directory: Path, data_dir: Path, images: Path | None) -> None:
    global _builder  # noqa: PLW0603 - one process, one builder
    photos = None if images is None else open_images(images)
    _builder = BundleBuilder(EventLog(log), plan, directory, data_dir, photos)


def _build(step: Step) -> Path:
    if _builder is None:
        raise RuntimeError("asked to build before the process had begun")
    return _builder.bundle(step).path
