"""HTTP routes of the gateway itself: is it up, is all there, what answers."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from serving.api_routes import ASKED, STRICT, Needs
from serving.api_schemas import Alive, BundleView, Ready
from serving.messages import STRATEGIES

router = APIRouter(tags=["health"])

METRICS: dict[int | str, dict[str, Any]] = {
    200: {"description": "Text format of Prometheus.", "content": {"text/plain": {"schema": {"type": "string"}}}}
}


@router.get("/healthz", summary="The process runs")
async def healthz() -> Alive:
    """Says nothing of what it needs; see /readyz."""
    return Alive()


@router.get("/readyz", summary="Everything needed is there", responses={503: {"model": Ready}})
async def readyz(gateway: Needs, response: Response) -> Ready:
    """Store, broker and bundle, each by name; 503 when one is not there."""
    checks = await gateway.checks()
    ready = all(value == "ok" for value in checks.values())
    if not ready:
        response.status_code = 503
    refusal = gateway.holder.refusal
    return Ready(
        ready=ready,
        checks=checks,
        bundle_id=gateway.holder.current.bundle_id if checks["bundle"] == "ok" else None,
        refused=f"{refusal.bundle_id}: {refusal.reason}" if refusal else None,
    )


@router.get("/v1/bundle", summary="What answers now", responses=ASKED, dependencies=STRICT)
async def bundle(gateway: Needs) -> BundleView:
    """The bundle in use: when it was built, through when it has learned, its numbers and its contracts."""
    loaded = gateway.holder.current
    manifest = loaded.runtime.manifest
    refusal = gateway.holder.refusal
    return BundleView(
        bundle_id=manifest.bundle_id,
        created_at=manifest.created_at,
        trained_through=manifest.trained_through,
        code_revision=manifest.code_revision,
        articles=len(loaded.runtime.items),
        strategies=list(STRATEGIES),
        counts=manifest.counts,
        contracts=manifest.contracts,
        metrics=manifest.metrics,
        refused=f"{refusal.bundle_id}: {refusal.reason}" if refusal else None,
    )


@router.get("/metrics", summary="Prometheus metrics", response_class=Response, responses=METRICS)
async def metrics() -> Response:
    """Text format of the Prometheus client."""
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
