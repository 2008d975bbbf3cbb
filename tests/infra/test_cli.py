"""The umbrella command: quick help, clear errors, the bundle commands' results and exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import EntryPoint
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from infra import cli as umbrella
from infra.errors import GateError
from infra.registry import Registry
from tests.support.toy_bundles import toy_bundle


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(*args: str, env: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(umbrella.cli, args, env=env, prog_name="modiste")


def answer(result: Result) -> dict[str, object]:
    assert result.exit_code in (0, 1), result.stderr
    held = json.loads(result.stdout.splitlines()[-1])
    assert isinstance(held, dict)
    return held


def provide(monkeypatch: pytest.MonkeyPatch, *points: tuple[str, str]) -> None:
    found = [EntryPoint(name, value, umbrella.GROUP) for name, value in points]

    def only_these(*, group: str) -> Sequence[EntryPoint]:
        return found if group == umbrella.GROUP else []

    monkeypatch.setattr(umbrella, "entry_points", only_these)


@click.command()
def refused() -> None:
    raise GateError("map@12 0.1 is below 0.2")


@click.command()
def broken() -> None:
    raise ZeroDivisionError


def test_help_lists_commands_without_importing_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "heavy_commands.py").write_text(
        '"""`modiste heavy`: lifts things."""\nraise RuntimeError("imported")\n'
    )
    monkeypatch.syspath_prepend(tmp_path)
    provide(monkeypatch, ("heavy", "heavy_commands:heavy"), ("gone", "no_such_module:gone"))
    result = run("--help")
    assert result.exit_code == 0
    assert [line.split() for line in result.stdout.splitlines() if line.startswith("  heavy")] == [
        ["heavy", "lifts", "things."]
    ]
    assert "gone    (not installed)" in result.stdout
    assert "heavy_commands" not in sys.modules


def test_help_of_the_real_command_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom infra.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert end.code == 0, end.code\n"
        "print(sorted({'torch', 'pandas', 'faust', 'pydantic', 'redis', 'numpy'} & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "--help"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[]"
    assert "bundles" in done.stdout


def test_an_unknown_command_is_answered_with_the_nearest() -> None:
    result = run("bundels")
    assert result.exit_code == 2
    assert "No such command 'bundels'" in result.stderr
    assert "Did you mean 'bundles'?" in result.stderr
    assert result.stdout == ""


def test_our_errors_are_one_line_with_their_exit_code_and_no_traceback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    provide(monkeypatch, ("gate", f"{__name__}:refused"))
    result = run("gate")
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", "error: map@12 0.1 is below 0.2\n")


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    provide(monkeypatch, ("broken", f"{__name__}:broken"))
    assert isinstance(run("broken").exception, ZeroDivisionError)


def test_a_missing_package_is_named_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "needs_more.py").write_text("import a_package_nobody_has\n")
    monkeypatch.syspath_prepend(tmp_path)
    provide(monkeypatch, ("needy", "needs_more:needy"))
    result = run("needy")
    assert result.exit_code == 2
    assert "`modiste needy` needs the package 'a_package_nobody_has', which is not installed" in result.stderr


def test_version_is_the_packages() -> None:
    assert run("--version").stdout == "modiste, version 0.1.0\n"


def test_config_show_masks_secrets_and_names_the_variables() -> None:
    env = {"MODISTE_REDIS__URL": "redis://u:s3cret@h:1/0", "MODISTE_HTTP__PORT": "81"}
    tree = answer(run("config", "show", "--json", env=env))
    given = {"url": "redis://u:***@h:1/0", "timeout_ms": 1000, "prefix": "modiste"}
    assert {key: value for key, value in tree["redis"].items() if value is not None} == given
    text = run("config", "show", env=env).stdout
    assert "s3cret" not in text
    port = next(line for line in text.splitlines() if line.startswith("http.port"))
    assert port.split() == ["http.port", "81", "MODISTE_HTTP__PORT"]


def test_a_wrong_setting_stops_a_command_but_not_its_help() -> None:
    env = {"MODISTE_KAFKKA__URL": "kafka://h:1"}
    result = run("config", "show", env=env)
    assert result.exit_code == 2
    assert result.stderr == (
        "error: unknown environment variable MODISTE_KAFKKA__URL; did you mean MODISTE_KAFKA__URL?\n"
    )
    assert run("bundles", "--help", env=env).exit_code == 0


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    url = f"file://{tmp_path}/registry"
    monkeypatch.setenv("MODISTE_REGISTRY__URL", url)
    return Registry(url)


def published(registry: Registry, tmp_path: Path, words: str) -> str:
    toy_bundle(tmp_path / words, words)
    return registry.publish(tmp_path / words)


def test_bundles_of_an_empty_registry(registry: Registry) -> None:
    assert answer(run("bundles", "list", "--json")) == {"bundles": [], "channels": []}
    assert "no bundle is published" in run("bundles", "list").stdout
    shown = run("bundles", "show")
    assert shown.exit_code == 2
    assert shown.stderr.startswith("error: channel production of ")


def test_activate_list_show_rollback(registry: Registry, tmp_path: Path) -> None:
    red, green = published(registry, tmp_path, "red"), published(registry, tmp_path, "green")
    assert answer(run("bundles", "activate", red, "--unchecked", "--json"))["previous"] is None
    moved = answer(run("bundles", "activate", green, "--unchecked", "--by", "ann", "--json"))
    assert (moved["channel"], moved["bundle_id"], moved["previous"], moved["by"]) == (
        "production",
        green,
        red,
        "ann",
    )
    assert answer(run("bundles", "show", "--json"))["bundle_id"] == green
    assert answer(run("bundles", "show", red, "--json"))["counts"] == {"words": 2}
    listed = answer(run("bundles", "list", "--json"))["bundles"]
    assert isinstance(listed, list)
    assert {row["bundle_id"]: (row["channels"], row["bytes"]) for row in listed} == {
        red: ([], len("red") + len("blue")),
        green: (["production"], len("green") + len("blue")),
    }
    assert answer(run("bundles", "rollback", "--unchecked", "--json"))["bundle_id"] == red
    assert run("bundles", "activate", green, "--unchecked", "--channel", "candidate").stdout == (
        f"channel candidate points at {green}\n"
    )


def test_what_nobody_here_could_answer_from_is_not_pointed_at(registry: Registry, tmp_path: Path) -> None:
    red, green = published(registry, tmp_path, "red"), published(registry, tmp_path, "green")
    for bundle_id in (red, green):
        registry.activate("production", bundle_id)
    for words in (("activate", red), ("rollback",)):
        result = run("bundles", *words)
        assert result.exit_code == 2
        assert result.stderr.startswith(f"error: bundle {red} lacks items.parquet, ")
        assert "Channel production is not moved; --unchecked moves it all the same" in result.stderr
        assert registry.pointer("production").bundle_id == green


def test_verify_tells_the_damaged_from_the_sound(registry: Registry, tmp_path: Path) -> None:
    red, green = published(registry, tmp_path, "red"), published(registry, tmp_path, "green")
    assert run("bundles", "verify").exit_code == 0
    (Path(registry.place) / "bundles" / green / "words.txt").write_text("groen")
    result = run("bundles", "verify", "--json")
    assert result.exit_code == 1
    told = answer(result)
    assert (told["checked"], told["failed"]) == (2, 1)
    assert run("bundles", "verify", red).exit_code == 0
    failed = run("bundles", "verify", green)
    assert failed.exit_code == 1
    assert failed.stdout.startswith(f"FAIL  {green}  ")


@pytest.mark.parametrize("bundle_id", ["../../etc", "20260101T000000Z-0000000"])
def test_verify_of_no_such_bundle_is_wrong_use(registry: Registry, bundle_id: str) -> None:
    result = run("bundles", "verify", bundle_id)
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
