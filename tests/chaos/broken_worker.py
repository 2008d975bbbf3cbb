"""A worker with its order reversed, so that the oracle has something to find: it calls a batch done, which commits it,
and saves it a moment later."""

from __future__ import annotations

import asyncio

from infra.settings import load_settings
from infra.telemetry import configure_logging
from streams.agents import build_batch_app, run_app
from streams.processor import RawMessage
from streams.topics import TRANSACTIONS
from streams.worker import FoldWorker

SAVES_LATER_S = 1.0


class CommitsFirst(FoldWorker):
    """Returns at once, which is what commits a batch."""

    async def start(self) -> None:
        self._later: set[asyncio.Task[None]] = set()
        await super().start()

    async def stop(self) -> None:
        await asyncio.gather(*self._later)
        await super().stop()

    async def __call__(self, messages: list[RawMessage]) -> None:
        task = asyncio.create_task(self._save_later(messages))
        self._later.add(task)
        task.add_done_callback(self._later.discard)

    async def _save_later(self, messages: list[RawMessage]) -> None:
        await asyncio.sleep(SAVES_LATER_S)
        await super().__call__(messages)


def main() -> None:
    settings = load_settings()
    configure_logging(settings.log.level)
    worker = CommitsFirst(settings)
    app = build_batch_app(
        name="worker",
        settings=settings,
        topics=[TRANSACTIONS],
        group=settings.worker.group,
        batch_size=settings.worker.batch_size,
        handler=worker,
        on_start=worker.start,
        on_stop=worker.stop,
    )
    run_app(app, settings.log.level)


if __name__ == "__main__":
    main()
