"""Who may write to a ledger: how a process acquires it from the process before, and notices that it has lost it.

Reading and writing are two steps, so two processes that act at the same moment could both believe that they own the
ledger.

- Where storage has locks, a process holds one (`OutputFolder.lock`) while it acquires the ledger, and from an intent
  until the job's id is recorded.
- Where storage can create a file only if it does not exist, a process claims its generation with such a file. After it
  has written an intent and before it submits, it looks for the claim of a later generation. The later process reads the
  ledger after its claim, so one of the two always sees the other.
- Elsewhere, a process notices at its next step that it has lost the ledger.
"""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING

from msgspec.structs import replace

from airflow_provider_lamini.rows.errors import LedgerLostError
from airflow_provider_lamini.rows.ledger.document import load, load_owner
from airflow_provider_lamini.rows.run_files import claim_name, left_job_name

if TYPE_CHECKING:
    from airflow_provider_lamini.rows.ledger.document import LedgerDocument, Round
    from airflow_provider_lamini.rows.storage.folder import OutputFolder

_POLL_INTERVAL = 0.25


def acquire(folder: OutputFolder, document: LedgerDocument, *, is_new: bool) -> tuple[LedgerDocument, bool]:
    """Become the writer of a ledger. The caller must write the returned document.

    :param folder: the output folder
    :param document: the ledger
    :param is_new: whether the run begins with this ledger, so that it is not in the folder yet
    :return: the ledger with this process as its writer, and whether storage supports claims
    :raises LedgerLostError: if another run has begun in the folder at the same moment
    """
    token, known = uuid.uuid4().hex, document.generation
    generation = known + 1
    while (claimed := folder.create_exclusive(claim_name(generation), token.encode())) is False:
        generation += 1
    found = load(folder) if claimed else None
    # The process before could not see the claim until now, so it may have changed the ledger since it was read.
    if found is not None and (not is_new or found.generation > known):
        if found.header.owner != document.header.owner or found.generation >= generation:
            raise _lost(folder)
        document = found
    if claimed:
        folder.delete(claim_name(generation - 2))
    return replace(document, writer_token=token, generation=generation), bool(claimed)


def check_acquired(folder: OutputFolder, own: LedgerDocument, *, claims: bool) -> None:
    """Make sure that no other process has acquired a ledger.

    :param folder: the output folder
    :param own: the ledger as this process knows it
    :param claims: whether storage supports claims
    :raises LedgerLostError: if another process has acquired the ledger, or the ledger is gone
    """
    found = load_owner(folder)
    # With claims, a process that has lost the ledger may still write once: it finds the claim before it submits.
    outdated = claims and found is not None and found.generation < own.generation
    if found is None or (found.writer_token != own.writer_token and not outdated):
        raise _lost(folder)
    if claims and folder.exists(claim_name(own.generation + 1)):
        raise _lost(folder)


def leave_job_id(folder: OutputFolder, number: int, submission: Round, job_id: str) -> None:
    """Leave the outcome of a submission for the process that has acquired the ledger.

    :param folder: the output folder
    :param number: the chunk's number
    :param submission: what was to be submitted
    :param job_id: the platform's id; empty if no job was started
    """
    folder.write(left_job_name(number, submission.intended_at), job_id.encode())


def read_left_job_id(folder: OutputFolder, number: int, submission: Round, *, wait: float) -> str | None:
    """Read the outcome of a submission that the process before has left.

    :param folder: the output folder
    :param number: the chunk's number
    :param submission: a submission without a job id
    :param wait: how long to wait for it, in seconds
    :return: the job's id; empty if no job was started, ``None`` if nothing was left
    """
    deadline = time.monotonic() + wait
    while True:
        try:
            return folder.read(left_job_name(number, submission.intended_at)).decode()
        except FileNotFoundError:
            if time.monotonic() >= deadline:
                return None
        time.sleep(_POLL_INTERVAL)


def _lost(folder: OutputFolder) -> LedgerLostError:
    return LedgerLostError(
        f"Another process now works on the output folder {folder}: a newer try of this task, or another task with the "
        "same folder. This process stops and leaves everything to the other one."
    )
