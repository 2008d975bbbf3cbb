"""Runs a handful of processes as one: starts them in order, restarts what dies, stops all in reverse.

One keeper thread owns every child: it alone spawns, polls, restarts and stops, so there is no shared
state to lock. It also keeps the promise "children die with the parent": on Linux the kernel kills a child
when the *thread* that started it ends, and this thread ends only after its children.

    starting (until `ready`) -> up -> died -> back-off -> starting ...

A process that dies `max_deaths` times within `window_s` seconds ends everything with exit code 1.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import IO, TextIO

from infra.errors import ModisteError
from infra.settings import CONFIG_VARIABLE, PREFIX

_TICK_S = 0.05
_READY_EVERY_S = 0.2
_LAST_LINES = 15
_COLOURS = (36, 35, 33, 32, 34, 96, 95, 93)

# Runs in the child before exec: PR_SET_PDEATHSIG (1) = SIGKILL (9), then a check that the parent did not die
# in between. A launcher instead of preexec_fn, which is unsafe (and warns) in a process with threads.
_LAUNCHER = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 9)
if os.getppid() != int(sys.argv[1]): sys.exit(1)
try: os.execvp(sys.argv[2], sys.argv[2:])
except OSError as error: sys.exit(f"cannot run {sys.argv[2]}: {error.strerror}")
"""


def dying_with_us(argv: Sequence[str]) -> list[str]:
    """The command so that the kernel kills it when the thread that starts it ends, as far as the system can (Linux)."""
    if sys.platform != "linux":
        return list(argv)
    return [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid()), *argv]


class ProcessFailed(ModisteError):
    """A supervised process died too often; the message ends with its last lines."""

    exit_code = 1


@dataclass(frozen=True)
class ProcessSpec:
    """One process to keep alive.

    `ready` is asked until it says True (it must answer within a second or two); None means ready at once.
    `started` runs after each start, once ready (for example: a memory broker needs its topics again).
    `env` is laid over this process's environment, of which no setting is passed on: a child knows the passwords that
    its `env` holds and no others.
    """

    name: str
    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    ready: Callable[[], bool] | None = None
    ready_timeout_s: float = 60.0
    started: Callable[[], None] | None = None


class _Child:
    """A spec and the process that runs it now, if any. Touched by the keeper thread only."""

    def __init__(self, spec: ProcessSpec, colour: int) -> None:
        self.spec = spec
        self.colour = colour
        self.process: subprocess.Popen[str] | None = None
        self.reader: threading.Thread | None = None
        self.last_lines: deque[str] = deque(maxlen=_LAST_LINES)
        self.deaths: deque[float] = deque()
        self.started_at = 0.0
        self.next_at = 0.0
        self.up = False
        self.was_up = False


