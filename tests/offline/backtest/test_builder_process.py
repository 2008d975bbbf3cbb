"""The builder elsewhere gives the same bundles, tells its errors here, and lives no longer than we do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from infra.errors import ConfigurationError, Unavailable
from offline.backtest.builder import BundleBuilder
from offline.backtest.builder_process import BuilderProcess
from tests.offline.backtest.toy_backtest import PLAN, START, WEEK, toy_log


@pytest.mark.slow
def test_bundles_are_those_of_a_builder_here(tmp_path: Path) -> None:
    log = toy_log(tmp_path / "toy")
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    here = BundleBuilder(log, PLAN, tmp_path / "here", tmp_path / "data")
    with BuilderProcess(log, PLAN, tmp_path / "there", tmp_path / "data") as there:
        for step in PLAN.steps[:2]:
            assert there.bundle(step).manifest.files == here.bundle(step).manifest.files


def test_a_plan_that_cannot_be_is_told_at_once(tmp_path: Path) -> None:
    early = replace(PLAN, start=START, end=START + 3 * WEEK)
    with (
        pytest.raises(ConfigurationError, match="nothing to learn from"),
        BuilderProcess(toy_log(tmp_path / "toy"), early, tmp_path, tmp_path),
    ):
        pass


def test_a_killed_builder_is_told_with_what_to_do(tmp_path: Path) -> None:
    with BuilderProcess(toy_log(tmp_path / "toy"), PLAN, tmp_path, tmp_path) as builder:
        (child,) = builder._pool._processes
        os.kill(child, signal.SIGKILL)
        with pytest.raises(Unavailable, match="start again"):
            builder.bundle(PLAN.steps[0])


PARENT = """
import os, sys
from pathlib import Path
from offline.backtest.builder_process import BuilderProcess
from offline.event_log import EventLog
from tests.offline.backtest.toy_backtest import PLAN

if __name__ == "__main__":
    with BuilderProcess(EventLog(Path(sys.argv[1])), PLAN, Path(sys.argv[2]), Path(sys.argv[2])) as builder:
        print(*builder._pool._processes, flush=True)
        sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel ends it on Linux only")
def test_it_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    log = toy_log(tmp_path / "toy")
    (tmp_path / "parent.py").write_text(PARENT)
    parent = subprocess.Popen(
        [sys.executable, str(tmp_path / "parent.py"), str(log.path), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdin is not None and parent.stdout is not None
    with parent.stdin, parent.stdout:
        child = int(parent.stdout.readline())
        parent.kill()
        parent.wait()
    end = time.monotonic() + 30
    while Path(f"/proc/{child}").exists() and "Z" not in Path(f"/proc/{child}/stat").read_text().split()[2]:
        assert time.monotonic() < end, "the builder outlived the backtest"
        time.sleep(0.05)
