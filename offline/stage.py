"""Write what was learned as a bundle's files: what is counted at a cut, and the networks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from offline.evaluate import index_recall
from offline.export import export_query_encoder
from offline.learn import Learned
from offline.shop import Shop
from offline.train_ranking import gate_entropy
from serving.runtime import Catalog
from streams.bundle_contract import FEATURES, SOURCES, feature_hash

# What `stage_networks` writes: the same as long as the networks are.
NETWORK_FILES = ("features.json", "query_encoder.onnx", "ranker.onnx")


def stage(directory: Path, peers: Path, shop: Shop, learned: Learned) -> dict[str, Any]:
    """Write all files but golden cases, report and manifest into an empty directory, and the rankers that do not
    serve into `peers`, see peer_path; returns what was found out.

    Raises:
        GateError: an exported network differs from the trained one.
    """
    stage_catalog(directory, shop, learned.catalog)
    return stage_networks(directory, peers, shop, learned)


def stage_catalog(directory: Path, shop: Shop, catalog: Catalog) -> None:
    """Write everything but the networks: articles, their vectors, index, counts and factors."""
    pq.write_table(shop.items_table, directory / "items.parquet")
    np.save(directory / "item_vectors.npy", catalog.vectors)
    # Half precision: these are read, not trained on, and the index holds no more.
    np.save(directory / "content_vectors.npy", catalog.content.astype(np.float16))
    shop.space.save(directory / "content_space.npz")
    catalog.index.save(directory / "index.faiss")
    catalog.statistics.save(directory / "statistics.npz")
    catalog.neighbours.save(directory / "covisitation.npz")
    catalog.factors.save(directory / "collaborative.npz")
    pq.write_table(
        pa.table(
            {
                "customer_id": pa.array(list(shop.segments), pa.string()),
                "segment": pa.array(list(shop.segments.values()), pa.string()),
            }
        ),
        directory / "segments.parquet",
    )
    (directory / "retrieval.json").write_bytes(msgspec.json.encode(catalog.retrieval))


def stage_networks(directory: Path, peers: Path, shop: Shop, learned: Learned) -> dict[str, Any]:
    """Write NETWORK_FILES, and the peer rankers as in `stage`; returns what was found out.

    Raises:
        GateError: an exported network differs from the trained one.
    """
    examples, rankers = learned.examples, learned.rankers
    spec = {
        "hash": feature_hash(),
        "features": FEATURES,
        "sources": SOURCES,
        "ranker": rankers.serving,
        "tasks": rankers.tasks(rankers.serving),
    }
    (directory / "features.json").write_text(json.dumps(spec, indent=2))
    return {
        "onnx_max_difference": {
            "query_encoder": export_query_encoder(learned.tower, directory / "query_encoder.onnx"),
            "ranker": rankers.export(rankers.serving, directory / "ranker.onnx", examples.features[:256]),
            "peer_rankers": {
                name: rankers.export(name, peer_path(peers, name), examples.features[:256]) for name in rankers.peers
            },
        },
        "index_recall": round(_index_recall(shop, learned), 5),
        "gate_entropy": gate_entropy(rankers.mmoe, examples),
        "ranker": rankers.report(),
        "ranking_examples": len(examples),
        "ranking_positives": int(examples.label("purchase").sum()),
    }


def peer_path(directory: Path, name: str) -> Path:
    """Where a ranker that does not serve is written."""
    return directory / f"peer-{name}.onnx"


def _index_recall(shop: Shop, learned: Learned) -> float:
    customers = shop.histories.customers
    some = customers[:: max(1, len(customers) // 500)]
    states = [state for c in some if (state := shop.histories.state(c, shop.cut)) is not None]
    catalog = learned.catalog
    return index_recall(catalog.index, catalog.vectors, catalog.encoder.encode(states))
