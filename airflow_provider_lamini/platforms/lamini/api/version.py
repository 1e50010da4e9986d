"""The platform itself."""

from airflow_provider_lamini.api import schema
from airflow_provider_lamini.api.call import Call, Retry


class ApiVersion(schema.Response):
    """One version of the API that the platform serves."""

    name: str | None = None
    path: str | None = None


class Version(schema.Response):
    """Versions of the platform."""

    server: str | None = None
    """The platform's version."""
    client: str | None = None
    """The version of the official client that it expects."""
    api: list[ApiVersion] | None = None


def version() -> Call[Version]:
    """Get the platform's version: ``GET /v1/version``. Cheap: good for testing a connection."""
    return Call(
        operation="version_get",
        method="GET",
        path="/v1/version",
        parse=schema.parser(Version),
        retry=Retry.SAFE,
    )
