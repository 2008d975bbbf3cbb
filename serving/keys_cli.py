"""`modiste serving keys`: make a key for the HTTP gateway."""

from __future__ import annotations

import json

import click

from serving.api_keys import READ, SCOPES, entry_of, new_key


@click.group()
def keys() -> None:
    """Keys of the HTTP gateway."""


@keys.command("new")
@click.option("--name", required=True, help="Whose key it is: letters, digits, '.', '_' and '-'.")
@click.option(
    "--scope",
    "scopes",
    type=click.Choice(list(SCOPES)),
    multiple=True,
    default=(READ,),
    show_default=True,
    help="What it may do; may be given several times.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def new(name: str, scopes: tuple[str, ...], as_json: bool) -> None:
    """Make a key. It is shown once and kept nowhere; its entry, with the hash, goes into the setting api.keys."""
    key = new_key()
    entry = entry_of(name, dict.fromkeys(scopes), key)
    if as_json:
        click.echo(json.dumps({"key": key, "entry": entry}))
        return
    click.echo(f"key (for who asks; shown only now):  {key}")
    click.echo(f"entry (for the setting api.keys):    {entry}")
