"""Where things are, how many and how long: one frozen tree, read once in `main` and passed in.

Environment over TOML file over defaults. Whatever changes the meaning of a result lives in the bundle, never
here. An unknown key or `MODISTE_*` name is refused, so that a misspelt setting is never silently the default.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from infra.clock import Clock, ReplayClock, SharedClock, SystemClock
from infra.errors import ConfigurationError
from infra.http_settings import ApiSettings, HttpSettings, PageSettings
from infra.llm_settings import LlmSettings
from infra.rule_settings import RulesSettings
from infra.server_settings import KafkaSettings, RedisSettings
from infra.settings_section import Count, Milliseconds, Name, Section

# Every section is found here, wherever it stands.
__all__ = [
    "CONFIG_VARIABLE",
    "PREFIX",
    "ApiSettings",
    "ArchiverSettings",
    "ClockSettings",
    "HttpSettings",
    "KafkaSettings",
    "LlmSettings",
    "LogSettings",
    "PageSettings",
    "RedisSettings",
    "RegistrySettings",
    "ResponderSettings",
    "RulesSettings",
    "Settings",
    "WorkerSettings",
    "env_name",
    "known_keys",
    "load_settings",
    "make_clock",
    "mask_secrets",
    "secret_keys",
]

PREFIX = "MODISTE_"
DELIMITER = "__"
CONFIG_VARIABLE = "MODISTE_CONFIG"
DEFAULT_FILE = Path("modiste.toml")

_USERINFO = re.compile(r"(?P<scheme>[a-zA-Z][a-zA-Z0-9+.-]*://)(?P<user>[^\s:@/,]*)(?P<password>:[^\s]*)?@")
_QUERY_SECRET = re.compile(r"(?P<name>[?&](?:password|secret|token)=)[^&\s]*", re.IGNORECASE)


def mask_secrets(text: str) -> str:
    """`text` with the passwords of the URLs in it replaced by `***`; safe to print and to log."""

    def hide(match: re.Match[str]) -> str:
        if match["password"] is None:
            return f"{match['scheme']}***@"
        return f"{match['scheme']}{match['user']}:***@"

    return _QUERY_SECRET.sub(r"\g<name>***", _USERINFO.sub(hide, text))


def _utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC)


class RegistrySettings(Section):
    """Where bundles are published and which channel is served."""

    url: str = "file://.modiste/registry"
    channel: Name = "production"


class WorkerSettings(Section):
    """The folding process: consumer group, messages a batch, batches read ahead, customers a second that a sweep looks
    at after a bundle has changed."""

    group: Name = "modiste-worker"
    batch_size: Count = 2_000
    queue_batches: Count = 8
    sweep_per_s: Count = 2_000


class ArchiverSettings(Section):
    """The archiving process: when a segment is written, and how many are compacted into days at once."""

    flush_ms: Milliseconds = 5_000
    segment_rows: Count = 50_000
    compact_segments: Count = 64


class ResponderSettings(Section):
    """The answering process: consumer group, requests a micro-batch, time a request may take."""

    group: Name = "modiste-responder"
    batch_size: Count = 64
    deadline_ms: Milliseconds = 1_000


class ClockSettings(Section):
    """Which time it is: the machine's own; with `origin` that of a replay all processes share; with `file` that of one
    whose driver moves it (`infra.clock.SharedClock`)."""

    file: Path | None = None
    origin: Annotated[AwareDatetime, AfterValidator(_utc)] | None = None
    started_at: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    speed: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0

    @model_validator(mode="after")
    def _all_or_nothing(self) -> Self:
        if (self.origin is None) != (self.started_at is None):
            raise ValueError("origin and started_at (seconds since 1970) belong together; give both or neither")
        if self.origin is None and self.speed != 1.0:
            raise ValueError("speed needs origin and started_at")
        if self.file is not None and self.origin is not None:
            raise ValueError("file holds a clock of its own; give it or origin and started_at, not both")
        return self


class LogSettings(Section):
    """How much is logged."""

    level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR"],
        BeforeValidator(lambda given: given.upper() if isinstance(given, str) else given),
    ] = "INFO"


class Settings(BaseSettings):
    """The whole tree. Build it with `load_settings`: the constructor reads no file and no environment."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        validate_default=True,
        env_prefix=PREFIX,
        env_nested_delimiter=DELIMITER,
        env_ignore_empty=True,
        hide_input_in_errors=True,
    )

    kafka: KafkaSettings = KafkaSettings()
    redis: RedisSettings = RedisSettings()
    registry: RegistrySettings = RegistrySettings()
    http: HttpSettings = HttpSettings()
    page: PageSettings = PageSettings()
    api: ApiSettings = ApiSettings()
    worker: WorkerSettings = WorkerSettings()
    archiver: ArchiverSettings = ArchiverSettings()
    responder: ResponderSettings = ResponderSettings()
    llm: LlmSettings = LlmSettings()
    rules: RulesSettings = RulesSettings()
    clock: ClockSettings = ClockSettings()
    log: LogSettings = LogSettings()
    data_dir: Path = Path(".modiste")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        # load_settings merges the sources itself, after it has refused unknown names.
        del settings_cls, env_settings, dotenv_settings, file_secret_settings
        return (init_settings,)

    def shown(self) -> dict[str, Any]:
        """JSON-ready copy of the tree with the secrets masked."""
        return {key: _masked(value) for key, value in self.model_dump(mode="json").items()}


