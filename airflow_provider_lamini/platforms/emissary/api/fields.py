"""Fields that several operations share: times, lists that may be missing, schedules, and bodies without content."""

import re
from typing import Annotated, Literal, TypeVar
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BeforeValidator, Field, PositiveInt, field_validator, model_validator

from airflow_provider_lamini.api import schema

T = TypeVar("T")

UnixTime = int | float
"""Unix timestamp in seconds."""

TaskType = Literal["text-generation", "classification", "embedding", "regression"]
"""What a model is trained for."""

Day = Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]

_HOUR_AND_MINUTE = r"([01]\d|2[0-3]):[0-5]\d"


def _none_to_empty_list(value: object) -> object:
    return [] if value is None else value


def _none_to_empty_mapping(value: object) -> object:
    return {} if value is None else value


ListOf = Annotated[list[T], BeforeValidator(_none_to_empty_list), Field(default_factory=list)]
"""A list in a response, empty if it is missing or null."""

MappingOf = Annotated[dict[str, T], BeforeValidator(_none_to_empty_mapping), Field(default_factory=dict)]
"""An object in a response, empty if it is missing or null."""


def _hour_and_minute(value: str) -> str:
    if not re.fullmatch(_HOUR_AND_MINUTE, value):
        raise ValueError("Input should be a time of day such as 08:30")
    return value


HourAndMinute = Annotated[str, AfterValidator(_hour_and_minute)]
"""A time of day, ``HH:MM``."""


class Schedule(schema.Request):
    """When an engine or a deployment is active."""

    timezone: str | None = None
    """IANA name, such as ``Europe/Berlin``."""
    start_time: HourAndMinute | None = None
    """``HH:MM``."""
    end_time: HourAndMinute | None = None
    """``HH:MM``."""
    days: Annotated[list[Day], Field(min_length=1)] | None = None

    @field_validator("timezone")
    @classmethod
    def _known_timezone(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                ZoneInfo(value)
            except (OSError, ValueError, KeyError):
                raise ValueError("Input should be a time zone such as Europe/Berlin") from None
        return value


class ActiveTimes(schema.Request):
    """When something stops running by itself: after some time without requests, or on a schedule."""

    inactive_timeout: PositiveInt | None = None
    """Seconds without a request."""
    schedule: Schedule | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> "ActiveTimes":
        if self.inactive_timeout is not None and self.schedule is not None:
            raise ValueError("inactive_timeout and schedule exclude each other")
        return self


def parse_no_content(content: bytes) -> None:
    """Accept the response to a request that only changes something: empty, or any JSON.

    :raises ValueError: if it is something else, such as a web page of a proxy
    """
    if content.strip():
        schema.decode(content)
