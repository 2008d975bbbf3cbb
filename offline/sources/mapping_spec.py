"""The TOML that says where a shop's own files and columns are; `mapping.example.toml` explains every key."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from infra.errors import ConfigurationError
from offline.sources.base import ARTICLE_FACTS, CUSTOMER_SCHEMA
from streams.events import EVENT_TYPES

FILE_NAME = "mapping.toml"
TIME_FORMATS = ("iso", "s", "ms", "us")
# What a value of the type column may stand for; the last leaves the row out.
MEANINGS = (*EVENT_TYPES, "ignore")


@dataclass(frozen=True)
class EventColumns:
    """Table [events]. Column names, but for `type`, `time_format`, `types`, `price_of`, `separator`."""

    file: tuple[str, ...]
    customer: str
    article: str
    time: str
    time_format: str = "iso"
    type: str | None = None
    type_column: str | None = None
    types: dict[str, str] = field(default_factory=dict)
    event_id: str | None = None
    price: str | None = None
    price_of: str = "line"
    quantity: str | None = None
    channel: str | None = None
    separator: str = ","


@dataclass(frozen=True)
class TableColumns:
    """Table [articles] or [customers]: `columns` has our column -> theirs (several for a text)."""

    file: str
    id: str
    columns: dict[str, tuple[str, ...]]
    age: str | None = None
    unknown: str = "refuse"
    separator: str = ","


@dataclass(frozen=True)
class ShopMapping:
    """A whole mapping; `directory` is what its file names are relative to."""

    path: Path
    events: EventColumns
    articles: TableColumns | None
    customers: TableColumns | None

    @property
    def directory(self) -> Path:
        return self.path.parent


_EVENT_KEYS = tuple(f.name for f in fields(EventColumns))
_ARTICLE_KEYS = ("file", "id", *ARTICLE_FACTS, "unknown", "separator")
_CUSTOMER_KEYS = ("file", "id", "age", *CUSTOMER_SCHEMA.names[1:], "separator")
KEYS = {"events": _EVENT_KEYS, "articles": _ARTICLE_KEYS, "customers": _CUSTOMER_KEYS}


def load_mapping(path: Path) -> ShopMapping:
    """Read the TOML file `path`, or `mapping.toml` in the directory `path`.

    Raises:
        ConfigurationError: no such file, not TOML, a key unknown, missing or of a value that is not allowed.
    """
    file = path / FILE_NAME if path.is_dir() else path
    try:
        raw = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(
            f"{file}: cannot be read: {error}; --path wants a mapping TOML, or a directory with {FILE_NAME}"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{file}: not TOML: {error}") from error
    reader = _Reader(file)
    reader.known(raw, KEYS, "")
    if "events" not in raw:
        raise ConfigurationError(f"{file}: the table [events] is missing; it names the file and columns of the events")
    tables = {name: reader.table(raw[name], name) for name in raw}
    return ShopMapping(
        file,
        _events(reader, tables["events"]),
        _table(reader, tables.get("articles"), "articles", ARTICLE_FACTS),
        _table(reader, tables.get("customers"), "customers", CUSTOMER_SCHEMA.names[1:]),
    )


def _events(reader: _Reader, raw: Mapping[str, Any]) -> EventColumns:
    section = "events"
    given = {name: reader.text(raw, section, name) for name in raw if name not in {"file", "types"}}
    for name in ("customer", "article", "time"):
        reader.needed(raw, section, name)
    if ("type" in given) == ("type_column" in given):
        reader.fail(section, "type", "give either type (one for all rows) or type_column with [events.types]")
    if "type" in given:
        reader.one_of(section, "type", given["type"], EVENT_TYPES)
    types = reader.table(raw.get("types", {}), "events.types")
    for value, meaning in types.items():
        reader.one_of("events.types", value, meaning, MEANINGS)
    if types and "type_column" not in given:
        reader.fail(section, "types", "is of no use without type_column")
    if "%" not in given.get("time_format", "iso"):
        reader.one_of(
            section, "time_format", given.get("time_format", "iso"), (*TIME_FORMATS, "or a pattern such as %d.%m.%Y")
        )
    reader.one_of(section, "price_of", given.get("price_of", "line"), ("line", "piece"))
    if given.get("price_of") == "piece" and not ("price" in given and "quantity" in given):
        reader.fail(section, "price_of", "a price of a piece needs the columns price and quantity")
    reader.separator(section, given.get("separator", ","))
    return EventColumns(file=reader.files(raw, section), types=types, **given)


def _table(reader: _Reader, raw: Mapping[str, Any] | None, section: str, columns: Iterable[str]) -> TableColumns | None:
    if raw is None:
        return None
    own = {name: reader.text(raw, section, name) for name in ("id", "age", "unknown", "separator") if name in raw}
    reader.needed(raw, section, "id")
    reader.one_of(section, "unknown", own.get("unknown", "refuse"), ("refuse", "ignore"))
    reader.separator(section, own.get("separator", ","))
    if "age" in raw and "age_band" in raw:
        reader.fail(section, "age", "give either age (in years) or age_band")
    named = {
        name: reader.texts(raw, section, name) if name == "text" else (reader.text(raw, section, name),)
        for name in columns
        if name in raw
    }
    return TableColumns(file=reader.file_name(raw, section), columns=named, **own)


class _Reader:
    """Takes values out of the parsed TOML; every refusal names the file, the key and what is allowed."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def fail(self, section: str, key: str, reason: str) -> None:
        raise ConfigurationError(f"{self.file}: {key} in [{section}]: {reason}")

    def known(self, raw: Mapping[str, Any], keys: Iterable[str], section: str) -> None:
        allowed = list(keys)
        for key in raw:
            if key not in allowed:
                close = difflib.get_close_matches(key, allowed, n=1, cutoff=0.5)
                hint = f"did you mean {close[0]}? " if close else ""
                place = f"key {key!r} in [{section}]" if section else f"table [{key}]"
                raise ConfigurationError(f"{self.file}: unknown {place}; {hint}allowed: {', '.join(allowed)}")

    def table(self, raw: Any, section: str) -> dict[str, Any]:
        if not isinstance(raw, dict):
            raise ConfigurationError(f"{self.file}: {section} must be a table: [{section}] and its keys below")
        if section in KEYS:
            self.known(raw, KEYS[section], section)
        return raw

    def needed(self, raw: Mapping[str, Any], section: str, key: str) -> None:
        if key not in raw:
            self.fail(section, key, "is missing; it names a column" if key != "file" else "is missing; it names a file")

    def text(self, raw: Mapping[str, Any], section: str, key: str) -> str:
        value = raw[key]
        if not isinstance(value, str) or not value:
            self.fail(section, key, f"{value!r}; a text in quotes is needed")
        return str(value)

    def texts(self, raw: Mapping[str, Any], section: str, key: str) -> tuple[str, ...]:
        value = raw[key]
        if not isinstance(value, list):
            return (self.text(raw, section, key),)
        if not value or not all(isinstance(part, str) and part for part in value):
            self.fail(section, key, f"{value!r}; a text or a list of texts is needed")
        return tuple(value)

    def files(self, raw: Mapping[str, Any], section: str) -> tuple[str, ...]:
        self.needed(raw, section, "file")
        names = self.texts(raw, section, "file")
        for name in names:
            if Path(name).suffix not in {".csv", ".parquet"}:
                self.fail(section, "file", f"{name!r}; files are .csv or .parquet")
        return names

    def file_name(self, raw: Mapping[str, Any], section: str) -> str:
        names = self.files(raw, section)
        if len(names) > 1:
            self.fail(section, "file", "one file is allowed here; only events may lie in several")
        return names[0]

    def one_of(self, section: str, key: str, value: Any, allowed: Iterable[str]) -> None:
        if value not in allowed:
            self.fail(section, key, f"{value!r}; allowed: {', '.join(allowed)}")

    def separator(self, section: str, value: str) -> None:
        if len(value) != 1 or not value.isascii() or value in '"\r\n':
            self.fail(section, "separator", f"{value!r}; one character is needed, such as ; or \\t")
