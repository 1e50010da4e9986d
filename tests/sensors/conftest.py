"""A platform with tuning jobs, and a connection to it."""

from tests.support.tuning_platform import tuning  # noqa: F401 - a fixture
