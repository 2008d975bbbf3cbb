"""What a bundle must be for this code: its files, and the names of the features that its ranker was trained on.

It lies below all who open bundles, so that who only encodes refuses what was made for other code as well: customers are
not encoded into a space that no answer reads.
"""

from __future__ import annotations

import hashlib

import msgspec

from infra.bundle import Bundle
from infra.errors import BundleError

FILES = (
    "items.parquet",
    "item_vectors.npy",
    "index.faiss",
    "query_encoder.onnx",
    "ranker.onnx",
    "features.json",
    "retrieval.json",
    "covisitation.npz",
    "collaborative.npz",
    "content_vectors.npy",
    "content_space.npz",
    "statistics.npz",
    "segments.parquet",
    "golden.jsonl",
    "report.json",
)

# Where candidates come from, as a bundle's retrieval.json and its features name them.
SOURCES = ("repurchase", "variants", "covisitation", "popular", "collab", "two_tower", "content")
OWN = (
    "bought",
    "bought_count",
    "bought_count_7d",
    "bought_count_30d",
    "bought_count_90d",
    "bought_decayed",
    "bought_decayed_14d",
    "needed",
    "bought_last_days",
    "bought_first_days",
    "bought_share",
    "bought_trips",
    "trip_share",
    "bought_last_5_trips",
    "bought_last_10_trips",
    "trips_since",
    "own_trip_interval",
    "own_trip_due",
    "own_interval_days",
    "own_due",
    "item_interval_days",
    "item_due",
    "price_to_paid",
    "viewed_decayed",
    "viewed_last_days",
    "carted_last_days",
)
GROUP = (
    "subcategory_count",
    "subcategory_decayed",
    "subcategory_last_days",
    "subcategory_bought_share",
    "subcategory_trip_share",
    "subcategory_due",
    "category_share",
    "category_last_days",
    "brand_share",
    "product_count",
    "product_last_days",
    "price_to_habit",
)
ITEM = (
    "sold_1d",
    "sold_3d",
    "sold_7d",
    "sold_28d",
    "sold_91d",
    "sold_trend",
    "sold_trend_3d",
    "buyers_91d",
    "repeat_rate",
    "last_sold_days",
    "first_sold_days",
    "debut",
    "price",
    "price_trend",
    "segment_lift",
)
CUSTOMER = ("trips", "trips_30d", "last_trip_days", "trip_interval_days", "trip_due", "basket_size", "explored")
RETRIEVAL = (
    "two_tower_cosine",
    "collab_score",
    "content_cosine",
    "content_nearest",
    "related_sum",
    "related_max",
    *(f"{name}_rank" for name in SOURCES),
    "found_by",
)
FEATURES = (*OWN, *GROUP, *ITEM, *CUSTOMER, *RETRIEVAL)


def feature_hash() -> str:
    """Identity of the feature contract: a bundle trained on other features or another order is refused."""
    return hashlib.sha256("\n".join(FEATURES).encode()).hexdigest()[:16]


class FeatureSpec(msgspec.Struct, frozen=True):
    """features.json: what the ranker was trained on. hash: `feature_hash` of the code that trained it · tasks: what its
    columns of scores mean."""

    hash: str | None = None
    sources: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()


def check_contract(bundle: Bundle) -> FeatureSpec:
    """Refuse a verified bundle that was not built for this code: a file is missing, or its features are others. What
    the other files hold is for those who load them.

    Raises:
        BundleError: a file is missing, or it was trained on other features; says what was given and what is expected.
    """
    missing = [name for name in FILES if name not in bundle.manifest.files]
    if missing:
        raise BundleError(f"bundle {bundle.bundle_id} lacks {', '.join(missing)}; it must have {', '.join(FILES)}")
    try:
        spec = msgspec.json.decode(bundle.file("features.json").read_bytes(), type=FeatureSpec)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BundleError(f"bundle {bundle.bundle_id}: features.json names no features: {error}") from error
    if spec.hash != feature_hash() or spec.sources != SOURCES:
        raise BundleError(
            f"bundle {bundle.bundle_id} was trained on features {spec.hash} from sources {list(spec.sources)}; "
            f"this code builds {feature_hash()} from {list(SOURCES)}: run `modiste offline run` again"
        )
    return spec
