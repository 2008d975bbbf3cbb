"""Fixtures of the streams tests."""

from __future__ import annotations

from datetime import UTC, datetime

import hypothesis
import pytest

from infra.clock import ManualClock

# A busy machine must not fail a property for being slow once.
hypothesis.settings.register_profile("no deadline", deadline=None)
hypothesis.settings.load_profile("no deadline")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(datetime(2018, 1, 1, tzinfo=UTC))