class Supervisor:
    """Keeps the given processes running until stop(), a signal, or one that cannot be kept alive.

    Output of all processes goes to `out` (stderr by default), each line with the name of its process in
    front. Usable as a context manager; leaving it stops everything.
    """

    def __init__(
        self,
        specs: Sequence[ProcessSpec],
        *,
        out: TextIO | None = None,
        grace_s: float = 10.0,
        max_deaths: int = 5,
        window_s: float = 60.0,
        backoff_s: float = 0.5,
        backoff_limit_s: float = 8.0,
    ) -> None:
        names = [spec.name for spec in specs]
        if len(set(names)) != len(names):
            raise ValueError(f"process names must differ, given: {', '.join(names)}")
        self._out = out if out is not None else sys.stderr
        self._colour = self._out.isatty() and "NO_COLOR" not in os.environ
        self._width = max((len(name) for name in names), default=0)
        self._grace_s = grace_s
        self._max_deaths = max_deaths
        self._window_s = window_s
        self._backoff_s = backoff_s
        self._backoff_limit_s = backoff_limit_s
        self._children = [_Child(spec, _COLOURS[i % len(_COLOURS)]) for i, spec in enumerate(specs)]
        self._stop = threading.Event()
        self._hurry = threading.Event()
        self._settled = threading.Event()  # all up, or the keeper has ended
        self._ended = threading.Event()
        self._interrupted = False
        self._keeper: threading.Thread | None = None
        self.failure: str | None = None

    def __enter__(self) -> Supervisor:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # -- called from any thread ---------------------------------------------------------------------------

    def start(self) -> None:
        """Starts all in order, each when the one before is ready; returns when all are up.

        Raises ProcessFailed (everything is stopped then), and KeyboardInterrupt when a signal came in
        meanwhile (see `signals`).
        """
        if self._keeper is None:
            self._keeper = threading.Thread(target=self._keep, name="supervisor", daemon=True)
            self._keeper.start()
        # Waits in slices, so that a signal handler in the main thread gets its turn.
        while not self._settled.wait(0.2):
            pass
        if self.failure is not None:
            self.stop()
            raise ProcessFailed(self.failure)
        if self._interrupted:
            self.stop()
            raise KeyboardInterrupt

    def stop(self) -> None:
        """Stops all in reverse order: SIGTERM, then SIGKILL after the grace. Safe to call again."""
        self._stop.set()
        if self._keeper is not None:
            self._ended.wait()
            self._keeper.join()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Waits until everything has been stopped or has failed; True if so, False at the timeout."""
        return self._ended.wait(timeout_s)

    def run_forever(self) -> int:
        """Blocks until a signal or a failure, then stops all. Returns the exit code: 0 stopped, 1 failed."""
        with self.signals():
            while not self._ended.wait(0.2):
                pass
        self.stop()
        if self.failure is not None:
            self._say(f"stopped: {self.failure}")
            return 1
        return 0

    @contextmanager
    def signals(self) -> Iterator[None]:
        """While inside, SIGINT and SIGTERM stop everything; a second one does not wait for the grace."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def handle(signum: int, frame: FrameType | None) -> None:
            del signum, frame
            if self._stop.is_set():
                self._hurry.set()
            self._interrupted = True
            self._stop.set()

        before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def pids(self) -> dict[str, int]:
        """Process ids of what runs now, by name."""
        running = ((child.spec.name, child.process) for child in self._children)
        return {name: process.pid for name, process in running if process is not None}

    # -- the keeper thread --------------------------------------------------------------------------------

    def _keep(self) -> None:
        try:
            while not self._stop.is_set() and self.failure is None:
                self._tick(time.monotonic())
                if all(child.was_up for child in self._children):
                    self._settled.set()
                self._stop.wait(_TICK_S)
        except Exception as error:  # a broken `ready` or `started`: no child may be left behind
            self.failure = f"{type(error).__name__}: {error}"
        finally:
            for child in reversed(self._children):
                self._stop_child(child)
            self._ended.set()
            self._settled.set()

    def _tick(self, now: float) -> None:
        for child in self._children:
            if child.process is None:
                if now >= child.next_at:
                    self._spawn(child, now)
            elif (code := child.process.poll()) is not None:
                ended = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
                self._died(child, now, ended)
            elif not child.up and now >= child.next_at:
                self._check_ready(child, now)
            if not child.was_up:
                return  # the first start goes in order: the next waits for this one

    def _spawn(self, child: _Child, now: float) -> None:
        child.process = subprocess.Popen(
            dying_with_us(child.spec.argv),
            env={**_inherited(), "PYTHONUNBUFFERED": "1", **child.spec.env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            # Ctrl-C on the terminal reaches only us; we stop the others in order.
            start_new_session=True,
        )
        child.up = False
        child.started_at = now
        child.last_lines.clear()
        child.reader = threading.Thread(
            target=self._read,
            args=(child, child.process.stdout),
            name=f"output of {child.spec.name}",
            daemon=True,
        )
        child.reader.start()
        if child.spec.ready is None:
            self._now_up(child)

    def _check_ready(self, child: _Child, now: float) -> None:
        if child.spec.ready is not None and not child.spec.ready():
            child.next_at = time.monotonic() + _READY_EVERY_S
            if now - child.started_at > child.spec.ready_timeout_s:
                self._died(child, now, f"was not ready within {child.spec.ready_timeout_s:g} s")
            return
        self._now_up(child)

    def _now_up(self, child: _Child) -> None:
        child.up = True
        if child.spec.started is not None:
            child.spec.started()
        if child.was_up:
            self._say("up again", child)
        child.was_up = True

    def _died(self, child: _Child, now: float, how: str) -> None:
        self._stop_child(child)
        child.deaths.append(now)
        while child.deaths and child.deaths[0] < now - self._window_s:
            child.deaths.popleft()
        deaths = len(child.deaths)
        last = "".join(f"\n    {line}" for line in child.last_lines) or " none"
        if deaths >= self._max_deaths:
            self.failure = f"{child.spec.name} {how}, {deaths} times within {self._window_s:g} s; last lines:{last}"
            return
        pause = min(self._backoff_limit_s, self._backoff_s * 2 ** (deaths - 1))
        child.next_at = now + pause
        self._say(f"{how}; starting it again in {pause:g} s; its last lines:{last}", child)

    def _stop_child(self, child: _Child) -> None:
        process = child.process
        if process is None:
            return
        # The whole group, so that nothing a child started outlives it; SIGTERM first.
        _signal_group(process.pid, signal.SIGTERM)
        deadline = time.monotonic() + self._grace_s
        while process.poll() is None and time.monotonic() < deadline and not self._hurry.is_set():
            time.sleep(0.02)
        _signal_group(process.pid, signal.SIGKILL)
        process.wait()
        if child.reader is not None:
            child.reader.join(timeout=2.0)
        child.process = None
        child.reader = None
        child.up = False

    # -- output -------------------------------------------------------------------------------------------

    def _read(self, child: _Child, pipe: IO[str]) -> None:
        with pipe:
            for line in pipe:
                text = line.rstrip()
                child.last_lines.append(text)
                self._write(child.spec.name, child.colour, text)

    def _say(self, text: str, child: _Child | None = None) -> None:
        if child is None:
            self._write("", 0, text)
        else:
            self._write(child.spec.name, child.colour, text)

    def _write(self, name: str, colour: int, text: str) -> None:
        prefix = f"{name:<{self._width}} |"
        if self._colour:
            prefix = f"\x1b[{colour}m{prefix}\x1b[0m"
        try:
            self._out.write(f"{prefix} {text}\n")  # one write a line: lines of two processes never mix
            self._out.flush()
        except (OSError, ValueError):
            return  # nobody reads any more; the processes matter, not their lines


def _inherited() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(PREFIX) or name == CONFIG_VARIABLE}


def _signal_group(pid: int, number: int) -> None:
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        return
