"""The demo starts with a bundle only where the processes would answer from it."""

from __future__ import annotations

from pathlib import Path

import pytest

from offline.demo import opens
from tests.support.remade import remade
from tests.support.tiny_fixture import Tiny


def test_a_bundle_of_an_older_version_is_not_taken(
    tiny: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert opens(tiny.bundle)
    assert capsys.readouterr().err == ""
    older = remade(tiny.bundle, tmp_path, lambda copy: (copy / "content_space.npz").unlink())
    assert not opens(older)
    said = capsys.readouterr().err
    assert "lacks content_space.npz" in said and "another one is trained" in said
