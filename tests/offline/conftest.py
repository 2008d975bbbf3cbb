"""Fixtures of the offline tests."""

from __future__ import annotations

from tests.support.tiny_fixture import tiny

__all__ = ["tiny"]
