"""`modiste bench rerank`: what the order of a language model costs, in milliseconds and tokens."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from infra.settings import LlmSettings
    from offline.bench_recommend import Stored
    from serving.runtime import Runtime

K = 12


@click.command()
@click.option("--bundle", "given", help="A channel, a bundle's id or its directory; default: registry.channel.")
@click.option("--customers", type=click.IntRange(min=1), default=30, show_default=True, help="One call each.")
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def rerank(given: str | None, customers: int, seed: int, as_json: bool) -> None:
    """Ask the endpoint of the settings ([llm]) to order real answers, one after another; each costs a call there."""
    from infra.errors import ConfigurationError
    from infra.settings import load_settings
    from offline.bench_recommend import stored_customers
    from offline.bench_recommend_cli import open_with_histories
    from offline.run import limit_threads
    from serving.runtime import load_runtime

    settings = load_settings()
    if settings.llm.url is None:
        raise ConfigurationError("no language model is configured; set llm.url and llm.model")
    limit_threads(1)
    bundle, histories = open_with_histories(given or settings.registry.channel)
    runtime, now = load_runtime(bundle), bundle.manifest.trained_through
    asking = stored_customers(runtime, histories, now, customers, seed)
    report = asyncio.run(cost(runtime, now, asking, settings.llm))
    click.echo(json.dumps(report) if as_json else _table(report))


async def cost(runtime: Runtime, now: datetime, customers: Sequence[Stored], settings: LlmSettings) -> dict[str, Any]:
    """p50 and p99 in milliseconds of the answers themselves (`ranked`), of their order from the endpoint (`ordered`)
    and from what is kept (`kept`); how it went, by outcome; tokens as the endpoint counts them."""
    from infra.clock import ManualClock
    from offline.bench_recommend import quantiles
    from serving.llm import open_reranker
    from serving.messages import RecommendationRequest
    from serving.pipeline import Pipeline
    from serving.reload import Loaded

    clock = ManualClock(now)
    loaded = Loaded(runtime.bundle_id, runtime, Pipeline(runtime, clock))
    # The answers wait for as long as a call may take: what it costs is what is asked here.
    llm = open_reranker(settings.model_copy(update={"wait_ms": settings.deadline_ms}), clock)
    assert llm is not None
    spent: dict[str, list[float]] = {"ranked": [], "ordered": [], "kept": []}
    outcomes: Counter[str] = Counter()
    before = _tokens()
    try:
        for stored in customers:
            request = RecommendationRequest(
                request_id=stored.customer_id, customer_id=stored.customer_id, k=K, rerank="llm", explain=True
            )
            customer = stored.load(runtime.encoder.space)
            started = time.perf_counter()
            (answer,) = loaded.pipeline.recommend([request], [customer])
            spent["ranked"].append((time.perf_counter() - started) * 1e3)
            for place, outcome in (("ordered", "reranked"), ("kept", "cached")):
                started = time.perf_counter()
                found = await llm.rerank(request, answer, loaded, customer.state, wait_ms=settings.deadline_ms)
                said = str(found.trace[-1]["outcome"])
                if place == "ordered":
                    outcomes[said] += 1
                if said != outcome:
                    break
                spent[place].append((time.perf_counter() - started) * 1e3)
    finally:
        await llm.close()
    tokens = {of: count - before[of] for of, count in _tokens().items()}
    rows = {name: quantiles(values) for name, values in spent.items() if values}
    return {**rows, "outcomes": dict(outcomes), "tokens": tokens, "model": settings.model, "customers": len(customers)}


def _tokens() -> dict[str, int]:
    """As this process has counted them so far."""
    from prometheus_client import REGISTRY

    found = {of: REGISTRY.get_sample_value("modiste_llm_tokens_total", {"of": of}) for of in ("question", "answer")}
    return {of: int(count or 0) for of, count in found.items()}


def _table(report: dict[str, Any]) -> str:
    rows = {name: report[name] for name in ("ranked", "ordered", "kept") if name in report}
    return "\n".join(
        [
            f"{report['customers']} answers of {K}, ordered by {report['model']}: {report['outcomes']}",
            f"{'milliseconds an answer':<24}{'p50':>10}{'p99':>10}",
            *(f"{name:<24}{row['p50_ms']:>10.3f}{row['p99_ms']:>10.3f}" for name, row in rows.items()),
            f"tokens: {report['tokens']['question']} asked, {report['tokens']['answer']} answered",
        ]
    )
