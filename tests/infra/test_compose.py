"""docker-compose.yml runs commands and sets variables that exist; checked without a Docker engine."""

from __future__ import annotations

import json
import re
from pathlib import Path

import click
import pytest

from infra.cli import cli
from infra.settings import Settings, load_settings

ROOT = Path(__file__).parents[2]
COMPOSE = (ROOT / "docker-compose.yml").read_text()
# The file keeps to one line a command and one a variable, so that no YAML library is needed to check it.
COMMANDS = {
    tuple(json.loads(words))
    for words in re.findall(r"^    command: (\[.*\])$", COMPOSE, re.MULTILINE)
    if "valkey-server" not in words
}
HEALTH = {
    tuple(json.loads(words)[2:])
    for words in re.findall(r'^      test: (\["CMD", "modiste".*\])$', COMPOSE, re.MULTILINE)
}


def test_the_process_kinds_are_there() -> None:
    assert {words[:2] for words in COMMANDS} == {
        ("streams", "topics"),
        ("streams", "worker"),
        ("streams", "archiver"),
        ("serving", "responder"),
        ("serving", "api"),
        ("offline", "encode-articles"),
        ("offline", "run"),
    }


@pytest.mark.parametrize("words", sorted(COMMANDS | HEALTH), ids=" ".join)
def test_every_command_is_one_of_modistes(words: tuple[str, ...]) -> None:
    command: click.Command = cli
    context = click.Context(cli)
    rest = list(words)
    while isinstance(command, click.Group):
        name, found, rest = command.resolve_command(context, rest)
        assert found is not None
        command, context = found, click.Context(found, parent=context, info_name=name)
    command.make_parser(context).parse_args(rest)


def test_the_store_has_on_disk_what_it_acknowledges() -> None:
    """An offset is committed on its word, so what it lost a second later would be lost for ever."""
    (words,) = re.findall(r'^    command: (\["valkey-server".*\])$', COMPOSE, re.MULTILINE)
    server = json.loads(words)
    options = dict(zip(server[1::2], server[2::2], strict=True))
    assert options["--appendonly"] == "yes"
    assert options["--appendfsync"] == "always"
    assert options["--maxmemory-policy"] == "noeviction"


def test_every_variable_is_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    given = dict(re.findall(r"^ +(MODISTE_[A-Z_]+): (.+)$", COMPOSE, re.MULTILINE))
    settings: Settings = load_settings(given)
    assert settings.kafka.url == "kafka://kafka:9092"
    assert settings.http.host == "0.0.0.0"
    assert settings.registry.url == f"file://{settings.data_dir}/registry"


def test_the_image_is_built_from_folders_that_exist() -> None:
    dockerfile = (ROOT / "infra/docker/Dockerfile").read_text()
    copied = {name for line in re.findall(r"^COPY (.+) \S+$", dockerfile, re.MULTILINE) for name in line.split()}
    assert copied >= {"pyproject.toml", "infra", "streams", "serving", "offline"}
    assert all((ROOT / name).exists() for name in copied)
    ignore = (ROOT / "infra/docker/Dockerfile.dockerignore").read_text().splitlines()
    assert {f"!{name}" for name in copied} <= set(ignore)
