"""Fixtures of the contract tests."""

from __future__ import annotations

from tests.support.tiny_fixture import tiny

__all__ = ["tiny"]
