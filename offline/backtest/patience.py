"""Waiting for processes that may never get there."""

from __future__ import annotations

import time
from pathlib import Path

from infra.errors import Unavailable
from serving.up import Stack


class Watch:
    """Ends waiting that leads nowhere."""

    def __init__(self, what: str, stack: Stack, patience_s: float, log: Path) -> None:
        self._what, self._stack, self._patience, self._log = what, stack, patience_s, log
        self._seen: object = None
        self._since = time.monotonic()

    def __call__(self, progress: object = None, detail: str = "") -> None:
        """Called while waiting; `progress` differs whenever something has happened.

        Raises:
            Unavailable: a process could not be kept alive, or nothing has happened for too long.
        """
        detail = f" ({detail})" if detail else ""
        if self._stack.failure is not None:
            raise Unavailable(f"{self._what}{detail}: {self._stack.failure}")
        if progress != self._seen:
            self._seen, self._since = progress, time.monotonic()
        if time.monotonic() - self._since > self._patience:
            raise Unavailable(
                f"{self._what}{detail}: nothing has happened for {self._patience:g} s; {self._log} has what the "
                "processes say"
            )
