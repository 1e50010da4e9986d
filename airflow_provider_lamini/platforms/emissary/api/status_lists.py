"""The lists of a project and of engines, read for polling: see :mod:`airflow_provider_lamini.api.job_list`."""

from collections.abc import Callable
from typing import TypeVar

import msgspec

from airflow_provider_lamini.api import schema
from airflow_provider_lamini.api.call import Call
from airflow_provider_lamini.api.job_list import ListedJobs, ListForm, list_call
from airflow_provider_lamini.platforms.emissary.api import datasets, deployments, engines, training

T = TypeVar("T")


class ListedStatus(msgspec.Struct, gc=False):
    """The fields that matter. They have any type: one invalid old job must not make the list unreadable."""

    id: object = None
    status: object = None
    progress: object = None
    is_uploaded: object = None


Keep = Callable[[ListedStatus], T | None]
"""Returns what is kept of an item of a list; ``None`` leaves it out."""

_DECODER = msgspec.json.Decoder(list[ListedStatus])
_FORM = ListForm(_DECODER, lambda content: schema.decode_as(content, _DECODER))


def training_jobs(project_id: str, keep: Keep[T]) -> Call[ListedJobs[T]]:
    """List the training jobs of a project for polling: ``GET /v1/projects/{project_id}/training-jobs``.

    :param project_id: the project
    :param keep: returns what is kept of a job
    """
    return _statuses(training.list_jobs(project_id), keep)


def datasets_of(project_id: str, keep: Keep[T]) -> Call[ListedJobs[T]]:
    """List the datasets of a project for polling: ``GET /v1/projects/{project_id}/datasets``.

    :param project_id: the project
    :param keep: returns what is kept of a dataset
    """
    return _statuses(datasets.list_all(project_id), keep)


def deployments_of(project_id: str, keep: Keep[T]) -> Call[ListedJobs[T]]:
    """List the deployments of a project for polling: ``GET /v1/projects/{project_id}/deployments``.

    :param project_id: the project
    :param keep: returns what is kept of a deployment
    """
    return _statuses(deployments.list_all(project_id), keep)


def all_engines(keep: Keep[T]) -> Call[ListedJobs[T]]:
    """List the engines of the key for polling: ``GET /v1/engines``.

    :param keep: returns what is kept of an engine
    """
    return _statuses(engines.list_all(), keep)


def _statuses(call: Call[object], keep: Keep[T]) -> Call[ListedJobs[T]]:
    """The same request, read as polling needs it."""
    return list_call(call.operation, call.path, _FORM, keep)
