"""Where things are, how many and how long: one frozen tree, read once in `main` and passed in.

Environment over TOML file over defaults. Whatever changes the meaning of a result lives in the bundle, never
here. An unknown key or `MODISTE_*` name is refused, so that a misspelt setting is never silently the default.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from infra.clock import Clock, ReplayClock, SharedClock, SystemClock
from infra.errors import ConfigurationError
from infra.rule_settings import RulesSettings
from infra.settings_section import Section

PREFIX = "MODISTE_"
DELIMITER = "__"
CONFIG_VARIABLE = "MODISTE_CONFIG"
DEFAULT_FILE = Path("modiste.toml")

KAFKA_SCHEMES = ("embedded", "kafka")
REDIS_SCHEMES = ("embedded", "redis", "rediss", "unix", "memory")

_USERINFO = re.compile(r"(?P<scheme>[a-zA-Z][a-zA-Z0-9+.-]*://)(?P<user>[^\s:@/,]*)(?P<password>:[^\s]*)?@")
_QUERY_SECRET = re.compile(r"(?P<name>[?&](?:password|secret|token)=)[^&\s]*", re.IGNORECASE)


def mask_secrets(text: str) -> str:
    """`text` with the passwords of the URLs in it replaced by `***`; safe to print and to log."""

    def hide(match: re.Match[str]) -> str:
        if match["password"] is None:
            return f"{match['scheme']}***@"
        return f"{match['scheme']}{match['user']}:***@"

    return _QUERY_SECRET.sub(r"\g<name>***", _USERINFO.sub(hide, text))


def _scheme_of(url: str, allowed: tuple[str, ...]) -> str:
    scheme, separator, _ = url.partition("://")
    if not separator or scheme not in allowed:
        raise ValueError(f"the URL must begin with one of {', '.join(f'{name}://' for name in allowed)}")
    return scheme


def _kafka_url(url: str) -> str:
    if _scheme_of(url, KAFKA_SCHEMES) == "kafka":
        if "@" in url:
            raise ValueError("a user and password have no place in it; set kafka.username and kafka.password")
        for server in url.removeprefix("kafka://").split(","):
            host, _, port = server.rpartition(":")
            if not host or not port.isdigit() or not 0 < int(port) <= 65_535:
                raise ValueError(f"{server!r} is not host:port; write kafka://host:port[,host:port]")
    return url


def _redis_url(url: str) -> str:
    if _scheme_of(url, REDIS_SCHEMES) in ("redis", "rediss"):
        try:
            parts = urlsplit(url)
            sound = bool(parts.hostname) and parts.port != 0
        except ValueError:
            sound = False
        if not sound:
            raise ValueError(
                "write redis://[user:password@]host[:port][/db], port 1 to 65535, "
                "signs such as '/' or '@' in a password as %2F or %40"
            )
    return url


def _endpoint(url: str) -> str:
    _scheme_of(url, ("http", "https"))
    try:
        parts = urlsplit(url)
        sound = bool(parts.hostname) and parts.port != 0 and not (parts.query or parts.fragment)
    except ValueError:
        sound = False
    if not sound:
        raise ValueError("write https://host[:port][/path], as in https://api.example.com/v1")
    if "@" in parts.netloc:
        raise ValueError("a user and password have no place in it; set llm.api_key or llm.api_key_file")
    return url.rstrip("/")


def _near(url: str) -> bool:
    """Whether the host is on this machine or a network of one's own: a private address, a name that is not of the
    internet."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return "." not in host or host.endswith((".localhost", ".local", ".internal", ".lan", ".home.arpa"))


def _utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC)


Milliseconds = Annotated[int, Field(ge=1, le=3_600_000)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]
User = Annotated[str, Field(min_length=1)]
Secret = Annotated[SecretStr, Field(min_length=1)]


def _check_pairs(section: KafkaSettings | RedisSettings) -> None:
    if section.password is not None and section.password_file is not None:
        raise ValueError("give password or password_file, not both")
    if section.key_file and not section.cert_file:
        raise ValueError("key_file needs cert_file, the certificate it belongs to")


class KafkaSettings(Section):
    """The broker, how clients show who they are (`infra.kafka_security`), and how they wait for it."""

    url: Annotated[str, AfterValidator(_kafka_url)] = Field(default="embedded://", repr=False)
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    username: User | None = None
    password: Secret | None = None
    password_file: Path | None = None
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    session_timeout_ms: Milliseconds = 30_000
    request_timeout_ms: Milliseconds = 40_000
    fetch_wait_ms: Milliseconds = 10
    stall_timeout_ms: Milliseconds = 20_000
    partitions: Annotated[int, Field(ge=1, le=10_000)] = 4

    @property
    def uses_tls(self) -> bool:
        return self.security_protocol in ("SSL", "SASL_SSL")

    @property
    def uses_sasl(self) -> bool:
        return self.security_protocol in ("SASL_PLAINTEXT", "SASL_SSL")

    @model_validator(mode="after")
    def _credentials_fit(self) -> Self:
        _check_pairs(self)
        given = self.password is not None or self.password_file is not None
        if self.uses_sasl and not (self.username and given):
            raise ValueError(
                f"security_protocol {self.security_protocol} needs username and password (or password_file)"
            )
        if not self.uses_sasl and (self.username or given):
            raise ValueError("a username or password is used by security_protocol SASL_SSL or SASL_PLAINTEXT only")
        if not self.uses_tls and (self.ca_file or self.cert_file):
            raise ValueError("ca_file and cert_file are used by security_protocol SSL or SASL_SSL only")
        if self.security_protocol != "PLAINTEXT" and self.url.startswith("embedded:"):
            raise ValueError("the embedded broker knows no security_protocol but PLAINTEXT; name another in url")
        return self


