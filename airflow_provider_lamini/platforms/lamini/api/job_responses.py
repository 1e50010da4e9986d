"""The answers that several kinds of jobs share. States stay the platform's own words."""

from typing import Annotated

from pydantic import AliasChoices, AliasPath, BeforeValidator, Field

from airflow_provider_lamini.api import schema


class StartedJob(schema.Response):
    """A job that the platform took on."""

    job_id: schema.Id = Field(validation_alias=AliasChoices("job_id", AliasPath("outputs", "job_id"), "id"))
    status: str | None = Field(
        default=None, validation_alias=AliasChoices("status", AliasPath("outputs", "status"))
    )


def _only_text(value: object) -> object:
    return value if isinstance(value, str) and value.strip() else None


Reason = Annotated[str | None, BeforeValidator(_only_text)]
"""Why a job has ended as it has, where the platform tells it as a text."""


class MaybeAnswer(schema.Response):
    """A state, where the platform tells one, which some servers put below ``outputs``."""

    status: str | None = Field(
        default=None, validation_alias=AliasChoices("status", AliasPath("outputs", "status"))
    )
    detail: Reason = Field(
        default=None, validation_alias=AliasChoices("detail", AliasPath("outputs", "detail"))
    )


class JobAnswer(MaybeAnswer):
    """The state of a job in the platform's own word."""

    status: str = Field(validation_alias=AliasChoices("status", AliasPath("outputs", "status")))


def read_maybe_state(content: bytes) -> str | None:
    """Read the answer to a request that changes a job: a state in an object, a bare word, or nothing.

    :raises ValueError: where it is something else
    """
    value = schema.decode(content) if content.strip() else None
    if value is None or isinstance(value, str):
        return value
    return schema.parser(MaybeAnswer)(content).status


def read_state(content: bytes) -> str:
    """Read a job's state.

    :raises ValueError: where there is none
    """
    return schema.parser(JobAnswer)(content).status
