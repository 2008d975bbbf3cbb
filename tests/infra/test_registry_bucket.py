"""A registry in a bucket, on a local S3 server."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import s3fs

from infra.errors import BundleError, BundleNotFound, RegistryUnavailable
from infra.registry import Registry
from tests.suites.registry_suite import RegistrySuite
from tests.support.servers import running_s3
from tests.support.toy_bundles import toy_bundle

BUCKET = "shop"


@pytest.fixture(scope="module")
def s3_url() -> Iterator[str]:
    with running_s3() as url:
        yield url


@pytest.fixture
def bucket(s3_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[s3fs.S3FileSystem]:
    for name, value in {
        "AWS_ENDPOINT_URL_S3": s3_url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }.items():
        monkeypatch.setenv(name, value)
    files = s3fs.S3FileSystem(use_listings_cache=False, skip_instance_cache=True)
    if files.exists(BUCKET):
        files.rm(BUCKET, recursive=True)
    files.mkdir(BUCKET)
    yield files


@pytest.fixture
def registry(bucket: s3fs.S3FileSystem) -> Registry:
    return Registry(f"s3://{BUCKET}/bundles-of/ours")


class TestBucket(RegistrySuite):
    """The suite on a bucket."""


def published(registry: Registry, directory: Path, words: str = "red green") -> str:
    bundle_id = toy_bundle(directory, words)
    registry.publish(directory)
    return bundle_id


def key(bundle_id: str, name: str) -> str:
    return f"{BUCKET}/bundles-of/ours/bundles/{bundle_id}/{name}"


def test_a_bundle_is_there_when_its_manifest_is(
    registry: Registry, bucket: s3fs.S3FileSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A publisher that is killed at any file leaves nothing that opens; publishing again goes on."""
    bundle_id = toy_bundle(tmp_path / "made")
    files = registry._keeper._files  # type: ignore[attr-defined]
    real = files.put_file
    for survived in range(3):
        left = survived

        def put_file(source: str, target: str) -> None:
            nonlocal left
            if not left:
                raise KeyboardInterrupt
            left -= 1
            real(source, target)

        with monkeypatch.context() as context:
            context.setattr(files, "put_file", put_file)
            with pytest.raises(KeyboardInterrupt):
                registry.publish(tmp_path / "made")
        assert registry.manifests() == []
        with pytest.raises(BundleNotFound):
            registry.activate("production", bundle_id)
    assert registry.publish(tmp_path / "made") == bundle_id
    assert registry.open(bundle_id).bundle_id == bundle_id


def test_another_machine_downloads_once(registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle_id = published(registry, tmp_path / "made")
    there = Registry(f"s3://{BUCKET}/bundles-of/ours", cache=tmp_path / "there")
    fetched: list[str] = []
    files = there._keeper._files  # type: ignore[attr-defined]
    real = files.get_file

    def get_file(source: str, target: str) -> None:
        fetched.append(Path(source).name)
        real(source, target)

    monkeypatch.setattr(files, "get_file", get_file)
    assert there.open(bundle_id).path == tmp_path / "there" / bundle_id
    there.open(bundle_id)
    assert sorted(fetched) == ["manifest.json", "more.txt", "words.txt"]
    # A cached copy that was damaged is fetched anew.
    (tmp_path / "there" / bundle_id / "words.txt").write_text("rod")
    assert there.open(bundle_id).file("words.txt").read_text() == "red green"
    assert len(fetched) == 6
    # Nothing is left of the ways there.
    assert {path.name for path in (tmp_path / "there").iterdir()} == {bundle_id}


@pytest.mark.parametrize("name", ["words.txt", "tables/more.txt"])
def test_what_is_damaged_or_missing_in_the_bucket_is_refused_by_name(
    registry: Registry, bucket: s3fs.S3FileSystem, tmp_path: Path, name: str
) -> None:
    bundle_id = published(registry, tmp_path / "made")
    bucket.pipe_file(key(bundle_id, name), b"x")
    there = Registry(f"s3://{BUCKET}/bundles-of/ours", cache=tmp_path / "there")
    with pytest.raises(BundleError, match=rf"(?s){bundle_id} .* is damaged.*{name}"):
        there.activate("production", bundle_id)
    bucket.rm_file(key(bundle_id, name))
    with pytest.raises(BundleError, match=f"{name} is missing"):
        there.open(bundle_id)
    assert there.channels() == []
    assert not list((tmp_path / "there").glob(f"*{bundle_id}*"))


def test_a_bucket_that_does_not_answer_leaves_the_cached_bundle(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bundle_id = published(registry, tmp_path / "made")
    registry.activate("production", bundle_id)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    caplog.set_level(logging.WARNING)
    cut_off = Registry(f"s3://{BUCKET}/bundles-of/ours", cache=Path(os.environ["XDG_CACHE_HOME"]) / "x")
    with pytest.raises(RegistryUnavailable, match="does not answer"):
        cut_off.pointer("production")
    with pytest.raises(RegistryUnavailable):
        cut_off.open(bundle_id)
    here = Registry(f"s3://{BUCKET}/bundles-of/ours")
    assert here.open(bundle_id).bundle_id == bundle_id
    assert "comes from the cache" in caplog.text
