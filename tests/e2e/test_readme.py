"""The README is true: its `modiste` lines parse, its `curl` lines are answered, its `make` targets exist, its table has
every strategy.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import click
import pytest

from infra.cli import cli
from serving.messages import STRATEGIES
from tests.support.http_shop import HttpShop
from tests.support.seen import photo
from tests.support.tiny import article_number
from tests.support.tiny_fixture import Tiny

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
LINES = [
    line.removeprefix("$ ").split("#")[0].strip()
    for block in re.findall(r"```console\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
    if line.startswith("$ ")
]


@pytest.mark.parametrize("line", [line for line in LINES if line.startswith("modiste ")])
def test_every_modiste_line_is_accepted(line: str) -> None:
    command: click.Command = cli
    words = shlex.split(line)[1:]
    context = click.Context(cli, info_name="modiste")
    while isinstance(command, click.Group):
        found = command.get_command(context, words[0])
        assert found is not None, f"README names {words[0]!r}, which is no command"
        command, words = found, words[1:]
        context = click.Context(command, parent=context, info_name=command.name)
    # Arguments that name files need not exist for the line to be well-formed, and DIR is any directory.
    arguments = [str(ROOT) if word == "DIR" else word for word in words if not word.endswith(".jsonl")]
    files = [word for word in words if word.endswith(".jsonl")]
    stand_ins = [str(Path(__file__)) for _ in files]
    command.make_context(command.name, [*arguments, *stand_ins], parent=context)


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_every_curl_line_is_answered(tiny: Tiny, tmp_path: Path) -> None:
    """By a bundle without photos, of which the README says that it answers 501."""
    (tmp_path / "dress.jpg").write_bytes(photo((220, 20, 20), "JPEG"))
    statuses, request_id = [], "none yet"
    with HttpShop.of(tiny.runtime).serving() as url:
        there = {"localhost:8000": url, "1082185": article_number("top", 0), "900": "anna"}
        for line in (line for line in LINES if line.startswith("curl ")):
            words = [*shlex.split(line.replace("REQUEST_ID", request_id)), "-w", "\\n%{http_code}"]
            for written, meant in there.items():
                words = [word.replace(written, meant) for word in words]
            done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True)
            body, _, status = done.stdout.rpartition("\n")
            request_id = json.loads(body).get("request_id", request_id)
            statuses.append(int(status))
    assert statuses == [200, 200, 200, 200, 501, 200]


def test_make_targets_exist() -> None:
    targets = {line.split()[1] for line in LINES if line.startswith("make ")}
    assert targets == {"demo", "test"}
    makefile = (ROOT / "Makefile").read_text()
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)


def test_the_table_shows_the_strategies() -> None:
    rows = re.findall(r"^\| (\w+) \| 0\.", README, re.MULTILINE)
    assert sorted(rows) == sorted(STRATEGIES)


def test_files_named_exist() -> None:
    named = {*re.findall(r"`([\w/.-]+\.(?:toml|yml|md))`", README), *re.findall(r"\]\((\w+\.md)\)", README)}
    assert named == {"infra/modiste.example.toml", "offline/sources/mapping.example.toml", "CHANGELOG.md"}
    assert all((ROOT / name).is_file() for name in named)
