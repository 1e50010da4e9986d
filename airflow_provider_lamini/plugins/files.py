"""The files of a task that its page shows as text: the manifest of a run and the report, both cut to a bounded size."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import msgspec

from airflow_provider_lamini.exceptions import StorageError
from airflow_provider_lamini.plugins.bounded import BOUNDED, PageError
from airflow_provider_lamini.plugins.stored_task import TaskKey, load_task
from airflow_provider_lamini.rows.errors import RowError
from airflow_provider_lamini.rows.run_files import MANIFEST, REPORT, reservation_file

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_lamini.api.call import Json
    from airflow_provider_lamini.rows.output.reading import RunFiles
    from airflow_provider_lamini.rows.storage.folder import OutputFolder

T = TypeVar("T")

FILES = {"manifest": MANIFEST, "report": REPORT}
"""Names in addresses and of parts of the page, each with that of its file."""
MAX_BYTES = 200_000
"""Bytes of a file that are shown."""
_MAX_RESERVATION = 10_000
_RESERVATION = msgspec.json.Decoder(dict[str, str | int])


def show_file(key: TaskKey, name: str, *, with_outputs: bool) -> dict[str, Json]:
    """Return the beginning of a file.

    :param key: the task instance
    :param name: one of `FILES`
    :param with_outputs: whether a file with outputs of a model may be shown
    :raises PageError: if there is no such task instance or file, or it cannot be read
    """
    record = load_task(key).record
    if record is None or record.output is None:
        raise PageError(404, "This task has no such file.")
    output, conn_id = record.output, record.output_conn_id

    def read() -> dict[str, Json]:
        from airflow_provider_lamini.rows.output.reading import read_run_files
        from airflow_provider_lamini.rows.storage.folder import OutputFolder

        folder = OutputFolder(output, conn_id)
        if name not in shown_files(key, folder, read_run_files(folder), with_outputs=with_outputs):
            raise PageError(404, f"The API server sees no {name} of this task in {folder}.")
        block = _beginning(folder, FILES[name], MAX_BYTES + 1)
        text = block[:MAX_BYTES].decode(errors="replace")
        return {"uri": folder.uri(FILES[name]), "text": text, "cut": len(block) > MAX_BYTES}

    return read_store(output, read)


def shown_files(key: TaskKey, folder: OutputFolder, run: RunFiles, *, with_outputs: bool) -> list[str]:
    """Return the names in `FILES` of what a folder has of this task.

    A run's files are those of the task instance in its ledger. The report of an evaluation is that of the task that has
    reserved it, written by its last run.

    :param key: the task instance
    :param folder: its output folder
    :param run: the files of the run in it
    :param with_outputs: whether a file with outputs of a model may be shown
    """
    found = []
    if run.ledger is None:
        found = ["report"] if _is_reserved(key, folder) and folder.exists(REPORT) else []
    elif run.manifest is not None and key.owns(run.ledger.header.owner):
        found = ["manifest", *(["report"] if REPORT in run.manifest.reports else [])]
    return [name for name in found if with_outputs or name != "report"]


def read_store(output: str, read: Callable[[], T]) -> T:
    """Read something from a store within bounds.

    :param output: the folder, for messages
    :param read: reads it
    :raises PageError: for every error, in a sentence for people
    """
    try:
        return BOUNDED.run(read, f"The store of {output}")
    except PageError:
        raise
    except (RowError, StorageError) as error:
        raise PageError(502, f"The results cannot be shown: {error}") from None
    except Exception as error:  # noqa: BLE001 - of any client of a store
        raise PageError(502, f"The API server cannot read {output}: {type(error).__name__}.") from None


def _is_reserved(key: TaskKey, folder: OutputFolder) -> bool:
    try:
        found = _RESERVATION.decode(_beginning(folder, reservation_file(REPORT), _MAX_RESERVATION))
    except (FileNotFoundError, NotADirectoryError, msgspec.MsgspecError):
        return False
    return key.is_task(found)


def _beginning(folder: OutputFolder, name: str, size: int) -> bytes:
    with folder.open(name) as stream:
        return stream.read(size)
