"""Photos with what is written about them: the training pairs and the held-out articles of the small CLIP."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from infra.errors import DataError
from offline.content.images import ImageStore, decode_image
from offline.content.texts import article_texts
from offline.progress import step
from offline.sources.base import ARTICLE_SCHEMA, StopAtFirst
from offline.sources.hm import HM
from serving.article_texts import SEPARATOR

HELD_OUT_SHARE = 0.1


@dataclass(frozen=True, eq=False)
class Pairs:
    """Row by row: articles (ARTICLE_SCHEMA), their texts, their image files."""

    articles: pa.Table
    texts: list[str]
    files: list[bytes]

    def __len__(self) -> int:
        return len(self.files)

    def take(self, rows: npt.NDArray[np.int64]) -> Pairs:
        chosen = rows.tolist()
        return Pairs(self.articles.take(chosen), [self.texts[r] for r in chosen], [self.files[r] for r in chosen])


@dataclass(frozen=True, eq=False)
class Garments:
    """Photos with a class each: labels int64[n] pointing into `names`."""

    names: list[str]
    labels: npt.NDArray[np.int64]
    files: list[bytes]


def load_pairs(hm: Path, images: ImageStore) -> Pairs:
    """H&M articles that have a photo.

    Raises:
        DataError: the files are missing or broken, or no article has a photo.
    """
    articles = pa.Table.from_batches(list(HM(hm).articles(StopAtFirst())), ARTICLE_SCHEMA).sort_by("article_id")
    found = [images.get(article) for article in articles["article_id"].to_pylist()]
    rows = [row for row, content in enumerate(found) if content is not None]
    if not rows:
        raise DataError("no article of this catalogue has a photo", file=str(hm))
    having = articles.take(rows)
    return Pairs(having, article_texts(having), [content for content in found if content is not None])


def held_out(product_codes: Sequence[str]) -> npt.NDArray[np.bool_]:
    """A tenth of the products, chosen by the hash of their code: all colours of one are on the same side; bool[n]."""
    limit = HELD_OUT_SHARE * 2**32
    digests = [hashlib.sha256(code.encode()).digest()[:4] for code in product_codes]
    return np.array([int.from_bytes(digest, "big") < limit for digest in digests], np.bool_)


def load_garments(path: Path, split: str) -> Garments:
    """One split of garments-cc0: a Parquet file with the columns split, label, jpeg, or the directory that holds it.

    Raises:
        DataError: no such file, a column is missing, or the split has no rows.
    """
    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    try:
        table = pq.read_table(files[0], columns=["split", "label", "jpeg"], use_threads=False)
    except (IndexError, pa.ArrowException, OSError) as error:
        raise DataError(f"no Parquet file with the columns split, label, jpeg: {error}", file=str(path)) from error
    names = sorted(set(table["label"].to_pylist()))
    table = table.filter(pc.equal(table["split"], split))
    if not table.num_rows:
        raise DataError(f"no rows of the split {split!r}", file=str(files[0]), column="split")
    place = {name: number for number, name in enumerate(names)}
    labels = np.array([place[label] for label in table["label"].to_pylist()], np.int64)
    return Garments(names, labels, table["jpeg"].to_pylist())


def garment_caption(label: str) -> str:
    """The class as a sentence of the kind that open_clip's models are asked with."""
    return f"a photo of a {label}"


def shortened(text: str, draws: npt.NDArray[np.float64], drop: float) -> str:
    """The text without the pieces whose draw (one of [0, 1) a piece) is below `drop`; never empty.

    A title like "Frans Espadrille" names one article. A network that may read it in every epoch learns names by heart
    and does not look at the photo.
    """
    pieces = text.split(SEPARATOR)
    kept = [piece for piece, draw in zip(pieces, draws, strict=False) if draw >= drop]
    return SEPARATOR.join(kept or pieces[-1:])


def read_pixels(files: Sequence[bytes], height: int, width: int) -> npt.NDArray[np.uint8]:
    """Pictures squashed to one size, uint8[n, 3, height, width]; a file that is no picture is grey."""
    out = np.full((len(files), 3, height, width), 128, np.uint8)
    with step("pictures", len(files)) as progress:
        for row, content in enumerate(files):
            image = decode_image(content, max(height, width))
            if image is not None:
                out[row] = np.asarray(image.resize((width, height), resample=3)).transpose(2, 0, 1)  # 3 is bicubic
            progress.advance()
    return out
