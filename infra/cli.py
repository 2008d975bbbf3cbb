"""`modiste`: the umbrella command.

The packages above add their commands through the entry points `modiste.commands`, so this module imports none
of them, and `modiste --help` loads none: each line of help is the first line of the command's module,
read and not run.
"""

from __future__ import annotations

import ast
import difflib
import importlib.util
import json
from importlib.metadata import EntryPoint, entry_points, version
from pathlib import Path
from typing import IO, Any

import click

from infra.errors import ConfigurationError, ModisteError

GROUP = "modiste.commands"


class _Told(click.ClickException):
    """A ModisteError as click shows it: one `error:` on stderr, its exit code, no traceback."""

    def __init__(self, error: ModisteError) -> None:
        super().__init__(str(error))
        self.exit_code = error.exit_code

    def show(self, file: IO[Any] | None = None) -> None:
        click.echo(f"error: {self.format_message()}", file=file, err=file is None)


class Umbrella(click.Group):
    """A group whose commands come from entry points and are imported only when used."""

    def _found(self) -> dict[str, EntryPoint]:
        return {point.name: point for point in entry_points(group=GROUP)}

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *self._found()})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        own = super().get_command(ctx, cmd_name)
        point = self._found().get(cmd_name)
        if own is not None or point is None:
            return own
        try:
            command = point.load()
        except ModuleNotFoundError as error:
            raise _Told(
                ConfigurationError(
                    f"`modiste {cmd_name}` needs the package {error.name!r}, which is not installed; "
                    "install the extra that brings it, for example: pip install 'modiste[demo]'"
                )
            ) from error
        if not isinstance(command, click.Command):
            raise TypeError(f"entry point {point.value} of {GROUP} is no click command")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            close = difflib.get_close_matches(args[0], self.list_commands(ctx), n=1)
            if close and "Did you mean" not in error.message:
                error.message = f"{error.message.rstrip('.')}. Did you mean {close[0]!r}?"
            raise

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        found = self._found()
        rows = []
        for name in self.list_commands(ctx):
            own = self.commands.get(name)
            rows.append((name, own.get_short_help_str(80) if own else _first_line(found[name])))
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ModisteError as error:
            raise _Told(error) from error


def _first_line(point: EntryPoint) -> str:
    try:
        spec = importlib.util.find_spec(point.module)
        source = Path(spec.origin).read_text(encoding="utf-8") if spec and spec.origin else ""
        text = ast.get_docstring(ast.parse(source)) or ""
    except (ImportError, OSError, SyntaxError, ValueError):
        text = ""
    line = text.partition("\n")[0].strip()
    return line.removeprefix(f"`modiste {point.name}`").lstrip(": ") or "(not installed)"


@click.group(cls=Umbrella, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("modiste"), prog_name="modiste")
def cli() -> None:
    """Event-driven streaming recommendations: events in, answers out."""


@cli.group()
def config() -> None:
    """Look at the settings."""


@config.command("show")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def show(as_json: bool) -> None:
    """Print every setting with its value in force and its variable; secrets are masked."""
    from infra.settings import env_name, known_keys, load_settings

    tree = load_settings().shown()
    if as_json:
        click.echo(json.dumps(tree))
        return
    for key in known_keys():
        section, _, leaf = key.partition(".")
        value = tree[section][leaf] if leaf else tree[section]
        click.echo(f"{key:28} {json.dumps(value):34} {env_name(key)}")


def main() -> None:
    """Run the command line; never returns."""
    cli(prog_name="modiste")
