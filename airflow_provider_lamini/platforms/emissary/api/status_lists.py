"""The lists of training jobs, deployments and engines, parsed cheaply for polling."""

import msgspec

from airflow_provider_lamini.api import schema
from airflow_provider_lamini.api.call import Call, Retry
from airflow_provider_lamini.api.job_list import JobList
from airflow_provider_lamini.platforms.emissary.api import deployments, engines, training


class ListedStatus(msgspec.Struct, gc=False):
    """The fields that matter. They have any type: one invalid old job must not make the list unreadable."""

    id: object = None
    status: object = None
    progress: object = None


_DECODER = msgspec.json.Decoder(list[ListedStatus])


def training_jobs(project_id: str) -> Call[JobList[ListedStatus]]:
    """List the training jobs of a project for polling: ``GET /v1/projects/{project_id}/training-jobs``.

    :param project_id: the project
    """
    return _statuses(training.list_jobs(project_id))


def deployments_of(project_id: str) -> Call[JobList[ListedStatus]]:
    """List the deployments of a project for polling: ``GET /v1/projects/{project_id}/deployments``.

    :param project_id: the project
    """
    return _statuses(deployments.list_all(project_id))


def all_engines() -> Call[JobList[ListedStatus]]:
    """List the engines of the key for polling: ``GET /v1/engines``."""
    return _statuses(engines.list_all())


def _parse(content: bytes) -> JobList[ListedStatus]:
    return JobList(len(content), schema.decode_as(content, _DECODER), lambda listed: listed.id)


def _statuses(call: Call[object]) -> Call[JobList[ListedStatus]]:
    """The same request, parsed to what polling needs."""
    return Call(
        operation=call.operation,
        method=call.method,
        path=call.path,
        parse=_parse,
        retry=Retry.SAFE,
    )
