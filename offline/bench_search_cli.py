"""`modiste bench search`: what is found by a photo and by words, and in what time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from offline.bench_content import lines

FOLDER = click.Path(path_type=Path, exists=True)


@click.command()
@click.option("--garments", type=FOLDER, help="Photos with classes: Parquet with the columns split, label, jpeg.")
@click.option(
    "--image-encoder",
    "encoders",
    multiple=True,
    default=("efficientnet",),
    show_default=True,
    help="What looks at the photos, as in `modiste offline run`; may be given several times.",
)
@click.option("--bundle", type=FOLDER, help="Search this bundle by words, and time its searches.")
@click.option("--rounds", type=click.IntRange(min=1), default=200, show_default=True, help="Searches that are timed.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def search(garments: Path | None, encoders: tuple[str, ...], bundle: Path | None, rounds: int, as_json: bool) -> None:
    """Measure the search: precision@12 by garment class on held-out photos, by words on a bundle, and its time."""
    from infra.errors import ConfigurationError
    from infra.settings import load_settings

    if garments is None and bundle is None:
        raise ConfigurationError("nothing to search: give --garments, --bundle, or both")
    cache = load_settings().data_dir / "content-cache"
    found = measure(garments, encoders, bundle, rounds, cache)
    click.echo(json.dumps(found) if as_json else "\n".join(lines(found)))


def measure(
    garments: Path | None, encoders: tuple[str, ...], bundle: Path | None, rounds: int, cache: Path
) -> dict[str, Any]:
    """All that was asked for."""
    from infra.threads import one_thread
    from offline.bench_search import open_searcher, photo_search, search_latency, text_search
    from offline.content.encoders import open_encoder
    from offline.content.pairs import load_garments

    found: dict[str, Any] = {}
    held_out = None
    if garments is not None:
        known, held_out = load_garments(garments, "train"), load_garments(garments, "test")
        found["photos"] = [photo_search(open_encoder(name, 32), known, held_out, cache) for name in encoders]
    if bundle is not None:
        one_thread()
        searcher = open_searcher(bundle)
        found["text"] = text_search(searcher)
        found["latency"] = search_latency(searcher, held_out.files[0] if held_out else None, rounds)
    return found
