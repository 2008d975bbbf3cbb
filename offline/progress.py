"""Progress of long work: a bar on a terminal, a plain line every few seconds elsewhere. Always on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

LINE_EVERY_SECONDS = 5.0


class Step:
    """Progress of one long step: a bar on a terminal, a plain line every few seconds elsewhere."""

    def __init__(self, name: str, total: int, bar: Progress | None) -> None:
        self._name, self._total, self._bar = name, total, bar
        self._done = 0
        self._said = time.monotonic()
        self._task = bar.add_task(name, total=total) if bar else None

    def expect(self, total: int) -> None:
        """Say how long the step is, where that is known only on the way."""
        self._total = total
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, total=total)

    def advance(self, n: int = 1, note: str = "") -> None:
        self._done += n
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, advance=n, description=f"{self._name} {note}".strip())
        elif time.monotonic() - self._said >= LINE_EVERY_SECONDS or self._done >= self._total:
            self._said = time.monotonic()
            share = 100 * self._done / max(self._total, 1)
            print(
                f"{self._name}: {share:.0f}% ({self._done:,} of {self._total:,}) {note}".rstrip(),
                file=sys.stderr,
                flush=True,
            )


@contextmanager
def step(name: str, total: int) -> Iterator[Step]:
    """Show the progress of a step on stderr."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield Step(name, total, None)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar:
        yield Step(name, total, bar)
