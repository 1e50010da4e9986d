"""The submission record: what a task has asked the platform to do, kept where a retry finds it.

It is in Airflow's task state store (3.3 and newer), else in a small file under ``state_path``. It belongs to a task of a
run, never to a try. Its fingerprint covers everything that decides what is submitted.

The id of a job that has just been submitted is recorded although storage may fail at this moment: the job is paid for, and
without its id the next try can only pay again or give up.
"""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Protocol, TypeVar

import tenacity

from airflow_provider_lamini.exceptions import StorageError, UnreadableRecordError
from airflow_provider_lamini.rows.errors import StoreRefusedError, UnreadableLedgerError
from airflow_provider_lamini.rows.hashes import digest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

    from airflow_provider_lamini.rows.storage.folder import OutputFolder
    from airflow_provider_lamini.runs.outcome import Log, TaskStateStore
    from airflow_provider_lamini.runs.task import TaskRun

R = TypeVar("R")

VERSION = 1

KEY_PREFIX = "airflow_provider_lamini"
"""The task state store is shared with other providers, so keys begin with this package's name."""
MAX_SECONDS = 60.0
"""How long recording an id is repeated, if the connection's ``retry_budget`` is longer."""

LEFT_KEY = "airflow_provider_lamini_left_job"
"""Prefix of the keys in Airflow's task state store for ids that could not be recorded where they belong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """What is known of one submission.

    :param fingerprint: a hash of everything that decides what is submitted
    :param mark: names this submission, so that another process notices that it was superseded
    :param intended_at: when the task decided to submit, a Unix timestamp
    :param job_id: the platform's id; ``None`` until it is known
    :param submitted_at: when the id became known, a Unix timestamp
    :param attached_at: when a later try attached to the job, a Unix timestamp
    :param resumes: how often the job was resumed after it had failed or timed out
    :param resuming: the number of the resume that was requested last, until it is known to have begun
    :param before: jobs on the platform that looked like this one before it was submitted; ``None`` until they were listed
    :param numbers: other facts for the result, such as how many rows a dataset has
    :param forced_by: the request (`TaskIdentity.request_key`) whose ``force_new`` led to the submission
    :param stopped_at: when the task cancelled the job because ``timeout`` had passed, a Unix timestamp
    """

    fingerprint: str
    mark: str
    intended_at: float
    job_id: str | None = None
    submitted_at: float | None = None
    attached_at: float | None = None
    resumes: int = 0
    resuming: int | None = None
    before: list[str] | None = None
    numbers: dict[str, int] = field(default_factory=dict)
    forced_by: str | None = None
    stopped_at: float | None = None

    def submitted(self, job_id: str, now: float) -> Submission:
        """The record with the platform's id.

        :param job_id: the id
        :param now: when it became known, a Unix timestamp
        """
        return replace(self, job_id=job_id, submitted_at=now)

    def resumed(self, count: int = 0) -> Submission:
        """The record once a resume is known to have begun, perhaps one of which only the request was recorded.

        :param count: the number of that resume; 0 for the recorded one
        """
        return replace(self, resumes=max(self.resumes, count, self.resuming or 0), resuming=None)

    def encode(self) -> dict[str, object]:
        """The record as plain values, with the version of their format."""
        return {"version": VERSION, **asdict(self)}

    @classmethod
    def decode(cls, value: object) -> Submission | None:
        """Read what `encode` returned.

        :param value: the plain values; ``None`` if there are none
        :raises UnreadableRecordError: if the record is damaged or has another version
        """
        if value is None:
            return None
        if not isinstance(value, dict) or value.get("version") != VERSION:
            raise UnreadableRecordError(
                "The task's submission record has the format of another version of airflow-provider-lamini. Finish the run "
                "with the version that began it, or clear the task with force_new=True once its job has ended."
            )
        try:
            return cls(**{name: item for name, item in value.items() if name != "version"})
        except TypeError:
            raise UnreadableRecordError(
                "The task's submission record is damaged, so nobody knows whether a job was submitted. Check the platform, "
                "then clear the task with force_new=True."
            ) from None


class RecordStore(Protocol):
    """Keeps one record of a task."""

    def read(self) -> Submission | None:
        """The record; ``None`` if nothing was submitted.

        :raises UnreadableRecordError: if the record is damaged or has another version
        """
        ...

    def write(self, submission: Submission, /) -> None:
        """Replace the record. It is durable when this returns."""
        ...

    def forget(self) -> None:
        """Remove the record, so that the next try submits a new job."""
        ...

    def lock(self) -> AbstractContextManager[object]:
        """Keep other processes from the record while the block runs, if the storage has locks.

        :raises FolderBusyError: if another process holds the lock for too long
        """
        ...


class TaskStateRecord:
    """The record in Airflow's task state store, which has no locks.

    :param store: ``context["task_state_store"]``
    :param key: the record's key there
    """

    def __init__(self, store: TaskStateStore, key: str) -> None:
        self._store = store
        self._key = key

    def read(self) -> Submission | None:
        return Submission.decode(self._store.get(self._key))

    def write(self, submission: Submission) -> None:
        self._store.set(self._key, submission.encode())

    def forget(self) -> None:
        self._store.delete(self._key)

    def lock(self) -> AbstractContextManager[object]:
        return nullcontext()


class FileRecord:
    """The record in a file under ``state_path``. On a local disk, the file has a lock.

    :param folder: the folder
    :param owner: the task's identity, `TaskIdentity.as_dict`
    :param name: what the record is about
    """

    def __init__(self, folder: OutputFolder, owner: Mapping[str, str | int], name: str) -> None:
        self._folder = folder
        self._file = f"{name}-{digest(owner)}.json"

    def read(self) -> Submission | None:
        try:
            content = self._folder.read(self._file)
        except FileNotFoundError:
            return None
        try:
            value = json.loads(content)
        except ValueError as error:
            raise UnreadableRecordError(
                f"{self._folder.uri(self._file)} is damaged, so nobody knows whether a job was submitted. "
                "Check the platform, then remove the file, or clear the task with force_new=True."
            ) from error
        return Submission.decode(value)

    def write(self, submission: Submission) -> None:
        self._folder.write(self._file, json.dumps(submission.encode()).encode())

    def forget(self) -> None:
        self._folder.delete(self._file)

    def lock(self) -> AbstractContextManager[object]:
        return self._folder.lock(self._file)


class NoRecord:
    """No record: there is no place to keep one.

    :param section: the section of Airflow's configuration that may name one
    """

    def __init__(self, section: str) -> None:
        self._section = section

    def read(self) -> Submission | None:
        return None

    def write(self, submission: Submission) -> None:
        pass

    def forget(self) -> None:
        pass

    def lock(self) -> AbstractContextManager[object]:
        return nullcontext()

    def warn(self, log: Log) -> None:
        """Say what the missing record means.

        :param log: the task's log
        """
        log.warning(
            "There is no place for a submission record: if this try dies, a retry submits again. Set state_path on the "
            "task, on the connection or as [%s] state_path in Airflow's configuration, or run Airflow 3.3 or newer.",
            self._section,
        )


def record_store(task: TaskRun, state_path: str | None, name: str = "submission") -> RecordStore:
    """The best place that there is for a task's record.

    :param task: this try of the task
    :param state_path: the folder that the user has set on the task, if any; it wins
    :param name: what the record is about, if a task keeps several
    """
    owner = task.identity.as_dict()
    state_path = state_path or task.hook.state_path()
    if state_path:
        from airflow_provider_lamini.rows.storage.folder import OutputFolder

        folder = OutputFolder(state_path)
        folder.clean()
        return FileRecord(folder, owner, name)
    store = task.state_store
    if store is not None:
        # The store keeps the iterations of a task-group loop together, because they have the same map index.
        region: dict[str, object] = {
            name: owner[name] for name in ("region_id", "region_index") if name in owner
        }
        key = f"{KEY_PREFIX}_{name}" + (f"_{digest(region)}" if region else "")
        return TaskStateRecord(store, key)
    return NoRecord(task.hook.platform_name)


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
