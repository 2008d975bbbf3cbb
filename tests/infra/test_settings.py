"""Settings: environment over file over defaults, and nothing misspelt is silently ignored."""

from __future__ import annotations

import itertools
import re
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from infra.errors import ConfigurationError
from infra.settings import Settings, env_name, known_keys, load_settings, mask_secrets

EXAMPLE = Path(__file__).parents[2] / "infra" / "modiste.example.toml"


# Settings of the wire go together: a whole set, and the value that each takes in it.
SECURED = {
    "url": "kafka://h:1",
    "security_protocol": "SASL_SSL",
    "username": "u",
    "password": "p",
    "cert_file": "c",
}
NEEDS = {
    "security_protocol": "SASL_SSL",
    "sasl_mechanism": "PLAIN",
    "username": "anna",
    "password": "w",
    "password_file": "p.txt",
    "ca_file": "ca.pem",
    "cert_file": "c.pem",
    "key_file": "c.key",
}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No modiste.toml of the checkout takes part."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def value_of(settings: Settings, key: str) -> Any:
    section, _, leaf = key.partition(".")
    held = getattr(settings, section)
    return getattr(held, leaf) if leaf else held


def test_nothing_given_means_the_defaults() -> None:
    settings = load_settings({})
    assert settings == Settings()
    assert (settings.kafka.url, settings.redis.url, settings.http.port) == (
        "embedded://",
        "embedded://",
        8000,
    )
    assert settings.registry.url == "file://.modiste/registry"
    assert settings.data_dir == Path(".modiste")


def test_environment_wins_over_file_wins_over_default(tmp_path: Path) -> None:
    file = tmp_path / "some.toml"
    file.write_text('data_dir = "here"\n[http]\nport = 81\nhost = "file"\n')
    settings = load_settings({"MODISTE_HTTP__PORT": "82"}, file)
    assert (settings.http.port, settings.http.host, settings.data_dir) == (82, "file", Path("here"))
    assert settings.kafka.partitions == 4


def test_the_file_is_the_one_named_or_the_one_here(tmp_path: Path) -> None:
    (tmp_path / "modiste.toml").write_text("[http]\nport = 1\n")
    (tmp_path / "other.toml").write_text("[http]\nport = 2\n")
    assert load_settings({}).http.port == 1
    assert load_settings({"MODISTE_CONFIG": "other.toml"}).http.port == 2
    assert load_settings({"MODISTE_CONFIG": "other.toml"}, Path("modiste.toml")).http.port == 1


@pytest.mark.parametrize("key", known_keys())
def test_every_setting_can_come_from_the_environment(key: str) -> None:
    given = {
        "clock.origin": "2017-12-24T00:00:00Z",
        "clock.started_at": "5",
        "clock.speed": "2",
        "log.level": "debug",
        "http.share_port": "true",
        "page.enabled": "false",
        "page.prices": "false",
        "page.hide_bought": "true",
        "llm.url": "http://h:1/v1",
        "llm.rerank": "always",
        "llm.answer_tokens_as": "max_completion_tokens",
        "llm.output": "json_object",
        "llm.prompt_tokens": "3000",
        "llm.answer_tokens": "70",
        "rules.exclude_bought": "true",
        "rules.only": '{"brand": ["Own"]}',
        "rules.blocked": '{"article_id": ["0108775015"]}',
        "rules.minimum_age": '[{"field": "category", "values": ["BEER"], "years": 21}]',
        "rules.boosts": '[{"field": "brand", "values": ["Own"], "factor": 1.5}]',
        "rules.pins": '["0108775015"]',
    }
    samples = {
        "url": "redis://h:1",
        "data_dir": "d",
        "host": "::1",
        "group": "g",
        "prefix": "p",
        "channel": "c",
    }
    value = given.get(key) or samples.get(key.rpartition(".")[2], "7")
    env = {env_name(key): "kafka://h:1" if key == "kafka.url" else value}
    if key.startswith("clock.") and key != "clock.file":
        env |= {env_name(name): given[name] for name in ("clock.origin", "clock.started_at")}
    if key == "llm.url":
        env[env_name("llm.model")] = "m"
    section, _, leaf = key.partition(".")
    if section == "kafka" and leaf in NEEDS:
        env = {env_name(f"kafka.{name}"): text for name, text in {**SECURED, leaf: NEEDS[leaf]}.items()}
        env.pop(env_name("kafka.password" if leaf == "password_file" else "kafka.none"), None)
    if section == "redis" and leaf in NEEDS:
        env = {env_name("redis.url"): "rediss://h:1", env_name(key): NEEDS[leaf]}
        env |= {"username": {env_name("redis.password"): "p"}, "key_file": {env_name("redis.cert_file"): "c"}}.get(
            leaf, {}
        )
    assert value_of(load_settings(env), key) != value_of(Settings(), key)


