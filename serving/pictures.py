"""Pictures of articles from a directory, for the shop page: found by id, made no wider than the page shows them, kept.

Two layouts are known: H&M's on Kaggle (DIR/010/0108775015.jpg, folders named by the first three characters) and flat
files (DIR/0108775015.jpg). An id is data that anybody may send: it never leads out of the directory.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from infra.errors import ConfigurationError

TYPES = {
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".png": "image/png",
    ".webp": "image/webp",
    ".svg": "image/svg+xml",
}
WIDTHS = (320, 640)
MAX_FILE_BYTES = 16 * 2**20
# A few hundred pictures as wide as a card, or some thousand of H&M's small ones.
CACHE_BYTES = 32 * 2**20
# A picture of a few kilobytes can claim billions of pixels.
MAX_PIXELS = 50_000_000
QUALITY = 85

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
_BEGINNINGS = {
    "image/jpeg": (b"\xff\xd8\xff",),
    "image/png": (b"\x89PNG\r\n\x1a\n",),
    "image/webp": (b"RIFF",),
    "image/svg+xml": (b"<svg", b"<?xml"),
}


@dataclass(frozen=True, slots=True)
class Picture:
    """The bytes of an image file, its media type, and a tag that changes with them."""

    content: bytes
    media_type: str
    etag: str


class PictureDirectory:
    """Thread-safe; reads a file when it is first asked for.

    Raises:
        ConfigurationError: no such directory.
    """

    def __init__(self, directory: Path, cache_bytes: int = CACHE_BYTES) -> None:
        if not directory.is_dir():
            raise ConfigurationError(
                f"page.pictures names {directory}, which is no directory; give one with pictures, or leave it out"
            )
        self._root = directory.resolve()
        self._room = cache_bytes
        self._cache: OrderedDict[tuple[Path, int], Picture] = OrderedDict()
        self._held = 0
        self._lock = Lock()

    def find(self, article_id: str) -> Path | None:
        """The article's file; None where there is none, or the id is none that could name one."""
        if _ID.fullmatch(article_id) is None:
            return None
        for folder in (self._root / article_id[:3], self._root):
            for suffix in TYPES:
                path = folder / f"{article_id}{suffix}"
                # A link that leads elsewhere is not followed.
                if path.is_file() and path.resolve().is_relative_to(self._root):
                    return path
        return None

    def get(self, article_id: str, width: int) -> Picture | None:
        """The article's picture, at most `width` pixels wide, one of WIDTHS; None where there is none that is sound."""
        path = self.find(article_id)
        if path is None:
            return None
        with self._lock:
            kept = self._cache.get((path, width))
            if kept is not None:
                self._cache.move_to_end((path, width))
                return kept
        made = _read(path, width)
        if made is not None:
            self._keep((path, width), made)
        return made

    def _keep(self, key: tuple[Path, int], picture: Picture) -> None:
        with self._lock:
            if key in self._cache or len(picture.content) > self._room:
                return
            self._cache[key] = picture
            self._held += len(picture.content)
            while self._held > self._room:
                _, oldest = self._cache.popitem(last=False)
                self._held -= len(oldest.content)


def _read(path: Path, width: int) -> Picture | None:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            return None
        content = path.read_bytes()
    except OSError:
        return None
    media_type = TYPES[path.suffix]
    # What is no picture is not handed out as one, whatever its name says.
    if not content.lstrip().startswith(_BEGINNINGS[media_type]):
        return None
    if media_type != "image/svg+xml":
        content, media_type = _narrowed(content, width) or (content, media_type)
    return Picture(content, media_type, f'"{hashlib.sha256(content).hexdigest()[:16]}"')


def _narrowed(content: bytes, width: int) -> tuple[bytes, str] | None:
    """A JPEG of that width; None where the picture is no wider, cannot be read, or Pillow is not installed."""
    try:
        from PIL import Image
    except ImportError:
        return None
    try:
        with Image.open(io.BytesIO(content), formats=("JPEG", "PNG", "WEBP")) as image:
            if image.width <= width or image.width * image.height > MAX_PIXELS:
                return None
            height = max(1, round(image.height * width / image.width))
            image.draft("RGB", (width, height))
            out = io.BytesIO()
            image.convert("RGB").resize((width, height), Image.Resampling.LANCZOS).save(out, "JPEG", quality=QUALITY)
            return out.getvalue(), "image/jpeg"
    except Exception:  # Pillow's decoders raise nearly anything on a broken file; the browser shows what it can of it
        return None
