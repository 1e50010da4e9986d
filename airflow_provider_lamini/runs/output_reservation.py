"""Reservations of files in output folders: a task replaces its own files when it runs again, and no other task's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from airflow_provider_lamini.rows.errors import LedgerConflictError
from airflow_provider_lamini.rows.ledger.document import describe_owner
from airflow_provider_lamini.rows.storage.folder import OutputFolder
from airflow_provider_lamini.rows.storage.run_files import LEDGER, REPORT, reservation_file

if TYPE_CHECKING:
    from airflow_provider_lamini.runs.task import TaskIdentity

NOTHING_SUBMITTED = "Nothing was submitted."
_RESERVATION = msgspec.json.Decoder(dict[str, str | int])
_REMEDY = "Choose another folder, for example with {{ task.task_id }} or {{ ti.map_index }} in its name."


def check_reservation(
    folder: OutputFolder, name: str, task: TaskIdentity, situation: str = NOTHING_SUBMITTED
) -> bool:
    """Make sure that a file of an output folder is not reserved for another task.

    :param folder: the output folder
    :param name: name of the file that the task is going to write
    :param task: the task; its other runs and tries are the same one
    :param situation: a sentence for the error: what the task has submitted
    :return: whether it is reserved for this task
    :raises LedgerConflictError: if it is reserved for another task
    """
    try:
        found = _RESERVATION.decode(folder.read(reservation_file(name)))
    except (FileNotFoundError, msgspec.MsgspecError):
        found = None
    if found is not None and found != _who(task):
        raise LedgerConflictError(
            f"The output folder {folder} was taken by {describe_owner(found)}, for its {name}. {situation} {_REMEDY} If that "
            f"task is gone, or is this one by an earlier name, remove {folder.uri(reservation_file(name))}."
        )
    if name == REPORT and folder.exists(LEDGER):
        raise LedgerConflictError(
            f"The output folder {folder} holds the results of a run over rows, whose {name} would be replaced. {situation} "
            f"{_REMEDY}"
        )
    return found is not None


def check_output_free(output: str | None, output_conn_id: str | None, name: str, task: TaskIdentity) -> None:
    """Make sure, before anything is sent, that a file can be written to an output folder. This writes a small file.

    :param output: the task's output folder; ``None`` if nothing will be written
    :param output_conn_id: the connection for that folder
    :param name: name of the file
    :param task: the task
    :raises LedgerConflictError: if it is reserved for another task
    :raises OutputError: if the folder cannot be written to
    """
    if output is not None:
        folder = OutputFolder(output, output_conn_id)
        check_reservation(folder, name, task)
        folder.try_writing()


def reserve_output(
    output: str | None,
    output_conn_id: str | None,
    name: str,
    task: TaskIdentity,
    situation: str = NOTHING_SUBMITTED,
) -> None:
    """Reserve a file of an output folder, unless it is reserved. Call it last, so that a task with a mistake takes no folder.

    :param output: the task's output folder; ``None`` if nothing will be written
    :param output_conn_id: the connection for that folder
    :param name: name of the file
    :param task: the task
    :param situation: as in `check_reservation`
    :raises LedgerConflictError: if it is reserved for another task
    """
    if output is None:
        return
    folder = OutputFolder(output, output_conn_id)
    # Also if it is reserved already: a process that died with the lock has left its file, which the next one removes.
    with folder.lock():
        if check_reservation(folder, name, task, situation):
            return
        if folder.create_exclusive(reservation_file(name), _encoded(task)):
            return
        # The store cannot create it exclusively, another process has created it, or it is damaged.
        if not check_reservation(folder, name, task, situation):
            reserve(folder, name, task)
    check_reservation(folder, name, task, situation)  # without locks, another task may have been faster


def reserve(folder: OutputFolder, name: str, task: TaskIdentity) -> None:
    """Reserve a file of an output folder for this task, whosever it was.

    :param folder: the output folder
    :param name: name of the file
    :param task: the task
    """
    folder.write(reservation_file(name), _encoded(task))


def _encoded(task: TaskIdentity) -> bytes:
    return msgspec.json.encode(_who(task))


def _who(task: TaskIdentity) -> dict[str, str | int]:
    """The task without what differs between its runs: a task-group loop is executed, with a new id, in each of them."""
    return {key: value for key, value in task.as_dict().items() if key not in ("run", "region_id")}
