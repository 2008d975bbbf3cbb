"""Fixtures of the offline tests."""

from __future__ import annotations

import pytest

from offline.run import limit_threads
from tests.support.tiny_fixture import tiny

__all__ = ["one_thread", "tiny"]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Networks of this size train many times slower on two threads, above all on a busy machine; and the numbers of
    threads must agree where bits are compared. A command that was tested before may have set another."""
    limit_threads(1)
