"""`modiste bench`: the product's own networks on public benchmarks, and what a request costs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from offline.bench_content import content
from offline.bench_diversity_cli import diversity
from offline.bench_memory_cli import memory
from offline.bench_rebalance_cli import rebalance
from offline.bench_recommend_cli import recommend
from offline.bench_replay_cli import replay
from offline.bench_rerank import rerank
from offline.bench_search_cli import search
from offline.bench_stream_cli import events, freshness
from offline.bench_swap_cli import swap
from offline.bench_transfer_cli import transfer

NEXT_ITEM_SETS = ("amazon-beauty",)


@click.group()
def bench() -> None:
    """Measure models on public data, with the code that trains the bundles, and the cost of a request."""


bench.add_command(content)
bench.add_command(diversity)
bench.add_command(events)
bench.add_command(freshness)
bench.add_command(memory)
bench.add_command(rebalance)
bench.add_command(recommend)
bench.add_command(replay)
bench.add_command(rerank)
bench.add_command(search)
bench.add_command(transfer)
bench.add_command(swap)


@bench.command()
@click.option("--data", "source", default="amazon-beauty", show_default=True, help="amazon-beauty, or a data set.")
@click.option("--path", type=click.Path(path_type=Path), help="Directory of the data set's files.")
@click.option("--until", help="A data set's cut: learn before this date, judge on the week from it.")
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--epochs", type=click.IntRange(min=1), help="Fewer or more passes than the standard configuration.")
@click.option("--dim", type=click.IntRange(min=2), help="Another length of the vectors.")
@click.option("--threads", type=click.IntRange(min=1), default=2, show_default=True)
@click.option("--ablate", help="Vary one choice at a time: logq, negatives, id, encoder (comma-separated).")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def retrieval(
    source: str,
    path: Path | None,
    until: str | None,
    seed: int,
    epochs: int | None,
    dim: int | None,
    threads: int,
    ablate: str | None,
    as_json: bool,
) -> None:
    """Train the two-tower and print how often it finds what came next."""
    from dataclasses import replace

    from offline import bench_retrieval
    from offline.bench_next_item import NextItemData

    names = bench_retrieval.ablation_names(ablate or "")
    bench_retrieval.limit_threads(threads)
    data, config = _opened(source, path, until)
    if epochs is not None:
        config = replace(config, epochs=epochs)
    if dim is not None:
        config = replace(config, dim=dim)
    if names:
        rows = list(bench_retrieval.ablate(data, config, seed, names))
        click.echo(json.dumps({"data": source, "ablations": rows}) if as_json else _table(rows))
        return
    if isinstance(data, NextItemData):
        found = bench_retrieval.next_item(data, config, seed)
    else:
        found = bench_retrieval.product(data, config, seed)
    click.echo(json.dumps({"data": source, **found}) if as_json else _table([found]))


def _opened(source: str, path: Path | None, until: str | None) -> tuple[Any, Any]:
    """The data and the configuration that it is measured with."""
    from infra.errors import ConfigurationError
    from offline.bench_next_item import amazon_beauty
    from offline.bench_retrieval import NEXT_ITEM

    if source in NEXT_ITEM_SETS:
        if path is None:
            raise ConfigurationError(f"{source} comes as files: give --path, the folder that holds them")
        if until:
            raise ConfigurationError(f"--until has no meaning for {source}, which knows only the order of its items")
        return amazon_beauty(path), NEXT_ITEM
    from infra.settings import load_settings
    from offline.bench_product import product_data
    from offline.event_log import import_data, log_directory
    from offline.run import PRESETS
    from offline.window import choose_window, parse_day

    log = import_data(source, path, log_directory(load_settings().data_dir, source))
    window = choose_window(log.span, parse_day(until) if until else None)
    return product_data(log, window.cut, window.horizon), PRESETS["standard"].learn.tower


def _table(rows: list[dict[str, Any]]) -> str:
    """Columns padded to the widest entry, so that it reads in any terminal and in a file."""
    names = list(rows[0])
    lines = [names, *([str(row[name]) for name in names] for row in rows)]
    widths = [max(len(line[n]) for line in lines) for n in range(len(names))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)
