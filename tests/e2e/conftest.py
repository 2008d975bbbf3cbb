"""The whole of Modiste as its users run it: broker, store, worker, responder and HTTP gateway as real processes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta

import pytest

from infra.settings import Settings, load_settings
from serving.up import Stack, start_stack
from tests.support.tiny import START, WEEKS
from tests.support.tiny_fixture import Tiny, tiny

__all__ = ["live", "settings", "tiny"]

PRESENT = START + timedelta(weeks=WEEKS)


@pytest.fixture(scope="session")
def live(kafka_url: str, redis_url: str, tiny: Tiny) -> Iterator[Stack]:
    """Running processes on the tiny shop's bundle, in the present of that shop."""
    env = {
        "MODISTE_KAFKA__URL": kafka_url,
        "MODISTE_REDIS__URL": redis_url,
        "MODISTE_REDIS__PREFIX": "e2e",
        "MODISTE_REGISTRY__URL": tiny.registry_url,
        "MODISTE_DATA_DIR": str(tiny.directory),
        "MODISTE_HTTP__PORT": "0",
        "MODISTE_CLOCK__ORIGIN": PRESENT.isoformat(),
        "MODISTE_CLOCK__STARTED_AT": str(time.time()),
    }
    with start_stack(load_settings(env)) as stack:
        yield stack


@pytest.fixture
def settings(live: Stack) -> Settings:
    return live.settings
