"""How large a synthetic world is, and its random numbers."""

from __future__ import annotations

import zlib
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta

import numpy as np

from infra.errors import ConfigurationError

FIRST_DAY = datetime(2025, 1, 1, tzinfo=UTC)
MAX_ARTICLES = 2_000_000  # ids have ten digits, of which three number the variant
MAX_CUSTOMERS = 50_000_000
MAX_DAYS = 3_650


@dataclass(frozen=True)
class WorldSize:
    """Everything a world follows from: equal sizes and seeds give equal worlds, day by day.

    Raises:
        ConfigurationError: a number out of range.
    """

    customers: int = 2_000
    articles: int = 2_000
    days: int = 180
    seed: int = 1

    def __post_init__(self) -> None:
        highest = {"customers": MAX_CUSTOMERS, "articles": MAX_ARTICLES, "days": MAX_DAYS, "seed": 2**63 - 1}
        for name, value in asdict(self).items():
            lowest = 0 if name == "seed" else 1
            if not lowest <= value <= highest[name]:
                raise ConfigurationError(f"{name} {value}; allowed are {lowest} to {highest[name]:,}")

    def date(self, day: int) -> datetime:
        """00:00 UTC of the world's day `day` (0 is the first)."""
        return FIRST_DAY + timedelta(days=day)


def generator(seed: int, stream: str, day: int = 0) -> np.random.Generator:
    """Random numbers for one purpose and day, independent of all others: views never change what is bought."""
    return np.random.default_rng([seed, zlib.crc32(stream.encode()), day])
