"""`modiste bench transfer`: one two-tower on several shops, judged on what it never saw."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import click


@click.command()
@click.option(
    "--data", "source", default="hm+retailrocket+complete-journey", show_default=True, help="Shops joined by +."
)
@click.option("--path", type=click.Path(path_type=Path), help="Directory with a folder for each shop that needs one.")
@click.option(
    "--to", default="complete-journey", show_default=True, help="The shop that gives nothing to the training."
)
@click.option("--epochs", type=click.IntRange(min=1), default=10, show_default=True)
@click.option("--text", default="auto", show_default=True, help="Encoder of the articles' texts.")
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--threads", type=click.IntRange(min=1), default=2, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def transfer(
    source: str, path: Path | None, to: str, epochs: int, text: str, seed: int, threads: int, as_json: bool
) -> None:
    """Train on several shops; Recall@100 for customers, articles and a shop that training never saw."""
    from infra.settings import load_settings
    from offline.bench_transfer import transfer_data
    from offline.bench_transfer_score import measure
    from offline.content.vectors import ContentConfig, content_vectors
    from offline.event_log import import_data, log_directory
    from offline.histories import load_histories
    from offline.run import PRESETS, limit_threads
    from serving.items import ItemTable

    limit_threads(threads)
    data_dir = load_settings().data_dir
    log = import_data(source, path, log_directory(data_dir, source))
    articles = log.articles()
    # Texts alone: where photos exist for articles that sold and for no others, a photo would give the answer away.
    content = content_vectors(articles, None, ContentConfig(text=text), data_dir / "content-cache")
    products = [
        code or article
        for code, article in zip(articles["product_code"].to_pylist(), articles["article_id"].to_pylist(), strict=True)
    ]
    data = transfer_data(ItemTable.from_table(articles), products, content, load_histories(log), to, seed)
    rows = list(measure(data, replace(PRESETS["standard"].learn.tower, epochs=epochs), seed))
    if as_json:
        click.echo(json.dumps({"data": source, "to": to, "seed": seed, "rows": [asdict(row) for row in rows]}))
        return
    for row in rows:
        click.echo(
            f"{row.shop:<18} {row.asked:<32} {row.ranker:<26} {row.recall:.4f}  [{row.low:.4f}, {row.high:.4f}]  "
            f"{row.customers:,} customers, {row.candidates:,} articles"
        )
