"""The sources by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from infra.errors import ConfigurationError
from offline.sources.archive import Archive
from offline.sources.base import Source
from offline.sources.complete_journey import CompleteJourney
from offline.sources.hm import HM
from offline.sources.mapping import Mapping
from offline.sources.merged import Merged
from offline.sources.retailrocket import RetailRocket
from offline.sources.synthetic import Synthetic

SOURCES: dict[str, Callable[[Path | None], Source]] = {
    CompleteJourney.name: CompleteJourney,
    HM.name: HM,
    RetailRocket.name: RetailRocket,
    Mapping.name: Mapping,
    Synthetic.name: Synthetic,
    Archive.name: Archive,
}


HELP = f"{', '.join(SOURCES)}; or several joined by +, each in its own folder of --path"


def open_source(name: str, path: Path | None = None, base: Path | None = None) -> Source:
    """The source `name` reading from `path`; for names joined by + each reads from the folder of its name.

    `base` is what came before an archive, see offline.sources.archive.

    Raises:
        ConfigurationError: unknown name, a path that is needed and missing, a package not installed.
        DataError: a file is missing.
    """
    if base is not None:
        if name != Archive.name:
            raise ConfigurationError(f"--base is for --data {Archive.name}, which it comes before; given is {name}")
        return Archive(path, base)
    names = name.split("+")
    for part in names:
        if part not in SOURCES:
            raise ConfigurationError(f"no data source {part!r}; allowed: {', '.join(SOURCES)}, or several joined by +")
    if len(names) == 1:
        return SOURCES[name](path)
    if len(set(names)) < len(names):
        raise ConfigurationError(f"{name} names a source twice; a source can be in a merged catalogue once")
    return Merged({part: _open_part(part, path) for part in names})


def _open_part(name: str, path: Path | None) -> Source:
    folder = path / name if path is not None else None
    # A source that needs no path may do without its folder.
    if folder is not None and folder.exists():
        return SOURCES[name](folder)
    try:
        return SOURCES[name](None)
    except ConfigurationError as error:
        where = f"{folder} does not exist" if folder else f"give --path DIR with a folder {name} in it"
        raise ConfigurationError(f"{where}: {error}") from error
