"""Where a registry at s3:// keeps its bundles and pointers: a bucket, read through a cache of this machine.

An object of S3 appears whole, so a bundle is published by its manifest, which is written last, and a pointer moves by
one write. A bundle is downloaded once: aside, verified, renamed into the cache; a copy that is no longer sound is
fetched again. Endpoint and credentials are AWS's own variables (AWS_ENDPOINT_URL_S3, AWS_ACCESS_KEY_ID, ...).
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from infra.bundle import MANIFEST, Bundle, Manifest, open_bundle, read_manifest
from infra.errors import BundleError, ConfigurationError, RegistryUnavailable

SCHEME = "s3://"
CACHE_VARIABLE = "XDG_CACHE_HOME"
ABANDONED_AFTER_S = 86_400
CONNECT_S, ANSWER_S = 3, 20

log = logging.getLogger(__name__)


class Bucket:
    """A Keeper below a bucket's prefix.

    Raises:
        ConfigurationError: the package s3fs is not installed.
    """

    def __init__(self, url: str, cache: Path | None = None) -> None:
        try:
            import s3fs
        except ModuleNotFoundError as error:
            raise ConfigurationError(
                f"registry.url = {url} needs the package s3fs; install it: pip install 'modiste[s3]'"
            ) from error
        self._url = url.rstrip("/")
        self._root = self._url.removeprefix(SCHEME)
        # An own instance: listings and objects are asked for anew, since other machines write them.
        self._files: Any = s3fs.S3FileSystem(
            use_listings_cache=False,
            skip_instance_cache=True,
            config_kwargs={"connect_timeout": CONNECT_S, "read_timeout": ANSWER_S, "retries": {"max_attempts": 2}},
        )
        name = hashlib.sha256(self._url.encode()).hexdigest()[:16]
        home = Path(os.environ.get(CACHE_VARIABLE) or Path.home() / ".cache")
        self._cache = cache or home / "modiste" / "bundles" / name

    @property
    def place(self) -> str:
        return self._url

    def names(self) -> list[str]:
        return [PurePosixPath(path).name for path in self._list("bundles")]

    def manifest(self, bundle_id: str) -> Manifest | None:
        raw = self._read(f"bundles/{bundle_id}/{MANIFEST}")
        if raw is None:
            return None
        self._cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._cache, prefix=".manifest-") as aside:
            (Path(aside) / MANIFEST).write_bytes(raw)
            try:
                return read_manifest(Path(aside))
            except BundleError as error:
                raise BundleError(f"{self._url}/bundles/{bundle_id}: {error}") from error

    def local(self, bundle_id: str) -> Path | None:
        target = self._cache / bundle_id
        try:
            published = self.manifest(bundle_id)
        except RegistryUnavailable as error:
            # What is published never changes, so a copy that verifies is as good.
            if not self._is_sound(target, None):
                raise
            log.warning("%s; bundle %s comes from the cache", error, bundle_id)
            return target
        if published is None:
            return None
        if not self._is_sound(target, published):
            self._download(published, target)
        return target

    def put(self, source: Bundle) -> None:
        for name in (*source.manifest.files, MANIFEST):
            with self._errors(f"cannot take bundle {source.bundle_id}"):
                self._files.put_file(str(source.path / name), f"{self._root}/bundles/{source.bundle_id}/{name}")
        # Through this machine's cache and nobody else's: what is read back is what others will read.
        shutil.rmtree(self._cache / source.bundle_id, ignore_errors=True)
        self.local(source.bundle_id)

    def channels(self) -> list[str]:
        return [PurePosixPath(path).stem for path in self._list("channels") if path.endswith(".json")]

    def whereabouts(self, channel: str) -> str:
        return f"{self._url}/channels/{channel}.json"

    def read_pointer(self, channel: str) -> bytes | None:
        return self._read(f"channels/{channel}.json")

    def write_pointer(self, channel: str, raw: bytes) -> None:
        with self._errors(f"cannot move channel {channel}"):
            self._files.pipe_file(f"{self._root}/channels/{channel}.json", raw)

    @contextlib.contextmanager
    def locked(self, channel: str) -> Iterator[None]:
        """Among the processes of this machine; of two machines that move a channel at once the later one wins."""
        self._cache.mkdir(parents=True, exist_ok=True)
        with (self._cache / f".{channel}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _is_sound(self, path: Path, published: Manifest | None) -> bool:
        if not path.is_dir():
            return False
        try:
            held = open_bundle(path).manifest
        except BundleError as error:
            log.warning("the cached copy is not sound and is fetched again: %s", error)
            return False
        return published is None or held == published

    def _download(self, manifest: Manifest, target: Path) -> None:
        self._sweep()
        aside = Path(tempfile.mkdtemp(prefix=f".{manifest.bundle_id}-", dir=self._cache))
        try:
            for name in (*manifest.files, MANIFEST):
                (aside / name).parent.mkdir(parents=True, exist_ok=True)
                remote = f"{self._root}/bundles/{manifest.bundle_id}/{name}"
                try:
                    with self._errors(f"does not give bundle {manifest.bundle_id}"):
                        self._files.get_file(remote, str(aside / name))
                except FileNotFoundError as error:
                    raise BundleError(f"bundle {manifest.bundle_id} of {self._url}: {name} is missing") from error
            try:
                open_bundle(aside)
            except BundleError as error:
                raise BundleError(f"bundle {manifest.bundle_id} of {self._url} is damaged: {error}") from error
            if target.exists():
                # Aside first: whoever has files of the old copy open keeps them.
                old = Path(tempfile.mkdtemp(prefix=".old-", dir=self._cache))
                target.rename(old / target.name)
                shutil.rmtree(old, ignore_errors=True)
            try:
                aside.rename(target)
            except OSError as error:
                if not self._is_sound(target, manifest):  # else another process was faster
                    raise BundleError(f"the cache {self._cache} cannot be written: {error}") from error
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    def _read(self, name: str) -> bytes | None:
        try:
            with self._errors("does not answer"):
                raw: bytes = self._files.cat_file(f"{self._root}/{name}")
                return raw
        except FileNotFoundError:
            return None

    def _list(self, folder: str) -> list[str]:
        try:
            with self._errors("does not answer"):
                found: list[str] = self._files.ls(f"{self._root}/{folder}", detail=False)
                return found
        except FileNotFoundError:
            return []

    @contextlib.contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        """The library's errors in our words; a missing object stays FileNotFoundError."""
        import botocore.exceptions

        try:
            yield
        except FileNotFoundError:
            raise
        except PermissionError as error:
            raise ConfigurationError(
                f"{self._url} {what}: {error}; check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and the bucket's policy"
            ) from error
        except botocore.exceptions.NoCredentialsError as error:
            raise ConfigurationError(f"{self._url} {what}: {error}; set AWS_ACCESS_KEY_ID and its secret") from error
        except (OSError, TimeoutError, botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError) as error:
            raise RegistryUnavailable(f"{self._url} {what}: {error or type(error).__name__}") from error

    def _sweep(self) -> None:
        self._cache.mkdir(parents=True, exist_ok=True)
        for path in self._cache.glob(".*-*"):
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > ABANDONED_AFTER_S:
                    shutil.rmtree(path)
