"""The rows of an input that is read once, kept beside the run until it has ended.

A database may change while a run is retried or deferred, and a function may return something else. So the first try writes
the rows to the output folder, and the later ones read them there.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from airflow_provider_lamini.rows.sources.source import FileSource
from airflow_provider_lamini.rows.storage.run_files import kept_rows_file, kept_rows_files

if TYPE_CHECKING:
    from airflow_provider_lamini.rows.sources.read_once import ReadOnceInput
    from airflow_provider_lamini.rows.sources.source import Source
    from airflow_provider_lamini.rows.storage.folder import OutputFolder
    from airflow_provider_lamini.runs.outcome import Log


def open_kept_rows(
    given: ReadOnceInput,
    folder: OutputFolder,
    *,
    conn_id: str | None,
    known_version: str | None,
    keep_bad: bool,
    log: Log,
) -> Source:
    """Open the rows of an input that is read once. It is read only if the run has no rows yet.

    :param given: the input
    :param folder: the run's output folder, locked by this process
    :param conn_id: the connection to the output folder's object storage
    :param known_version: the version of the input that the run has begun with; ``None`` if it has not begun
    :param keep_bad: keep rows that cannot be used (`Batch.bad`) instead of raising an error
    :param log: the task's log
    :raises RowError: if the input or a row cannot be used
    """
    for name in kept_rows_files(folder, given.fingerprint):
        source = _open(folder, name, given, conn_id, keep_bad=keep_bad)
        if source.version() == known_version:
            return source
    # Each name is new: another try, which is still alive, may be reading the rows that it has written.
    name = kept_rows_file(given.fingerprint, secrets.token_hex(4))
    log.info("Reading %s into %s.", given, folder)
    folder.write(name, given.read_lines(keep_bad=keep_bad), durable=False)
    return _open(folder, name, given, conn_id, keep_bad=keep_bad)


def open_shared_rows(
    given: ReadOnceInput, folder: OutputFolder, *, conn_id: str | None, keep_bad: bool, log: Log
) -> Source:
    """Open the rows of an input that several runs share. It is read only if the folder has no rows yet.

    :param given: the input
    :param folder: the folder above those of the runs
    :param conn_id: the connection to its object storage
    :param keep_bad: keep rows that cannot be used (`Batch.bad`) instead of raising an error
    :param log: the task's log
    :raises RowError: if the input or a row cannot be used
    """
    with folder.lock():
        for name in kept_rows_files(folder, given.fingerprint)[:1]:
            return _open(folder, name, given, conn_id, keep_bad=keep_bad)
        return open_kept_rows(given, folder, conn_id=conn_id, known_version=None, keep_bad=keep_bad, log=log)


def _open(
    folder: OutputFolder, name: str, given: ReadOnceInput, conn_id: str | None, *, keep_bad: bool
) -> Source:
    source = FileSource([folder.uri(name)], conn_id, keep_bad=keep_bad)
    source.entitle(str(given))
    return source
