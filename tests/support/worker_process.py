"""A command such as `modiste streams worker` as a real process: start, wait for what it did, stop, read its log."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

MODISTE = [sys.executable, "-c", "from infra.cli import main; main()"]
WORKER = ("streams", "worker")


class WorkerProcess:
    """One process; leaving the `with` block kills it if it still runs."""

    def __init__(self, directory: Path, settings: Mapping[str, str], words: tuple[str, ...] = WORKER) -> None:
        self._log_path = directory / f"worker-{time.monotonic_ns()}.log"
        clean = {name: value for name, value in os.environ.items() if not name.startswith("MODISTE_")}
        with self._log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [*MODISTE, *words], env={**clean, **settings}, stdout=log, stderr=log, cwd=Path(__file__).parents[2]
            )

    @property
    def log(self) -> str:
        return self._log_path.read_text(encoding="utf-8", errors="replace")

    async def until(self, done: Callable[[], Awaitable[bool]], *, seconds: float = 60.0) -> None:
        """Wait until `done` says True; fails with the log when the process ends or time is up."""
        end = time.monotonic() + seconds
        while not await done():
            if self.process.poll() is not None:
                raise AssertionError(f"it ended with code {self.process.returncode}:\n{self.log}")
            if time.monotonic() > end:
                raise AssertionError(f"not done within {seconds:g} s; its log:\n{self.log}")
            await asyncio.sleep(0.1)

    def terminate(self, *, seconds: float = 30.0) -> int:
        """SIGTERM; returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.kill()
