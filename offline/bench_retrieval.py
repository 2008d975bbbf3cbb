"""Trials of the retrieval network: one configuration trained and judged, and what single choices are worth."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch

from infra.errors import ConfigurationError
from offline import bench_next_item, bench_product
from offline.bench_next_item import NextItemData
from offline.bench_product import ProductData
from offline.models.two_tower import TwoTower
from offline.train_retrieval import TowerConfig, fit, new_two_tower, train_two_tower

# Chosen on the validation items alone.
NEXT_ITEM = TowerConfig(
    examples=10_000_000,
    epochs=10,
    dim=128,
    days=100_000,
    batch=1_500,
    negatives=1_024,
    learning_rate=2e-3,
    recency_days=float("inf"),
    id_dropout=0.0,
    query_encoder="transformer",
    dropout=0.3,
    log_q=1.0,
    history=50,
    stride=50,
)
JUDGE_EVERY = 2  # epochs
PATIENCE = 4  # judgements without a better one

# One choice at a time, everything else as configured.
ABLATIONS: dict[str, dict[str, dict[str, Any]]] = {
    "logq": {f"alpha {alpha}": {"log_q": alpha} for alpha in (0.0, 0.5, 1.0)},
    "negatives": {"mixed": {}, "in-batch only": {"negatives": 0}, "uniform only": {"in_batch": False}},
    "id": {"with ids": {}, "without ids": {"id_dropout": 1.0}},
    "encoder": {"transformer": {"query_encoder": "transformer"}, "pooling": {"query_encoder": "pooling"}},
}


def next_item(data: NextItemData, config: TowerConfig, seed: int, *, test: bool = True) -> dict[str, Any]:
    """Train with the weights of the best validation epoch kept, and judge: the test once, at the end.

    Returns:
        recall@10, ndcg@10 (of the test; of the validation where `test` is False), valid, epochs, seconds, seed.
    """
    started = time.monotonic()
    model = new_two_tower(data.inputs, config, seed)
    best: dict[str, Any] = {"epoch": 0, "valid": {"ndcg@10": -1.0}}

    def enough(epoch: int) -> bool:
        if epoch % JUDGE_EVERY and epoch != config.epochs:
            return False
        model.eval()
        found = bench_next_item.judge(model, data, 2, config.history)
        if found["ndcg@10"] > best["valid"]["ndcg@10"]:
            best.update(epoch=epoch, valid=found, weights={k: v.clone() for k, v in model.state_dict().items()})
        return bool(epoch - best["epoch"] >= PATIENCE * JUDGE_EVERY)

    fit(model, data.inputs, data.training(), data.now, config, seed=seed, enough=enough)
    model.load_state_dict(best["weights"])
    judged = bench_next_item.judge(model, data, 1, config.history) if test else best["valid"]
    seconds = round(time.monotonic() - started, 1)
    return {**judged, "valid": best["valid"], "epochs": best["epoch"], "seconds": seconds, "seed": seed}


def product(data: ProductData, config: TowerConfig, seed: int) -> dict[str, Any]:
    """recall@100 and map@12 of the two-tower alone in the days after the cut."""
    started = time.monotonic()
    model: TwoTower = new_two_tower(data.inputs, config, seed)
    train_two_tower(model, data.inputs, data.histories, data.items, data.cut, config, seed=seed)
    judged = bench_product.judge(model, data)
    return {**judged, "seconds": round(time.monotonic() - started, 1), "seed": seed}


def ablate(
    data: NextItemData | ProductData, config: TowerConfig, seed: int, names: list[str]
) -> Iterator[dict[str, Any]]:
    """One row a variant: what was varied, its value, and how it is judged (never on a benchmark's test items)."""
    known: dict[TowerConfig, dict[str, Any]] = {}  # each group holds the configuration itself
    for name in names:
        for value, changed in ABLATIONS[name].items():
            varied = replace(config, **changed)
            if varied not in known:
                known[varied] = _judged(data, varied, seed)
            yield {"varied": name, "value": value, **known[varied]}


def _judged(data: NextItemData | ProductData, config: TowerConfig, seed: int) -> dict[str, Any]:
    if isinstance(data, NextItemData):
        found = next_item(data, config, seed, test=False)
        del found["valid"]
        return found
    return product(data, config, seed)


def ablation_names(text: str) -> list[str]:
    """Raises:
    ConfigurationError: a name is not one of ABLATIONS.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in ABLATIONS]
    if unknown:
        raise ConfigurationError(f"cannot vary {', '.join(unknown)}; choose among {', '.join(ABLATIONS)}")
    return names


def limit_threads(n: int) -> None:
    torch.set_num_threads(n)
