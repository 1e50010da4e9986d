"""Responses that several kinds of jobs share. A status is the platform's own word."""

from typing import Annotated

from pydantic import AliasChoices, AliasPath, BeforeValidator, Field

from airflow_provider_lamini.api import schema


class StartedJob(schema.Response):
    """A job that the platform accepted."""

    job_id: schema.Id = Field(validation_alias=AliasChoices("job_id", AliasPath("outputs", "job_id"), "id"))
    status: str | None = Field(
        default=None, validation_alias=AliasChoices("status", AliasPath("outputs", "status"))
    )


def _only_text(value: object) -> object:
    return value if isinstance(value, str) and value.strip() else None


Reason = Annotated[str | None, BeforeValidator(_only_text)]
"""Why a job ended as it did, if the platform sends a text."""


class OptionalStatus(schema.Response):
    """A status, if the platform sends one; some servers put it below ``outputs``."""

    status: str | None = Field(
        default=None, validation_alias=AliasChoices("status", AliasPath("outputs", "status"))
    )
    detail: Reason = Field(
        default=None, validation_alias=AliasChoices("detail", AliasPath("outputs", "detail"))
    )


class StatusResponse(OptionalStatus):
    """The status of a job."""

    status: str = Field(validation_alias=AliasChoices("status", AliasPath("outputs", "status")))


def parse_optional_status(content: bytes) -> str | None:
    """Parse the response to a request that changes a job: a status in an object, a plain word, or nothing.

    :raises ValueError: if it is something else
    """
    value = schema.decode(content) if content.strip() else None
    if value is None or isinstance(value, str):
        return value
    return schema.parser(OptionalStatus)(content).status


def parse_status(content: bytes) -> str:
    """Parse a job's status.

    :raises ValueError: if there is none
    """
    return schema.parser(StatusResponse)(content).status
