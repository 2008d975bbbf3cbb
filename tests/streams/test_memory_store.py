"""MemoryStore behaves as every store must."""

from __future__ import annotations

import pytest

from streams.store import MemoryStore, StateStore
from tests.suites.store_suite import StoreSuite


class TestMemoryStore(StoreSuite):
    @pytest.fixture
    def store(self) -> StateStore:
        return MemoryStore()
