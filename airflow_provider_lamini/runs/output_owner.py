"""Output folders whose files a task replaces when it runs again: it replaces its own, and not those of another task."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from airflow_provider_lamini.rows.errors import LedgerConflictError
from airflow_provider_lamini.rows.ledger.document import describe_owner
from airflow_provider_lamini.rows.run_files import LEDGER, REPORT, owner_file
from airflow_provider_lamini.rows.storage.folder import OutputFolder

if TYPE_CHECKING:
    from airflow_provider_lamini.runs.task import TaskIdentity

_OWNER = msgspec.json.Decoder(dict[str, str | int])
_REMEDY = "Nothing was sent. Choose another folder, for example with {{ task.task_id }} or {{ ti.map_index }} in its name."


def check_owner(folder: OutputFolder, name: str, task: TaskIdentity) -> bool:
    """Make sure that a file of an output folder is not that of another task.

    :param folder: the output folder
    :param name: name of the file that the task is going to write
    :param task: the task; its other runs and tries are the same one
    :return: whether the task has written there before
    :raises LedgerConflictError: if it is that of another task
    """
    try:
        found = _OWNER.decode(folder.read(owner_file(name)))
    except (FileNotFoundError, msgspec.MsgspecError):
        found = None
    if found is not None and found != _owner(task):
        raise LedgerConflictError(
            f"The {name} in the output folder {folder} is that of {describe_owner(found)}, and would be replaced. {_REMEDY} If "
            f"that task is gone, remove {folder.uri(owner_file(name))}."
        )
    if name == REPORT and folder.exists(LEDGER):
        raise LedgerConflictError(
            f"The output folder {folder} holds the results of a run over rows, whose {name} would be replaced. {_REMEDY}"
        )
    return found is not None


def own_output(folder: OutputFolder, name: str, task: TaskIdentity) -> None:
    """Make a file of an output folder this task's, whosever it was.

    :param folder: the output folder
    :param name: name of the file
    :param task: the task
    """
    folder.write(owner_file(name), msgspec.json.encode(_owner(task)))


def claim_output(output: str | None, output_conn_id: str | None, name: str, task: TaskIdentity) -> None:
    """Make sure that a file can be written to an output folder, and make it this task's, before anything is paid for.

    :param output: the task's output folder; ``None`` if nothing will be written
    :param output_conn_id: the connection for that folder
    :param name: name of the file
    :param task: the task
    :raises LedgerConflictError: if it is that of another task
    :raises OutputError: if the folder cannot be written to
    """
    if output is None:
        return
    folder = OutputFolder(output, output_conn_id)
    is_own = check_owner(folder, name, task)
    folder.try_writing()
    if is_own:
        return
    with folder.lock():
        check_owner(folder, name, task)
        own_output(folder, name, task)
    check_owner(folder, name, task)  # where the store has no locks, another task may have been faster


def _owner(task: TaskIdentity) -> dict[str, str | int]:
    return {key: value for key, value in task.as_dict().items() if key != "run"}
