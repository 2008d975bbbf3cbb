"""Fixtures of the streams tests."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from infra.clock import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(datetime(2018, 1, 1, tzinfo=UTC))