def test_an_empty_variable_counts_as_not_given() -> None:
    assert load_settings({"MODISTE_HTTP__PORT": "", "MODISTE_CONFIG": ""}).http.port == 8000


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://api.example.com/v1", True),
        ("http://api.example.com/v1", False),
        ("http://8.8.8.8:8000/v1", False),
        ("http://localhost:8000/v1", True),
        ("http://192.168.1.7:8000/v1", True),
        ("http://[::1]:8000/v1", True),
        ("http://vllm:8000/v1", True),
        ("http://gpu.home.arpa/v1", True),
    ],
)
def test_a_model_s_key_crosses_no_internet_in_the_clear(url: str, allowed: bool) -> None:
    env = {"MODISTE_LLM__URL": url, "MODISTE_LLM__MODEL": "m"}
    assert load_settings(env).llm.url == url, "without a key anything goes"
    for key in ("API_KEY", "API_KEY_FILE"):
        keyed = {**env, f"MODISTE_LLM__{key}": "k"}
        if allowed:
            assert load_settings(keyed).llm.url == url
        else:
            with pytest.raises(ConfigurationError, match="in the clear; write https://"):
                load_settings(keyed)


def test_no_answer_waits_longer_for_a_model_than_a_responder_drains() -> None:
    assert load_settings({"MODISTE_LLM__WAIT_MS": "2500"}).llm.wait_ms == 2_500
    with pytest.raises(ConfigurationError, match="less than or equal to 2500"):
        load_settings({"MODISTE_LLM__WAIT_MS": "2501"})


def test_times_are_utc() -> None:
    env = {"MODISTE_CLOCK__ORIGIN": "2017-12-24T01:00:00+01:00", "MODISTE_CLOCK__STARTED_AT": "5"}
    origin = load_settings(env).clock.origin
    assert origin == datetime(2017, 12, 24, tzinfo=UTC)
    assert origin is not None and origin.tzinfo is UTC


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("MODISTE_KAFKKA__URL", "MODISTE_KAFKA__URL"),  # an unknown section, which the library lets pass
        ("MODISTE_KAFKA__ULR", "MODISTE_KAFKA__URL"),
        ("MODISTE_KAFKA_URL", "MODISTE_KAFKA__URL"),
        ("modiste_redis__url", "MODISTE_REDIS__URL"),
        ("MODISTE_CONFG", "MODISTE_CONFIG"),
    ],
)
def test_an_unknown_variable_is_refused_with_the_nearest_known(name: str, nearest: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"unknown environment variable {name}; did you mean {nearest}\?"):
        load_settings({name: "kafka://h:1"})


def test_other_programs_variables_are_none_of_our_business() -> None:
    assert load_settings({"KAFKA_HOME": "/k", "MODIST": "x", "PATH": "/bin"}) == Settings()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[kafka]\nulr = 'x'", "unknown key kafka.ulr; did you mean kafka.url?"),
        ("[kafkka]\nurl = 'x'", "unknown key kafkka.url; did you mean kafka.url?"),
        ("[kafkka]", "unknown section [kafkka]; did you mean kafka?"),
        ("kafka = 'x'", "kafka is a section; write [kafka]"),
        ("[kafka.url]\nx = 1", "kafka.url in "),
        ("port = 1", "unknown key port"),
        ("[kafka", "is not TOML"),
    ],
)
def test_a_wrong_file_is_refused_by_name(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(text)
    with pytest.raises(ConfigurationError, match=re.escape(message)) as caught:
        load_settings({}, file)
    assert "mine.toml" in str(caught.value)


def test_a_named_file_must_exist() -> None:
    with pytest.raises(ConfigurationError, match=r"settings file no\.toml cannot be read: No such file"):
        load_settings({"MODISTE_CONFIG": "no.toml"})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("MODISTE_KAFKA__URL", "localhost:9092", "must begin with one of embedded://, kafka://"),
        ("MODISTE_KAFKA__URL", "kafka://localhost", "'localhost' is not host:port"),
        ("MODISTE_KAFKA__URL", "kafka://a:1,b:99999", "'b:99999' is not host:port"),
        ("MODISTE_REDIS__URL", "http://h", "must begin with one of embedded://, redis://, rediss://"),
        ("MODISTE_REDIS__URL", "redis://h:port/0", "port 1 to 65535"),
        ("MODISTE_REDIS__URL", "redis://:1", "write redis://"),
        ("MODISTE_REDIS__TIMEOUT_MS", "-1", "greater than or equal to 1"),
        ("MODISTE_LLM__URL", "api.example.com/v1", "must begin with one of http://, https://"),
        ("MODISTE_LLM__URL", "https:///v1", "write https://host[:port][/path]"),
        ("MODISTE_LLM__URL", "https://h/v1?key=1", "write https://host[:port][/path]"),
        ("MODISTE_LLM__TOP_N", "1", "greater than or equal to 2"),
        ("MODISTE_HTTP__PORT", "70000", "less than or equal to 65535"),
        ("MODISTE_KAFKA__PARTITIONS", "four", "valid integer"),
        ("MODISTE_LOG__LEVEL", "loud", "'DEBUG', 'INFO', 'WARNING' or 'ERROR'"),
        ("MODISTE_CLOCK__STARTED_AT", "5", "give both or neither"),
        ("MODISTE_CLOCK__SPEED", "2", "speed needs origin"),
        ("MODISTE_CLOCK__SPEED", "nan", "finite"),
    ],
)
def test_a_wrong_value_is_refused_by_name_with_what_is_allowed(name: str, value: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_settings({name: value})
    assert message in str(caught.value)
    if "CLOCK" not in name:
        assert str(caught.value).startswith(f"{name} = '{value}': ")


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_settings({"MODISTE_HTTP__PORT": "x", "MODISTE_KAFKA__PARTITIONS": "0"})
    assert len(str(caught.value).splitlines()) == 2


def test_the_tree_is_frozen() -> None:
    settings = load_settings({})
    with pytest.raises(ValidationError, match="frozen"):
        settings.http.port = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("redis://u:s3cret@h:1/0", "redis://u:***@h:1/0"),
        ("redis://:p@ss/w@h:1", "redis://:***@h:1"),
        ("redis://token@h:1", "redis://***@h:1"),
        ("redis://h:1?db=1&password=s3cret&x=1", "redis://h:1?db=1&password=***&x=1"),
        ("kafka://a:1,b:2", "kafka://a:1,b:2"),
        ("from redis://u:one@h to redis://u:two@h", "from redis://u:***@h to redis://u:***@h"),
    ],
)
def test_secrets_are_masked(given: str, shown: str) -> None:
    assert mask_secrets(given) == shown


