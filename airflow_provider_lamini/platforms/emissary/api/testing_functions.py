"""Test functions: they score the outputs of checkpoints, and reward them in GRPO training."""

from airflow_provider_lamini.api import schema
from airflow_provider_lamini.api.call import LIST, Call, Retry
from airflow_provider_lamini.platforms.emissary.api.fields import ListOf


class TestingFunctionSummary(schema.Response):
    """A test function."""

    __test__ = False  # not a test, whatever its name suggests to pytest

    name: str
    content: str | None = None
    """Its source code."""
    dependencies: ListOf[str]


def list_all() -> Call[list[TestingFunctionSummary]]:
    """List the test functions: ``GET /v1/testing-functions``."""
    return Call(
        operation="listTestFunctions",
        method="GET",
        path="/v1/testing-functions",
        parse=schema.list_parser(TestingFunctionSummary),
        retry=Retry.SAFE,
        max_bytes=LIST,
    )
