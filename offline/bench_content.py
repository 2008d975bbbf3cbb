"""`modiste bench content`: trains a small CLIP and says how well it sees."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np

FOLDER = click.Path(path_type=Path)


@click.command()
@click.option("--garments", type=FOLDER, required=True, help="Parquet with the columns split, label, jpeg.")
@click.option("--hm", type=FOLDER, required=True, help="Directory with H&M's articles and transactions.")
@click.option(
    "--images", type=FOLDER, required=True, help="H&M's photos: Parquet (article_id, jpeg), or folders of them."
)
@click.option("--out", type=click.Path(path_type=Path), help="Where the checkpoint goes; `clip:DIR` names it later.")
@click.option("--epochs", type=click.IntRange(min=1), help="Passes over the photos instead of the standard number.")
@click.option("--threads", type=click.IntRange(min=1), default=2, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def content(
    garments: Path, hm: Path, images: Path, out: Path | None, epochs: int | None, threads: int, as_json: bool
) -> None:
    """Train a small CLIP on photos and texts; judge it on articles that it has not seen."""
    from infra.settings import load_settings
    from offline.content.clip_training import ClipTraining

    folder = load_settings().data_dir / "content"
    config = ClipTraining() if epochs is None else replace(ClipTraining(), epochs=epochs)
    found = measure(garments, hm, images, out or folder / "small-clip", folder / "cache", config, threads)
    if as_json:
        click.echo(json.dumps(found))
        return
    click.echo("\n".join(lines(found)))


def measure(
    garments: Path, hm: Path, images: Path, out: Path, cache: Path, config: Any, threads: int
) -> dict[str, Any]:
    """Train (or go on, or take what is there) and report."""
    import torch

    from offline.content.clip_report import article_report, garment_report
    from offline.content.clip_training import train_clip
    from offline.content.encoders import open_encoder
    from offline.content.images import open_images
    from offline.content.pairs import held_out, load_garments, load_pairs

    torch.set_num_threads(threads)
    pairs = load_pairs(hm, open_images(images))
    aside = held_out(pairs.articles["product_code"].to_pylist())
    train, test = pairs.take(np.flatnonzero(~aside)), pairs.take(np.flatnonzero(aside))
    photos = load_garments(garments, "train")
    started = time.monotonic()
    train_clip(train, photos, out, config)
    spent = time.monotonic() - started
    encoder, text_encoder = open_encoder(f"clip:{out}", 64), open_encoder("auto", 32)
    return {
        "checkpoint": str(out),
        "training": {
            "articles": len(train),
            "garments": len(photos.files),
            "epochs": config.epochs,
            "seconds": round(spent, 1),
            "threads": threads,
        },
        "text_baseline": text_encoder.name,
        "hm": article_report(encoder, text_encoder, train, test, cache),
        "garments": garment_report(encoder, load_garments(garments, "test")),
    }


def lines(found: dict[str, Any], depth: int = 0) -> list[str]:
    """Nested values, one a line, indented by their depth."""
    told = []
    for name, value in found.items():
        if isinstance(value, dict):
            told += [f"{'  ' * depth}{name}", *lines(value, depth + 1)]
        else:
            told.append(f"{'  ' * depth}{name}: {value}")
    return told
