"""What a registry does wherever it lies: run on a directory and on a bucket."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.errors import BundleError, BundleNotFound
from infra.registry import Registry
from tests.support.toy_bundles import toy_bundle


class RegistrySuite:
    def test_what_is_published_opens_as_it_was(self, registry: Registry, tmp_path: Path) -> None:
        bundle_id = toy_bundle(tmp_path / "made", "red green")
        assert registry.publish(tmp_path / "made") == bundle_id
        bundle = registry.open(bundle_id)
        assert bundle.file("words.txt").read_text() == "red green"
        assert bundle.file("tables/more.txt").read_text() == "blue"
        assert registry.bundle_ids() == [bundle_id]
        assert [manifest.bundle_id for manifest in registry.manifests()] == [bundle_id]

    def test_publishing_again_changes_nothing(self, registry: Registry, tmp_path: Path) -> None:
        toy_bundle(tmp_path / "made")
        assert registry.publish(tmp_path / "made") == registry.publish(tmp_path / "made")
        assert len(registry.bundle_ids()) == 1

    def test_a_channel_points_and_rolls_back(self, registry: Registry, tmp_path: Path) -> None:
        red, green = (toy_bundle(tmp_path / words, words) for words in ("red", "green"))
        for words in ("red", "green"):
            registry.publish(tmp_path / words)
        assert registry.activate("production", red).previous is None
        assert registry.activate("production", green, by="test").previous == red
        assert registry.resolve("production").bundle_id == green
        assert registry.pointer("production").by == "test"
        assert registry.rollback("production").bundle_id == red
        assert registry.rollback("production").bundle_id == green
        assert registry.channels() == ["production"]

    def test_what_is_not_there_is_told_with_what_is(self, registry: Registry, tmp_path: Path) -> None:
        with pytest.raises(BundleNotFound, match="channels: none; no bundle is published"):
            registry.pointer("production")
        bundle_id = toy_bundle(tmp_path / "made")
        registry.publish(tmp_path / "made")
        with pytest.raises(BundleNotFound, match=f"published: {bundle_id}"):
            registry.open("20200101T000000Z-0000000")
        with pytest.raises(BundleNotFound):
            registry.activate("production", "20200101T000000Z-0000000")
        assert registry.channels() == []

    def test_a_bundle_that_is_not_sound_is_not_published(self, registry: Registry, tmp_path: Path) -> None:
        toy_bundle(tmp_path / "made")
        (tmp_path / "made" / "words.txt").write_text("changed")
        with pytest.raises(BundleError):
            registry.publish(tmp_path / "made")
        assert registry.bundle_ids() == []
