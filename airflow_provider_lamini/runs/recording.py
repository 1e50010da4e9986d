"""Recording the id of a job that has just been submitted, although storage may fail at this moment.

The job is paid for. If its id is lost, the next try can only pay again or give up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import tenacity

from airflow_provider_lamini.exceptions import StorageError
from airflow_provider_lamini.rows.errors import StoreRefusedError, UnreadableLedgerError

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_lamini.runs.task import TaskRun

R = TypeVar("R")

MAX_SECONDS = 60.0
"""How long recording an id is repeated, if the connection's ``retry_budget`` is longer."""

LEFT_KEY = "airflow_provider_lamini_left_job"
"""Prefix of the keys in Airflow's task state store for ids that could not be recorded where they belong."""


def record_job_id(task: TaskRun, job_id: str, subject: str, key: str, write: Callable[[], R]) -> R:
    """Record a job's id; repeat it while storage fails, then leave the id in Airflow's task state store.

    :param task: this try of the task
    :param job_id: the platform's id
    :param subject: what was started, for messages, such as ``tuning job``
    :param key: identifies the submission among those of the task
    :param write: records the id
    :return: what ``write`` returns
    :raises StorageError: if the id could not be recorded. It says whether the next try finds it.
    :raises LedgerError: if the ledger no longer belongs to this process; it is not repeated
    """

    def tell(state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        task.log.warning("Could not record the id of %s %s; will retry: %s", subject, job_id, error)

    retrying = tenacity.Retrying(
        stop=tenacity.stop_after_delay(min(MAX_SECONDS, task.settings.retry_budget)),
        wait=tenacity.wait_exponential(multiplier=0.2, max=10),
        retry=tenacity.retry_if_exception(_may_pass),
        before_sleep=tell,
        reraise=True,
    )
    try:
        return retrying(write)
    except Exception as error:
        if not _may_pass(error):
            raise
        found_later = _leave(task, key, job_id)
        raise StorageError(
            f"The {subject} {job_id} was started, but its id could not be recorded ({error}). "
            + (
                "It is in Airflow's task state store, where a retry finds it."
                if found_later
                else "A retry may not find it, and then submits it again. If it runs, it bills: cancel it on the platform."
            )
        ) from error


def left_job_id(task: TaskRun, key: str) -> str | None:
    """Return the id that an earlier try left in Airflow's task state store, if there is one.

    :param task: this try of the task
    :param key: identifies the submission among those of the task
    """
    store = task.state_store
    found = None if store is None else store.get(f"{LEFT_KEY}_{key}")
    return found if isinstance(found, str) else None


def _may_pass(error: BaseException) -> bool:
    """Whether storage may work again. Everything else that a record raises says that this process may not write."""
    if isinstance(error, (StoreRefusedError, UnreadableLedgerError)):
        return True
    return isinstance(error, Exception) and not isinstance(error, ValueError)


def _leave(task: TaskRun, key: str, job_id: str) -> bool:
    store = task.state_store
    if store is None:
        return False
    try:
        store.set(f"{LEFT_KEY}_{key}", job_id)
    except Exception as error:  # noqa: BLE001 - the error that is raised next says that the id is lost
        task.log.warning("Could not store the id %s in Airflow's task state store either: %s", job_id, error)
        return False
    return True
