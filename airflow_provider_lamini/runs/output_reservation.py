"""Files of output folders that a task replaces when it runs again. They are reserved for it, so no other task replaces them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from airflow_provider_lamini.rows.errors import LedgerConflictError
from airflow_provider_lamini.rows.ledger.document import describe_owner
from airflow_provider_lamini.rows.run_files import LEDGER, REPORT, reservation_file
from airflow_provider_lamini.rows.storage.folder import OutputFolder

if TYPE_CHECKING:
    from airflow_provider_lamini.runs.task import TaskIdentity

_RESERVATION = msgspec.json.Decoder(dict[str, str | int])
_REMEDY = "Nothing was sent. Choose another folder, for example with {{ task.task_id }} or {{ ti.map_index }} in its name."


def check_reservation(folder: OutputFolder, name: str, task: TaskIdentity) -> bool:
    """Make sure that a file of an output folder is not reserved for another task.

    :param folder: the output folder
    :param name: name of the file that the task is going to write
    :param task: the task; its other runs and tries are the same one
    :return: whether it is reserved for this task
    :raises LedgerConflictError: if it is reserved for another task
    """
    try:
        found = _RESERVATION.decode(folder.read(reservation_file(name)))
    except (FileNotFoundError, msgspec.MsgspecError):
        found = None
    if found is not None and found != _who(task):
        raise LedgerConflictError(
            f"The {name} in the output folder {folder} is that of {describe_owner(found)}, and would be replaced. {_REMEDY} If "
            f"that task is gone, remove {folder.uri(reservation_file(name))}."
        )
    if name == REPORT and folder.exists(LEDGER):
        raise LedgerConflictError(
            f"The output folder {folder} holds the results of a run over rows, whose {name} would be replaced. {_REMEDY}"
        )
    return found is not None


def reserve(folder: OutputFolder, name: str, task: TaskIdentity) -> None:
    """Reserve a file of an output folder for this task, whosever it was.

    :param folder: the output folder
    :param name: name of the file
    :param task: the task
    """
    folder.write(reservation_file(name), msgspec.json.encode(_who(task)))


def reserve_output(output: str | None, output_conn_id: str | None, name: str, task: TaskIdentity) -> None:
    """Make sure that a file can be written to an output folder, and reserve it, before anything is paid for.

    :param output: the task's output folder; ``None`` if nothing will be written
    :param output_conn_id: the connection for that folder
    :param name: name of the file
    :param task: the task
    :raises LedgerConflictError: if it is reserved for another task
    :raises OutputError: if the folder cannot be written to
    """
    if output is None:
        return
    folder = OutputFolder(output, output_conn_id)
    reserved = check_reservation(folder, name, task)
    folder.try_writing()
    if reserved:
        return
    with folder.lock():
        check_reservation(folder, name, task)
        reserve(folder, name, task)
    check_reservation(folder, name, task)  # where the store has no locks, another task may have been faster


def _who(task: TaskIdentity) -> dict[str, str | int]:
    return {key: value for key, value in task.as_dict().items() if key != "run"}