def _masked(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _masked(inner) for key, inner in value.items()}
    return mask_secrets(value) if isinstance(value, str) else value


def known_keys() -> tuple[str, ...]:
    """Every setting as a dotted key (`kafka.url`), in file order."""
    keys: list[str] = []
    for name, field in Settings.model_fields.items():
        branch = field.annotation
        if isinstance(branch, type) and issubclass(branch, Section):
            keys += [f"{name}.{leaf}" for leaf in branch.model_fields]
        else:
            keys.append(name)
    return tuple(keys)


def secret_keys() -> tuple[str, ...]:
    """The settings that hold a secret and nothing else, as dotted keys."""
    return tuple(key for key in known_keys() if key.endswith((".password", ".api_key")))


def env_name(key: str) -> str:
    """The environment variable of a dotted key: `kafka.url` -> `MODISTE_KAFKA__URL`."""
    return PREFIX + key.replace(".", DELIMITER).upper()


def load_settings(env: Mapping[str, str] | None = None, file: Path | None = None) -> Settings:
    """Read the settings: environment over file over defaults. An empty variable counts as not given.

    Args:
        env: the environment; the process's own when None.
        file: the TOML file; when None the one `MODISTE_CONFIG` names, else `modiste.toml` here if present.

    Raises:
        ConfigurationError: unknown name or key (says the nearest known), value out of range, unreadable file.
    """
    given = os.environ if env is None else env
    _refuse_unknown_names(given)
    named = file or (Path(given[CONFIG_VARIABLE]) if given.get(CONFIG_VARIABLE) else None)
    path = named or (DEFAULT_FILE if DEFAULT_FILE.is_file() else None)
    tree = _read_file(path) if path is not None else {}
    source = EnvSettingsSource(Settings)
    source.env_vars = {name.lower(): value for name, value in given.items() if name.startswith(PREFIX) and value}
    try:
        from_env = source()
    except SettingsError as error:
        raise ConfigurationError(
            f"{error}; lists and tables are JSON in a variable, as in {env_name('rules.pins')}='[\"0108775015\"]'"
        ) from error
    for key, value in from_env.items():
        tree[key] = {**tree.get(key, {}), **value} if isinstance(value, dict) else value
    try:
        return Settings(**tree)
    except ValidationError as error:
        raise ConfigurationError("\n".join(_problems(error, given, path))) from error


def make_clock(settings: ClockSettings) -> Clock:
    """The clock every process of one run shares: SystemClock, a SharedClock when `file` is set, or a ReplayClock when
    `origin` is.

    Raises:
        ConfigurationError: `file` is not there, or is not a clock.
    """
    if settings.file is not None:
        shared = SharedClock(settings.file)
        shared.now()
        return shared
    if settings.origin is None or settings.started_at is None:
        return SystemClock()
    return ReplayClock(settings.origin, settings.started_at, settings.speed)


def _nearest(given: str, known: Iterable[str]) -> str:
    names = list(known)
    close = difflib.get_close_matches(given, names, n=1, cutoff=0.5)
    return f"did you mean {close[0]}?" if close else f"known are {', '.join(names)}"


def _refuse_unknown_names(env: Mapping[str, str]) -> None:
    known = [CONFIG_VARIABLE, *map(env_name, known_keys())]
    unknown = sorted(name for name in env if name.upper().startswith(PREFIX) and name not in known)
    if unknown:
        lines = [f"unknown environment variable {name}; {_nearest(name.upper(), known)}" for name in unknown]
        raise ConfigurationError("\n".join(lines))


def _read_file(path: Path) -> dict[str, Any]:
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"settings file {path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"settings file {path} is not TOML: {error}") from error
    known = known_keys()
    sections = {key.partition(".")[0] for key in known if "." in key}
    for section, branch in tree.items():
        if section in sections and not isinstance(branch, dict):
            raise ConfigurationError(
                f"settings file {path}: {section} is a section; write [{section}] and keys below it"
            )
        for key in [f"{section}.{leaf}" for leaf in branch] if isinstance(branch, dict) else [section]:
            if key not in known:
                raise ConfigurationError(f"settings file {path}: unknown key {key}; {_nearest(key, known)}")
        if isinstance(branch, dict) and section not in sections:
            raise ConfigurationError(
                f"settings file {path}: unknown section [{section}]; {_nearest(section, sections)}"
            )
    return tree


def _problems(error: ValidationError, env: Mapping[str, str], path: Path | None) -> list[str]:
    lines = []
    for problem in error.errors(include_url=False, include_context=False):
        key = ".".join(str(part) for part in problem["loc"][:2])
        from_env = env.get(env_name(key))
        place = env_name(key) if from_env else f"{key} in {path}" if path else key
        inside = ".".join(str(part) for part in problem["loc"][2:])
        place += f", {inside}" if inside else ""
        value = problem["input"] if inside else from_env or problem["input"]
        telling = isinstance(value, str | int | float) and key not in secret_keys()
        shown = f" = {mask_secrets(repr(value))}" if telling else ""
        lines.append(f"{place}{shown}: {problem['msg'].removeprefix('Value error, ')}")
    return lines
