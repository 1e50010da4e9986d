"""Checkpoints of a training job, with their test results."""

from pydantic import Field

from airflow_provider_lamini.api import schema
from airflow_provider_lamini.api.call import LIST, Call, Retry
from airflow_provider_lamini.platforms.emissary.api.fields import MappingOf, UnixTime
from airflow_provider_lamini.platforms.emissary.api.training import job_path


class TestResults(schema.Response):
    """What the test functions say of a checkpoint."""

    __test__ = False  # not a test, whatever its name suggests to pytest

    general_test_result: str | None = None
    aggregated_test_result: MappingOf[str]
    """Test function to its result over all rows, as a text."""


class TrainingJobCheckpoint(schema.Response):
    """A checkpoint."""

    checkpoint: int
    """Its number."""
    model_download_url: str | None = Field(default=None, repr=False)
    """Where its files are: a URL of another host that needs no key. Whoever has the URL can read them."""
    test_results: TestResults | None = None
    created_at: UnixTime | None = None
    updated_at: UnixTime | None = None


def list_all(project_id: str, training_job_id: str) -> Call[list[TrainingJobCheckpoint]]:
    """List a job's checkpoints: ``GET /v1/projects/{project_id}/training-jobs/{training_job_id}/checkpoints``.

    :param project_id: the project
    :param training_job_id: the job
    """
    return Call(
        operation="listCheckpoints",
        method="GET",
        path=f"{job_path(project_id, training_job_id)}/checkpoints",
        parse=schema.list_parser(TrainingJobCheckpoint),
        retry=Retry.SAFE,
        max_bytes=LIST,
    )
