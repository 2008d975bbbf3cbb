"""`modiste bundles`: look at published bundles, move the channels that point at them."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any

import click
import msgspec

from infra.announce import announce
from infra.bundle import Bundle, check_bundle_id
from infra.bundle_checks import check_usable
from infra.errors import BundleError, BundleNotFound
from infra.registry import ChannelPointer, Check, Registry
from infra.settings import Settings, load_settings
from infra.telemetry import configure_logging

AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
CHANNEL = click.option("--channel", help="Channel to use; default: registry.channel.")
BY = click.option("--by", default="cli", show_default=True, help="Who moves it; kept in the pointer.")
UNCHECKED = click.option(
    "--unchecked", is_flag=True, help="Do not ask whether it can be used here; for processes of another version."
)


class _Row(msgspec.Struct, frozen=True, kw_only=True):
    bundle_id: str
    created_at: datetime
    trained_through: datetime
    bytes: int
    channels: list[str]


class _Check(msgspec.Struct, frozen=True, kw_only=True):
    bundle_id: str
    ok: bool
    problem: str = ""


def _print(value: Any) -> None:
    click.echo(msgspec.json.encode(value).decode())


def _open() -> tuple[Settings, Registry]:
    settings = load_settings()
    configure_logging(settings.log.level)
    return settings, Registry(settings.registry.url)


def _pointers(registry: Registry) -> list[ChannelPointer]:
    """All sound pointers; a damaged one is told on stderr."""
    found = []
    for channel in registry.channels():
        try:
            found.append(registry.pointer(channel))
        except BundleError as error:
            click.echo(f"warning: {error}", err=True)
    return found


@click.group()
def bundles() -> None:
    """Look at published bundles, move the channels that point at them."""


@bundles.command("list")
@AS_JSON
def list_(as_json: bool) -> None:
    """List the published bundles, newest first, and the channels that point at them."""
    _, registry = _open()
    pointers = _pointers(registry)
    rows = [
        _Row(
            bundle_id=manifest.bundle_id,
            created_at=manifest.created_at,
            trained_through=manifest.trained_through,
            bytes=sum(entry.bytes for entry in manifest.files.values()),
            channels=[held.channel for held in pointers if held.bundle_id == manifest.bundle_id],
        )
        for manifest in registry.manifests()
    ]
    if as_json:
        _print({"bundles": rows, "channels": pointers})
        return
    for row in rows:
        size = f"{row.bytes / 2**20:.1f} MiB"
        cut = f"{row.trained_through:%Y-%m-%d %H:%M}"
        click.echo(f"{row.bundle_id}  {size:>12}  through {cut}  {' '.join(row.channels)}".rstrip())
    if not rows:
        click.echo("no bundle is published; build one with `modiste offline run`")


@bundles.command()
@click.argument("bundle_id", required=False)
@CHANNEL
@AS_JSON
def show(bundle_id: str | None, channel: str | None, as_json: bool) -> None:
    """Show a bundle's manifest: BUNDLE_ID, or the one the channel points at."""
    settings, registry = _open()
    held = registry.open(bundle_id or registry.pointer(channel or settings.registry.channel).bundle_id)
    if as_json:
        _print(held.manifest)
        return
    click.echo(msgspec.json.format(msgspec.json.encode(held.manifest), indent=2).decode())


@bundles.command()
@click.argument("bundle_id")
@CHANNEL
@BY
@UNCHECKED
@AS_JSON
def activate(bundle_id: str, channel: str | None, by: str, unchecked: bool, as_json: bool) -> None:
    """Verify BUNDLE_ID, replay its golden cases and point the channel at it; running processes take it up within
    seconds."""
    settings, registry = _open()
    channel = channel or settings.registry.channel
    pointer = registry.activate(channel, bundle_id, by=by, check=_check(channel, unchecked))
    asyncio.run(announce(settings, pointer))
    _tell(pointer, as_json)


@bundles.command()
@CHANNEL
@BY
@UNCHECKED
@AS_JSON
def rollback(channel: str | None, by: str, unchecked: bool, as_json: bool) -> None:
    """Point the channel at the bundle it pointed at before, after the same checks."""
    settings, registry = _open()
    channel = channel or settings.registry.channel
    pointer = registry.rollback(channel, by=by, check=_check(channel, unchecked))
    asyncio.run(announce(settings, pointer))
    _tell(pointer, as_json)


@bundles.command()
@click.argument("bundle_id", required=False)
@AS_JSON
@click.pass_context
def verify(ctx: click.Context, bundle_id: str | None, as_json: bool) -> None:
    """Read and hash every file of BUNDLE_ID, or of all bundles; exit 1 when one is not as published."""
    _, registry = _open()
    checks = []
    for name in [check_bundle_id(bundle_id)] if bundle_id else registry.bundle_ids():
        try:
            registry.open(name)
            checks.append(_Check(bundle_id=name, ok=True))
        except BundleNotFound:
            raise
        except BundleError as error:
            checks.append(_Check(bundle_id=name, ok=False, problem=str(error)))
    failed = sum(not check.ok for check in checks)
    if as_json:
        _print({"checked": len(checks), "failed": failed, "bundles": checks})
    else:
        for check in checks:
            click.echo(f"{'PASS' if check.ok else 'FAIL'}  {check.bundle_id}  {check.problem}".rstrip())
        click.echo(f"{len(checks)} checked, {failed} failed")
    ctx.exit(1 if failed else 0)


def _check(channel: str, unchecked: bool) -> Check | None:
    def check(bundle: Bundle) -> None:
        try:
            check_usable(bundle)
        except BundleError as error:
            raise BundleError(
                f"{str(error).rstrip('.')}. Channel {channel} is not moved; --unchecked moves it all the same, for "
                "processes of another version"
            ) from error

    return None if unchecked else check


def _tell(pointer: ChannelPointer, as_json: bool) -> None:
    if as_json:
        _print(pointer)
        return
    before = f" (before: {pointer.previous})" if pointer.previous else ""
    click.echo(f"channel {pointer.channel} points at {pointer.bundle_id}{before}")
