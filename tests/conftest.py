"""Servers that the whole suite shares: one broker and one Redis server, started when the first test asks."""

from __future__ import annotations

from collections.abc import Iterator

import hypothesis
import pytest

from infra.threads import one_thread
from tests.support.servers import choose_broker, choose_redis, running_broker, running_redis, take_variables

# Sums of two threads differ from those of one in the last bit, and what is compared here was made by either.
one_thread()

# A busy machine must not fail a property for being slow once.
hypothesis.settings.register_profile("no deadline", deadline=None)
hypothesis.settings.load_profile("no deadline")

GIVEN = take_variables()


def pytest_report_header() -> list[str]:
    return [f"broker: {choose_broker(GIVEN).why}", f"redis: {choose_redis(GIVEN).why}"]


@pytest.fixture(scope="session")
def kafka_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`kafka://host:port` of a running broker. Shared: name your own topics and groups."""
    with running_broker(choose_broker(GIVEN), tmp_path_factory.mktemp("broker")) as url:
        yield url


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`redis://host:port/0` of a running server. Shared: use a prefix of your own."""
    with running_redis(choose_redis(GIVEN), tmp_path_factory.mktemp("redis")) as url:
        yield url
