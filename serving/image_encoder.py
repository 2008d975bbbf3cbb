"""What looks at photos in a process that serves: the network of the articles' photos as ONNX, fed exactly as there."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from infra.bundle import Bundle
from infra.errors import BundleError
from serving.content_space import Floats, Projection, unit_rows
from serving.image_decode import decode_picture
from streams.encoder import load_vectors, onnx_session

NETWORK, SPACE, VECTORS = "image_encoder.onnx", "image_space.npz", "image_vectors.npy"
IMAGE_FILES = (NETWORK, SPACE, VECTORS)
RESIZES = ("squash", "shortest")
FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


@dataclass(frozen=True)
class Preparation:
    """How a picture becomes the network's input.

    side: pixels of the square · resize: `squash` to it, or the `shortest` side to it and the middle cut out ·
    interpolation: of FILTERS · mean, std: of red, green and blue between 0 and 1.
    """

    side: int
    resize: str
    interpolation: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __post_init__(self) -> None:
        if self.resize not in RESIZES or self.interpolation not in FILTERS or not 1 <= self.side <= 1_024:
            raise BundleError(
                f"pictures are prepared by {asdict(self)}; known are resize {', '.join(RESIZES)}, interpolation "
                f"{', '.join(FILTERS)} and sides up to 1024"
            )

    def __call__(self, picture: Image.Image) -> Floats:
        """float32[3, side, side] of a picture in RGB."""
        pixels = np.asarray(self._square(picture), np.float32).transpose(2, 0, 1) / np.float32(255)
        middle, spread = (np.array(part, np.float32)[:, None, None] for part in (self.mean, self.std))
        return np.asarray((pixels - middle) / spread, np.float32)

    @property
    def at_least(self) -> int:
        """Shorter side that is unpacked of a large picture: shrinking that once more costs no detail."""
        return 2 * self.side

    def _square(self, picture: Image.Image) -> Image.Image:
        how = FILTERS[self.interpolation]
        if self.resize == "squash":
            return picture.resize((self.side, self.side), how)
        wide, high = picture.size
        short = min(wide, high)
        scaled = picture.resize((self.side * wide // short, self.side * high // short), how)
        left, top = (round((length - self.side) / 2) for length in scaled.size)
        return scaled.crop((left, top, left + self.side, top + self.side))


class ImageNetwork:
    """A graph `pictures` float32[n, 3, side, side] -> `vectors` float32[n, d] of any length."""

    def __init__(self, path: Path, preparation: Preparation) -> None:
        self._session = onnx_session(str(path))
        self.preparation = preparation

    def __call__(self, content: bytes) -> Floats:
        """Unit row float32[d] of an image file.

        Raises:
            ImageRefused: the file is no picture.
        """
        prepare = self.preparation
        pictures = prepare(decode_picture(content, prepare.at_least))[None]
        (vectors,) = self._session.run(["vectors"], {"pictures": pictures})
        return np.asarray(unit_rows(vectors)[0], np.float32)


@dataclass(frozen=True, eq=False)
class PictureSpace:
    """Where the photos of a bundle's articles lie, and how another photo gets there.

    encoder: name and revision · projection: to the directions in which the articles' photos differ · threshold: cosine
    that 95 of 100 random pairs of them do not reach · articles: float32[n, k] unit rows, zero without a photo.
    """

    encoder: str
    network: ImageNetwork
    projection: Projection
    threshold: float
    articles: Floats

    def __call__(self, content: bytes) -> Floats:
        """Unit row float32[k] of an image file.

        Raises:
            ImageRefused: the file is no picture.
        """
        return np.asarray(self.projection(self.network(content)[None])[0], np.float32)

    @classmethod
    def load(cls, bundle: Bundle, n_items: int) -> PictureSpace:
        """Read with pickle off.

        Raises:
            BundleError: an array is missing, or of another shape than the others or `n_items` ask for.
        """
        articles = load_vectors(bundle, VECTORS, n_items)
        with np.load(bundle.file(SPACE), allow_pickle=False) as stored:
            missing = {"encoder", "preparation", "mean", "axes", "threshold"} - set(stored.files)
            if missing:
                raise BundleError(f"bundle {bundle.bundle_id}: {SPACE} lacks {', '.join(sorted(missing))}")
            told = json.loads(str(stored["preparation"]))
            encoder, threshold = str(stored["encoder"]), float(stored["threshold"])
            mean, axes = (np.asarray(stored[name], np.float32) for name in ("mean", "axes"))
        if axes.shape != (len(mean), articles.shape[1]):
            raise BundleError(
                f"bundle {bundle.bundle_id}: {SPACE} leads by axes of shape {axes.shape} from {len(mean)} dimensions; "
                f"{VECTORS} has {articles.shape[1]}"
            )
        preparation = Preparation(
            told["side"], told["resize"], told["interpolation"], tuple(told["mean"]), tuple(told["std"])
        )
        network = ImageNetwork(bundle.file(NETWORK), preparation)
        return cls(encoder, network, Projection(mean, axes), threshold, articles)


def save_picture_space(
    directory: Path, encoder: str, preparation: Preparation, projection: Projection, threshold: float
) -> None:
    """Write SPACE; the network and the vectors are written by whoever has them."""
    told: dict[str, npt.NDArray[np.generic]] = {
        "encoder": np.array(encoder, np.str_),
        "preparation": np.array(json.dumps(asdict(preparation)), np.str_),
        "mean": projection.mean,
        "axes": projection.axes,
        "threshold": np.array(threshold),
    }
    np.savez(directory / SPACE, **told)  # type: ignore[arg-type]