def test_a_secret_shows_neither_in_the_tree_nor_in_an_error() -> None:
    settings = load_settings({"MODISTE_REDIS__URL": "redis://u:s3cret@h:1"})
    assert "s3cret" not in repr(settings) + str(settings.shown())
    with pytest.raises(ConfigurationError) as caught:
        load_settings({"MODISTE_REDIS__URL": "reddis://u:s3cret@h:1"})
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("rules", "problem"),
    [
        ("max_per_brand = 0", "rules.max_per_brand in {file} = 0: Input should be greater than or equal to 1"),
        ("min_price = 9.0\nmax_price = 2.0", "min_price 9 is above max_price 2; nothing could be shown"),
        ("only = { brand = [] }", "rules.only in {file}, brand: List should have at least 1 item"),
        (
            'boosts = [{ field = "brand", values = ["Own"], factor = -1.0 }]',
            "rules.boosts in {file}, 0.factor = -1.0: Input should be greater than 0",
        ),
        (
            'minimum_age = [{ field = "category", values = ["BEER"] }]',
            "rules.minimum_age in {file}, 0.years: Field required",
        ),
        ("max_per_barnd = 1", "unknown key rules.max_per_barnd; did you mean rules.max_per_brand?"),
    ],
)
def test_a_rule_that_cannot_be_is_refused_where_it_stands(rules: str, problem: str, tmp_path: Path) -> None:
    file = tmp_path / "shop.toml"
    file.write_text(f"[rules]\n{rules}\n")
    with pytest.raises(ConfigurationError) as caught:
        load_settings({}, file)
    assert problem.format(file=file) in str(caught.value)


def test_a_variable_that_should_be_json_says_so() -> None:
    with pytest.raises(ConfigurationError, match=r"rules.*lists and tables are JSON in a variable"):
        load_settings({"MODISTE_RULES__PINS": '["0108775015"'})


def test_the_example_file_holds_every_key_with_its_default_and_a_comment() -> None:
    text = EXAMPLE.read_text()
    assert load_settings({}, EXAMPLE) == Settings()
    # The settings that are off by default stand there as comments.
    whole = tomllib.loads(re.sub(r"^# (?=[a-z_]+ = )", "", text, flags=re.MULTILINE))
    keys = [f"{name}.{leaf}" for name, held in whole.items() if isinstance(held, dict) for leaf in held]
    assert sorted([*keys, "data_dir"]) == sorted(known_keys())
    written = tomllib.loads(text)
    off = {key for key in known_keys() if value_of(Settings(), key) is None}
    active = {f"{name}.{leaf}" for name, held in written.items() if isinstance(held, dict) for leaf in held}
    assert set(keys) - active == off
    lines = text.splitlines()
    uncommented = [
        line
        for before, line in itertools.pairwise(lines)
        if re.match(r"[a-z_]+ = ", line) and not before.startswith("#")
    ]
    assert uncommented == []
