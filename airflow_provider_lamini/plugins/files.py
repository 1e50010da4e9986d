"""The files of a task that its page shows as text: the manifest of a run or an index, and the report, cut to a bounded size."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import msgspec

from airflow_provider_lamini.exceptions import StorageError
from airflow_provider_lamini.plugins.bounded import BOUNDED, PageError
from airflow_provider_lamini.plugins.stored_task import TaskKey, load_task
from airflow_provider_lamini.rows.errors import RowError
from airflow_provider_lamini.rows.storage.run_files import MANIFEST, REPORT, reservation_file

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
_MAX_INDEX = 20_000_000  # bytes of an index manifest: those of 100,000 documents
_RESERVATION = msgspec.json.Decoder(dict[str, str | int])


def show_file(key: TaskKey, name: str, *, with_outputs: bool) -> dict[str, Json]:
    """Return the beginning of a file.

    :param key: the task instance
    :param name: one of `FILES`
    :param with_outputs: whether a file with outputs of a model may be shown
    :raises PageError: if there is no such task instance or file, or it cannot be read
    """
    record = load_task(key).record
    if record is not None and record.output is not None:
        return _show_run_file(key, name, record.output, record.output_conn_id, with_outputs=with_outputs)
    if record is not None and record.manifest is not None and name == "manifest":
        return _show_index_manifest(key, record.manifest, record.manifest_conn_id)
    raise PageError(404, "This task has no such file.")


def _show_run_file(
    key: TaskKey, name: str, output: str, conn_id: str | None, *, with_outputs: bool
) -> dict[str, Json]:
    def read() -> dict[str, Json]:
        from airflow_provider_lamini.rows.output.reading import read_run_files
        from airflow_provider_lamini.rows.storage.folder import OutputFolder

        folder = OutputFolder(output, conn_id)
        if name not in shown_files(key, folder, read_run_files(folder), with_outputs=with_outputs):
            raise PageError(404, f"The API server sees no {name} of this task in {folder}.")
        return _shown(folder.uri(FILES[name]), _beginning(folder, FILES[name], MAX_BYTES + 1))

    return read_store(output, read)


def _show_index_manifest(key: TaskKey, manifest: str, conn_id: str | None) -> dict[str, Json]:
    content = read_store(manifest, lambda: index_manifest(key, manifest, conn_id))
    if content is None:
        raise PageError(404, f"The API server sees no manifest of this task in {manifest}.")
    return _shown(manifest, content)


def _shown(uri: str, block: bytes) -> dict[str, Json]:
    """The beginning of a file, as the page gets it."""
    text = block[:MAX_BYTES].decode(errors="replace")
    return {"uri": uri, "text": text, "cut": len(block) > MAX_BYTES}


def index_manifest(key: TaskKey, manifest: str, conn_id: str | None) -> bytes | None:
    """Read the manifest of an index; ``None`` unless this task instance has written it last.

    :param key: the task instance
    :param manifest: the path or URI of the file
    :param conn_id: the connection to its object store
    """
    from airflow_provider_lamini.corpus.index_manifest import is_last_refresh, manifest_place

    try:
        content = _beginning(*manifest_place(manifest, conn_id), _MAX_INDEX)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return content if is_last_refresh(content, key.identity) else None


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
