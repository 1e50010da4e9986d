"""The submission record: what a task has asked the platform to do, kept where a retry finds it.

It lives in Airflow's task state store (3.3 and newer), else in a small file under ``state_path``. Its identity is
Dag, task, run and map index, never the try; its fingerprint covers everything that decides what is submitted.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_lamini.rows.storage.folder import OutputFolder
    from airflow_provider_lamini.runs.outcome import Log

VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """What is known of one submission.

    :param fingerprint: a hash of everything that decides what is submitted
    :param mark: a text that the job carries on the platform, where it can carry one
    :param intended_at: when it was decided on, seconds since 1970
    :param job_id: the platform's id; ``None`` until it is known
    :param submitted_at: when the id became known, seconds since 1970
    :param attached_at: when a later try attached to it, seconds since 1970
    :param resumes: how often the job was resumed after it had failed or timed out
    :param before: jobs on the platform that looked like this one before it was submitted; ``None`` until that
        was asked
    :param numbers: what else a retry has to know, such as how many rows a dataset has
    :param forced_by: the request (`step.request_key`) whose ``force_new`` has asked for it
    :param stopped_at: when the task cancelled it because its time was up, seconds since 1970
    """

    fingerprint: str
    mark: str
    intended_at: float
    job_id: str | None = None
    submitted_at: float | None = None
    attached_at: float | None = None
    resumes: int = 0
    before: list[str] | None = None
    numbers: dict[str, int] = field(default_factory=dict)
    forced_by: str | None = None
    stopped_at: float | None = None

    def submitted(self, job_id: str, now: float) -> Submission:
        """The record with the platform's id."""
        return replace(self, job_id=job_id, submitted_at=now)


class RecordStore(Protocol):
    """Keeps the record of one task, whatever its try."""

    def read(self) -> Submission | None:
        """The record; ``None`` where nothing was submitted."""
        ...

    def write(self, submission: Submission) -> None:
        """Keep a record; it is durable when this returns."""
        ...

    def forget(self) -> None:
        """Remove the record: the next try submits anew."""
        ...

    def lock(self) -> AbstractContextManager[object]:
        """Be the only process that works with the record while the block lasts, where that can be had.

        :raises FolderBusyError: where another process takes too long
        """
        ...


class TaskState(Protocol):
    """Airflow's task state store, as far as it is used here."""

    def get(self, key: str) -> object:
        """A value."""
        ...

    def set(self, key: str, value: object) -> None:
        """Keep a value."""
        ...

    def delete(self, key: str) -> None:
        """Remove a value."""
        ...


class TaskStateRecord:
    """The record in Airflow's task state store.

    :param state: ``context["task_state_store"]``
    :param name: what the record is of
    """

    def __init__(self, state: TaskState, name: str = "submission") -> None:
        self._state = state
        self._key = f"lamini_{name}"

    def read(self) -> Submission | None:
        """See `RecordStore.read`."""
        return _decoded(self._state.get(self._key))

    def write(self, submission: Submission) -> None:
        """See `RecordStore.write`."""
        self._state.set(self._key, _encoded(submission))

    def forget(self) -> None:
        """See `RecordStore.forget`."""
        self._state.delete(self._key)

    def lock(self) -> AbstractContextManager[object]:
        """See `RecordStore.lock`: Airflow's store has no locks."""
        return nullcontext()


class FileRecord:
    """The record in a file under ``state_path``.

    :param folder: the folder
    :param owner: who runs: Dag, task, run and map index
    :param name: what the record is of
    """

    def __init__(
        self, folder: OutputFolder, owner: Mapping[str, str | int], name: str = "submission"
    ) -> None:
        self._folder = folder
        self._name = f"{name}-{digest(owner)}.json"

    def read(self) -> Submission | None:
        """See `RecordStore.read`."""
        try:
            content = self._folder.read(self._name)
        except FileNotFoundError:
            return None
        try:
            value = json.loads(content)
        except ValueError as error:
            raise UnreadableRecordError(
                f"{self._folder.uri(self._name)} is damaged, so it is not known whether a job was submitted. "
                "Look at the platform, then remove the file, or clear the task with force_new=True."
            ) from error
        return _decoded(value)

    def write(self, submission: Submission) -> None:
        """See `RecordStore.write`."""
        self._folder.write(self._name, json.dumps(_encoded(submission)).encode())

    def forget(self) -> None:
        """See `RecordStore.forget`."""
        self._folder.delete(self._name)

    def lock(self) -> AbstractContextManager[object]:
        """See `RecordStore.lock`: on a local disk there is a lock."""
        return self._folder.lock(self._name)


class NoRecord:
    """No record: there is nowhere to keep one."""

    def read(self) -> Submission | None:
        """See `RecordStore.read`."""
        return None

    def write(self, submission: Submission) -> None:
        """See `RecordStore.write`: nothing is kept, as the log has told."""

    def forget(self) -> None:
        """See `RecordStore.forget`."""

    def lock(self) -> AbstractContextManager[object]:
        """See `RecordStore.lock`."""
        return nullcontext()


class UnreadableRecordError(ValueError):
    """The record is damaged or of a newer version."""


def record_store(
    context: Context,
    owner: Mapping[str, str | int],
    state_path: str | None,
    log: Log | None,
    name: str = "submission",
) -> RecordStore:
    """The best place for a task's record that there is.

    :param context: Airflow's context
    :param owner: who runs: Dag, task, run and map index
    :param state_path: a folder for records, where the user has given one; it wins
    :param log: is told where a retry would submit again, because there is no place; ``None`` tells nobody
    :param name: what the record is of, where a task keeps several
    """
    if state_path:
        from airflow_provider_lamini.rows.storage.folder import OutputFolder

        folder = OutputFolder(state_path)
        folder.clean()
        return FileRecord(folder, owner, name)
    state = context.get("task_state_store")
    if state is not None:
        return TaskStateRecord(state, name)  # type: ignore[arg-type]
    if log is not None:
        log.warning(
            "There is no place for a record of what is submitted: if this try dies, a retry submits again. "
            "Set state_path on the task, on the connection or in [lamini], or run Airflow 3.3 or newer."
        )
    return NoRecord()


def digest(value: Mapping[str, object]) -> str:
    """A hash of plain values.

    :param value: anything that JSON holds
    """
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _encoded(submission: Submission) -> dict[str, object]:
    return {"version": VERSION, **asdict(submission)}


def _decoded(value: object) -> Submission | None:
    if value is None:
        return None
    if not isinstance(value, dict) or value.get("version") != VERSION:
        raise UnreadableRecordError(
            "The task's submission record is of another version of airflow-provider-lamini. Finish the run with "
            "the version that began it, or clear the task with force_new=True once its job has ended."
        )
    try:
        return Submission(**{name: item for name, item in value.items() if name != "version"})
    except TypeError:
        raise UnreadableRecordError(
            "The task's submission record is damaged, so it is not known whether a job was submitted. Look at the "
            "platform, then clear the task with force_new=True."
        ) from None
