"""Both runners of a backtest: in this process, and through broker, store and the real processes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from offline.backtest.inprocess import InProcess
from offline.backtest.runner import Runner
from offline.backtest.through_kafka import ThroughKafka
from tests.suites.runner_suite import RunnerSuite


class TestInProcess(RunnerSuite):
    @pytest.fixture
    async def runner(self) -> AsyncIterator[Runner]:
        runner = InProcess()
        yield runner
        await runner.close()


@pytest.mark.broker
@pytest.mark.slow
class TestThroughKafka(RunnerSuite):
    @pytest.fixture
    async def runner(self, tmp_path: Path) -> AsyncIterator[Runner]:
        async with ThroughKafka(tmp_path / "processes", kafka="tansu") as runner:
            yield runner
