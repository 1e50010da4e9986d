"""Places that a task was given as path objects, such as another task's ``ObjectStoragePath``."""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator

PLACES = ("input", "output_folder", "examples", "files", "manifest", "state_path")
"""The attributes of operators that may hold one."""


def write_out_paths(task: BaseOperator) -> None:
    """Turn a task's path objects into text, which is what all else here reads. Of a list, each of them.

    :param task: the task, its templates rendered
    """
    for name in PLACES:
        value = getattr(task, name, None)
        if _is_path(value):
            setattr(task, name, str(value))
        elif name == "files" and isinstance(value, list | tuple):
            setattr(task, name, [str(each) if _is_path(each) else each for each in value])


def _is_path(value: object) -> bool:
    # Airflow's path is one of pathlib's only before Airflow 3. As text it names its connection, too.
    return isinstance(value, PurePath) or type(value).__name__ == "ObjectStoragePath"
