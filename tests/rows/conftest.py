from __future__ import annotations

from tests.support.files import file, folder  # noqa: F401 - fixtures
from tests.support.object_store import object_store  # noqa: F401 - a fixture
