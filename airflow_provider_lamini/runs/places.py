"""Places that a task was given: path objects among them, and whether results can be written there."""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator

PLACES = ("input", "output_folder", "examples", "files", "manifest", "state_path")
"""The attributes of operators that may hold one."""


def write_out_paths(task: BaseOperator) -> None:
    """Turn a task's path objects, such as another task's ``ObjectStoragePath``, into text, which all else here reads.

    :param task: the task, its templates rendered; of its lists of files, each is looked at
    """
    for name in PLACES:
        value = getattr(task, name, None)
        if _is_path(value):
            setattr(task, name, str(value))
        elif name == "files" and isinstance(value, list | tuple):
            setattr(task, name, [str(each) if _is_path(each) else each for each in value])


def check_output(output: str | None, output_conn_id: str | None) -> None:
    """Make sure, before work is paid for, that what it comes to can be written.

    :param output: the task's output folder; ``None`` where nothing will be written
    :param output_conn_id: the connection for that folder
    :raises OutputError: where it cannot
    """
    from airflow_provider_lamini.rows.folder import OutputFolder

    if output is not None:
        OutputFolder(output, output_conn_id).try_writing()


def _is_path(value: object) -> bool:
    # Airflow's path is one of pathlib's only before Airflow 3. As text it names its connection, too.
    return isinstance(value, PurePath) or type(value).__name__ == "ObjectStoragePath"
