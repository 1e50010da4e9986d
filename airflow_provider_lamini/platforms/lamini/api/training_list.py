"""The list of all tuning jobs, parsed cheaply: see :mod:`airflow_provider_lamini.api.job_list`."""

from collections.abc import Container, Iterator

import msgspec

from airflow_provider_lamini.api import schema
from airflow_provider_lamini.api.call import Call, Retry
from airflow_provider_lamini.api.job_list import JobList
from airflow_provider_lamini.platforms.lamini.api.training import TrainJob


class _ListedJob(msgspec.Struct, gc=False):
    """The fields that matter. They have any type: one invalid old job must not make the list unreadable."""

    job_id: object = None
    status: object = None
    model_name: object = None
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


class TrainJobList:
    """All tuning jobs.

    :param content: body of the response
    :raises ValueError: if it is not a list of jobs
    """

    def __init__(self, content: bytes) -> None:
        try:
            decoded = schema.decode_as(content, _FORMS)
            if isinstance(decoded, _JobList):
                decoded = decoded.found
                if decoded is None and schema.decode(content) != {}:
                    raise ValueError("the object has none")  # noqa: TRY301 - one message for all forms
        except ValueError as error:
            raise ValueError(f"a list of jobs was expected: {error}") from None
        self._jobs = JobList(len(content), decoded or [], lambda job: job.job_id)

    def __len__(self) -> int:
        """Size of the response in bytes."""
        return len(self._jobs)

    def only(self, job_ids: Container[str]) -> Iterator[list[TrainJob]]:
        """Yield some of the jobs in batches.

        :param job_ids: the jobs that matter
        :returns: batches of these jobs; a job that cannot be parsed is left out
        """
        for batch in self._jobs.only(job_ids):
            yield [job for job in map(_parse, batch) if job is not None]


def list_all() -> Call[TrainJobList]:
    """List all tuning jobs of the key for polling: ``GET /v1/train/jobs``."""
    return Call(
        operation="train_jobs_get",
        method="GET",
        path="/v1/train/jobs",
        parse=TrainJobList,
        retry=Retry.SAFE,
    )


def _parse(listed: _ListedJob) -> TrainJob | None:
    try:
        fields = msgspec.structs.asdict(listed) | {"history": schema.decode(bytes(listed.history))}
        return schema.validate(TrainJob, fields)
    except ValueError:
        return None