class RedisSettings(Section):
    """The state store and who we are to it (TLS by `rediss://`); every key in it begins with `prefix`."""

    url: Annotated[str, AfterValidator(_redis_url)] = Field(default="embedded://", repr=False)
    username: User | None = None
    password: Secret | None = None
    password_file: Path | None = None
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    timeout_ms: Milliseconds = 1_000
    prefix: Name = "modiste"

    @model_validator(mode="after")
    def _credentials_fit(self) -> Self:
        _check_pairs(self)
        given = self.password is not None or self.password_file is not None
        if self.username and not given:
            raise ValueError("username needs password or password_file")
        if given and self.url.startswith(("embedded:", "memory:")):
            raise ValueError("an embedded server asks for no password; name another in url")
        if given and "@" in self.url:
            raise ValueError("url holds a user or password already; give them in one of the two places")
        if (self.ca_file or self.cert_file) and not self.url.startswith("rediss:"):
            raise ValueError("ca_file and cert_file are used with a rediss:// url only")
        return self


class RegistrySettings(Section):
    """Where bundles are published and which channel is served."""

    url: str = "file://.modiste/registry"
    channel: Name = "production"


class HttpSettings(Section):
    """Where the HTTP gateway listens."""

    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65_535)] = 8_000


class PageSettings(Section):
    """The shop page: whether it is served, where pictures of articles lie, whether prices are shown and what stands
    before them, and whether its lists leave out what a customer has bought, until the page is told otherwise."""

    enabled: bool = True
    pictures: Path | None = None
    prices: bool = True
    currency: Annotated[str, Field(max_length=4)] = ""
    hide_bought: bool = False


class ApiSettings(Section):
    """Who may ask the HTTP gateway for what, how much and how often; an empty `keys` lets everybody in.

    keys: `NAME:SCOPES:SHA256` each, apart by spaces, commas or new lines (`modiste serving keys new` prints one) ·
    requests_per_s: of one key or address, None without limit; `burst` at once · cors_origins: pages of other origins
    that may call us · explain_s, explain_bytes: how long and how many answers can be explained afterwards.
    """

    keys: str = ""
    requests_per_s: Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)] | None = None
    burst: Count = 50
    max_body_bytes: Annotated[int, Field(ge=1, le=1_000_000_000)] = 1_000_000
    cors_origins: str = ""
    explain_s: Annotated[int, Field(ge=1, le=86_400)] = 900
    explain_bytes: Annotated[int, Field(ge=0, le=10_000_000_000)] = 16_000_000


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


class LlmSettings(Section):
    """A language model behind an OpenAI-compatible endpoint, which orders the best of an answer and says why
    (`serving.llm`); off without `url`. Tokens are counted as one a byte, which no tokenizer exceeds."""

    url: Annotated[str, AfterValidator(_endpoint)] | None = Field(default=None, repr=False)
    model: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    api_key: Secret | None = None
    api_key_file: Path | None = None
    rerank: Literal["asked", "always"] = "asked"
    top_n: Annotated[int, Field(ge=2, le=50)] = 12
    # Less than a responder that stops, or loses partitions, gives what is under way (3 s where a session has 6): an
    # answer that waited longer would be given again by the process that comes after it.
    wait_ms: Annotated[int, Field(ge=1, le=2_500)] = 800
    deadline_ms: Milliseconds = 5_000
    prompt_tokens: Annotated[int, Field(ge=2_000, le=1_000_000)] = 8_000
    answer_tokens: Annotated[int, Field(ge=16, le=100_000)] = 1_000
    answer_tokens_as: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    output: Literal["json_schema", "json_object"] = "json_schema"
    concurrency: Annotated[int, Field(ge=1, le=1_000)] = 8
    cache_answers: Count = 10_000
    cache_ttl_ms: Annotated[int, Field(ge=1, le=86_400_000)] = 600_000
    pause_after: Annotated[int, Field(ge=1, le=1_000)] = 5
    pause_ms: Milliseconds = 10_000

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.url is not None and self.model is None:
            raise ValueError("url needs model, the name by which the endpoint knows it")
        if self.api_key is not None and self.api_key_file is not None:
            raise ValueError("give api_key or api_key_file, not both")
        keyed = self.api_key is not None or self.api_key_file is not None
        if keyed and self.url is not None and self.url.startswith("http://") and not _near(self.url):
            raise ValueError("the key would cross the internet in the clear; write https:// in url")
        return self


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
