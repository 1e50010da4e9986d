"""Fixtures of a local platform in front of a tiny engine, one for each module of tests. A ``conftest.py`` imports them."""

from __future__ import annotations

from tests.support.platforms import platform_fixtures

engine, shared_platform = platform_fixtures("module")
