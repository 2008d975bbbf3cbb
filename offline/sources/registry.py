"""The sources by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from infra.errors import ConfigurationError
from offline.sources.base import Source
from offline.sources.complete_journey import CompleteJourney
from offline.sources.hm import HM
from offline.sources.mapping import Mapping
from offline.sources.retailrocket import RetailRocket
from offline.sources.synthetic import Synthetic

SOURCES: dict[str, Callable[[Path | None], Source]] = {
    CompleteJourney.name: CompleteJourney,
    HM.name: HM,
    RetailRocket.name: RetailRocket,
    Mapping.name: Mapping,
    Synthetic.name: Synthetic,
}


def open_source(name: str, path: Path | None = None) -> Source:
    """The source `name` reading from `path`.

    Raises:
        ConfigurationError: unknown name, a path that is needed and missing, a package not installed.
        DataError: a file is missing.
    """
    if name not in SOURCES:
        raise ConfigurationError(f"no data source {name!r}; allowed: {', '.join(SOURCES)}")
    return SOURCES[name](path)
