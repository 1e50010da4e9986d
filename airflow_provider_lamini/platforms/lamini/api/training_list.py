"""The list of all tuning jobs, read while it arrives: see :mod:`airflow_provider_lamini.api.job_list`."""

from collections.abc import Callable, Container
from typing import TypeVar

import msgspec

from airflow_provider_lamini.api import schema
from airflow_provider_lamini.api.call import Call
from airflow_provider_lamini.api.job_list import ListedJobs, ListForm, list_call
from airflow_provider_lamini.platforms.lamini.api.training import TrainJob

T = TypeVar("T")


class _ListedJob(msgspec.Struct, gc=False):
    """The fields that matter. They have any type: one invalid old job must not make the list unreadable."""

    job_id: object = None
    status: object = None
    model_name: object = None
    custom_model_name: object = None
    start_time: object = None
    history: msgspec.Raw = msgspec.field(default_factory=lambda: msgspec.Raw(b"null"))
    resume_count: object = None
    resume_limit: object = None
    detail: object = None


class _JobList(msgspec.Struct):
    """A list inside an object."""

    jobs: list[_ListedJob] | None = None
    data: list[_ListedJob] | None = None

    @property
    def found(self) -> list[_ListedJob] | None:
        """The list, if the object has one."""
        return self.data if self.jobs is None else self.jobs


_FORMS: msgspec.json.Decoder[list[_ListedJob] | _JobList | None] = msgspec.json.Decoder(
    list[_ListedJob] | _JobList | None
)


def list_all(job_ids: Container[str], convert: Callable[[TrainJob], T]) -> Call[ListedJobs[T]]:
    """List all tuning jobs of the key, for polling some of them: ``GET /v1/train/jobs``.

    :param job_ids: the requested jobs
    :param convert: returns what is kept of a job
    """

    def keep(listed: _ListedJob) -> T | None:
        job = _parse(listed) if str(listed.job_id) in job_ids else None
        return None if job is None else convert(job)

    return list_call("train_jobs_get", "/v1/train/jobs", _FORM, keep)


def _decode(content: bytes) -> list[_ListedJob]:
    decoded = schema.decode_as(content, _FORMS)
    if not isinstance(decoded, _JobList):
        return decoded or []
    if decoded.found is None and schema.decode(content) != {}:
        raise ValueError("the object has none")
    return decoded.found or []


_FORM = ListForm(msgspec.json.Decoder(list[_ListedJob]), _decode)


def _parse(listed: _ListedJob) -> TrainJob | None:
    try:
        fields = msgspec.structs.asdict(listed) | {"history": schema.decode(bytes(listed.history))}
        return schema.validate(TrainJob, fields)
    except ValueError:
        return None
