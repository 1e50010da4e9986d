"""Fixtures for one local platform with a fake engine per test module. A ``conftest.py`` imports them."""

from __future__ import annotations

from tests.support.platforms import platform_fixtures

engine, shared_platform = platform_fixtures("module")
