"""Processes as one: order, restarts, giving up, signals, and nothing left behind."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from infra.supervisor import ProcessFailed, ProcessSpec, Supervisor

pytestmark = pytest.mark.timeout(60)


def python(code: str, *args: str) -> list[str]:
    return [sys.executable, "-c", textwrap.dedent(code), *args]


SLEEPER = "import time; print('awake', flush=True); time.sleep(60)"


def until(condition: Callable[[], bool], seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not (stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z")


def test_lines_carry_the_name_of_their_process() -> None:
    out = io.StringIO()
    specs = [
        ProcessSpec("one", python("print('hello')\nimport time; time.sleep(60)")),
        ProcessSpec("second", python(SLEEPER)),
    ]
    with Supervisor(specs, out=out) as supervisor:
        supervisor.start()
        until(lambda: "awake" in out.getvalue() and "hello" in out.getvalue())
    assert "one    | hello\n" in out.getvalue()
    assert "second | awake\n" in out.getvalue()


def test_the_second_waits_until_the_first_is_ready_and_stops_before_it(tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    code = """
        import signal, sys, time, pathlib
        marks, name, pause = pathlib.Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
        def say(what):
            with marks.open("a") as file: file.write(f"{name} {what}\\n")
        def stop(*_):
            say("stops"); sys.exit(0)
        signal.signal(signal.SIGTERM, stop)
        time.sleep(pause)
        say("is up")
        time.sleep(60)
    """

    def said(line: str) -> bool:
        return marks.exists() and line in marks.read_text()

    first = ProcessSpec("first", python(code, str(marks), "first", "0.5"), ready=lambda: said("first is up"))
    second = ProcessSpec("second", python(code, str(marks), "second", "0"), ready=lambda: said("second is up"))
    with Supervisor([first, second], out=io.StringIO()) as supervisor:
        supervisor.start()
    assert marks.read_text().splitlines() == ["first is up", "second is up", "second stops", "first stops"]


def test_a_killed_process_comes_back_and_its_last_lines_are_shown() -> None:
    out = io.StringIO()
    starts = []
    spec = ProcessSpec("worker", python(SLEEPER), started=lambda: starts.append(1))
    with Supervisor([spec], out=out, backoff_s=0.05) as supervisor:
        supervisor.start()
        before = supervisor.pids()["worker"]
        until(lambda: "awake" in out.getvalue())
        os.kill(before, signal.SIGKILL)
        until(lambda: len(starts) == 2)
        assert supervisor.pids()["worker"] != before
    assert "was killed by SIGKILL; starting it again in 0.05 s; its last lines:\n    awake" in out.getvalue()


def test_one_that_keeps_dying_ends_everything_with_its_reason() -> None:
    broken = ProcessSpec("broken", python("print('no such table'); raise SystemExit(3)"))
    supervisor = Supervisor([ProcessSpec("good", python(SLEEPER)), broken], out=io.StringIO(), backoff_s=0.01)
    supervisor.start()
    good = supervisor.pids()["good"]
    assert supervisor.run_forever() == 1
    assert supervisor.failure is not None
    assert "broken ended with code 3, 5 times within 60 s" in supervisor.failure
    assert "no such table" in supervisor.failure
    assert not alive(good)


def test_one_that_never_gets_ready_is_a_failure_of_start() -> None:
    deaf = ProcessSpec("deaf", python(SLEEPER), ready=lambda: False, ready_timeout_s=0.3)
    supervisor = Supervisor([deaf], out=io.StringIO(), max_deaths=2, backoff_s=0.01)
    with pytest.raises(ProcessFailed, match=r"deaf was not ready within 0\.3 s, 2 times"):
        supervisor.start()
    assert supervisor.pids() == {}


def test_a_program_that_does_not_exist_is_named() -> None:
    supervisor = Supervisor(
        [ProcessSpec("odd", ["/no/such/program"], ready=lambda: False)], out=io.StringIO(), max_deaths=1
    )
    with pytest.raises(ProcessFailed, match="/no/such/program"):
        supervisor.start()


def test_one_deaf_to_sigterm_is_killed_after_the_grace_and_so_are_its_children() -> None:
    out = io.StringIO()
    code = """
        import signal, subprocess, sys, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        print("child", child.pid, flush=True)
        time.sleep(60)
    """
    with Supervisor([ProcessSpec("deaf", python(code))], out=out, grace_s=0.3) as supervisor:
        supervisor.start()
        until(lambda: "child" in out.getvalue())
        pid = supervisor.pids()["deaf"]
    grandchild = int(out.getvalue().split("child ")[1].split()[0])
    until(lambda: not alive(grandchild))
    assert not alive(pid)


PARENT = """
    import sys
    from infra.supervisor import ProcessSpec, Supervisor
    sleeper = [sys.executable, "-c", "import time; print('awake', flush=True); time.sleep(60)"]
    supervisor = Supervisor([ProcessSpec("a", sleeper), ProcessSpec("b", sleeper)])
    with supervisor.signals():
        supervisor.start()
        print(*supervisor.pids().values(), flush=True)
        sys.exit(supervisor.run_forever())
"""


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 0), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_children_end_with_their_parent(number: signal.Signals, code: int) -> None:
    if number == signal.SIGKILL and sys.platform != "linux":
        pytest.skip("only Linux tells a child that its parent was killed")
    with subprocess.Popen(python(PARENT), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as parent:
        assert parent.stdout is not None
        children = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(children) == 2
        parent.send_signal(number)
        assert parent.wait(timeout=20) == code
        until(lambda: not any(alive(pid) for pid in children))


def test_names_must_differ() -> None:
    with pytest.raises(ValueError, match="a, a"):
        Supervisor([ProcessSpec("a", ["true"]), ProcessSpec("a", ["true"])])
