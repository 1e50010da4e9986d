"""The answers that several kinds of jobs share. States stay the platform's own words."""

from pydantic import AliasChoices, AliasPath, Field, field_validator

from airflow_provider_lamini.api.lamini import wire


class StartedJob(wire.Answer):
    """A job that the platform took on."""

    job_id: wire.Id = Field(validation_alias=AliasChoices("job_id", AliasPath("outputs", "job_id"), "id"))
    status: str | None = Field(
        default=None, validation_alias=AliasChoices("status", AliasPath("outputs", "status"))
    )


class JobAnswer(wire.Answer):
    """The state of a job in the platform's own word, which some servers put below ``outputs``."""

    status: str = Field(validation_alias=AliasChoices("status", AliasPath("outputs", "status")))
    detail: str | None = Field(
        default=None, validation_alias=AliasChoices("detail", AliasPath("outputs", "detail"))
    )

    @field_validator("detail", mode="before")
    @classmethod
    def _only_text(cls, value: object) -> object:
        return value if isinstance(value, str) and value.strip() else None


class MaybeAnswer(wire.Answer):
    """A state, where the platform tells one."""

    status: str | None = Field(
        default=None, validation_alias=AliasChoices("status", AliasPath("outputs", "status"))
    )


def read_maybe_state(content: bytes) -> str | None:
    """Read the answer to a request that changes a job: a state in an object, a bare word, or nothing.

    :raises ValueError: where it is something else
    """
    value = wire.decode(content) if content.strip() else None
    if value is None or isinstance(value, str):
        return value
    return wire.answer(MaybeAnswer)(content).status


def read_state(content: bytes) -> str:
    """Read a job's state.

    :raises ValueError: where there is none
    """
    return wire.answer(JobAnswer)(content).status
