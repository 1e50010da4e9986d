"""Who may write to a ledger: how a process acquires it from the process before, and notices that it has lost it.

Reading and writing are two steps, so two processes that act at the same moment could both believe that they own the
ledger.

- Where storage has locks, a process holds one (`OutputFolder.lock`) while it acquires the ledger, and from an intent
  until the job's id is recorded.
- Where storage can create a file only if it does not exist, a process claims its generation with such a file. After it
  has written an intent, and before each submission, it checks for the claim of a later generation; it may do so beside the
  write of the id before, because the later process waits for one more id. That process reads the ledger and the ids that
  were left after its claim, so one of the two always sees the other. The claims outlive the run, unless each process
  continued one that had ended: a process that was slow may look for them later. Whether storage keeps this promise is tried
  once per folder: some stores accept the condition and ignore it.
- Elsewhere, a process checks at the same moments whether the ledger still names it. Two that act within the same moment may
  not see each other.

A process may intend several submissions with one write. It makes them one after the other, and leaves the id of each in a
file before it begins the next. So at most one of them is unknown to a later process: the first one without an id.
"""

from __future__ import annotations

import time
import uuid
from functools import partial
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from airflow_provider_lamini.rows.errors import LedgerLostError
from airflow_provider_lamini.rows.ledger.document import load, load_owner
from airflow_provider_lamini.rows.storage.run_files import claim_name, left_job_name

if TYPE_CHECKING:
    from airflow_provider_lamini.rows.ledger.document import ChunkSubmission, LedgerDocument
    from airflow_provider_lamini.rows.storage.folder import OutputFolder

_POLL_INTERVAL = 0.25


def acquire(
    folder: OutputFolder, document: LedgerDocument, *, is_new: bool, after_wait: bool
) -> LedgerDocument:
    """Become the writer of a ledger. The caller must write the returned document before it submits anything.

    :param folder: the output folder
    :param document: the ledger
    :param is_new: whether the run begins with this ledger, so that it is not in the folder yet
    :param after_wait: whether the process before has ended, because the task was deferred
    :return: the ledger with this process as its writer
    :raises LedgerLostError: if another run has begun in the folder at the same moment
    """
    token, known = uuid.uuid4().hex, document.generation
    generation = known + 1
    exclusive, current = document.exclusive, None
    if exclusive is not False:
        while (claimed := folder.create_exclusive(claim_name(generation), token.encode())) is False:
            generation += 1
        if claimed is None:
            exclusive = msgspec.UNSET
        elif exclusive is msgspec.UNSET:
            refuses = folder.start(partial(_refuses_again, folder, generation))
            current = load(folder)
            exclusive = refuses()
        else:
            current = load(folder)
    found = current if exclusive is True else None
    # The process before could not see the claim until now, so it may have changed the ledger since it was read.
    if found is not None and (not is_new or found.generation > known):
        if found.header.owner != document.header.owner or found.generation >= generation:
            raise _lost(folder)
        document = found
    keep_claims = document.keep_claims
    if exclusive is True and (generation > known + 1 if after_wait else generation > 1):
        keep_claims = True
    return replace(
        document, writer_token=token, generation=generation, exclusive=exclusive, keep_claims=keep_claims
    )


def _refuses_again(folder: OutputFolder, generation: int) -> bool:
    """Try whether storage refuses to create a claim that exists. Some stores accept the condition and ignore it."""
    return folder.create_exclusive(claim_name(generation), b"Tried whether a claim can be replaced.") is False


def check_acquired(folder: OutputFolder, own: LedgerDocument) -> None:
    """Make sure that no other process has acquired a ledger: with one request to an object store.

    :param folder: the output folder
    :param own: the ledger as this process knows it
    :raises LedgerLostError: if another process has acquired the ledger, or the ledger is gone
    """
    if own.exclusive is True:
        # A process that has lost the ledger may still write it once: it finds the claim before it submits.
        if folder.exists(claim_name(own.generation + 1)):
            raise _lost(folder)
        return
    found = load_owner(folder)
    if found is None or found.writer_token != own.writer_token:
        raise _lost(folder)


def leave_job_id(folder: OutputFolder, number: int, submission: ChunkSubmission, job_id: str) -> None:
    """Leave the outcome of a submission for a process that acquires the ledger.

    :param folder: the output folder
    :param number: the chunk's number
    :param submission: what was to be submitted
    :param job_id: the platform's id; empty if no job was started
    """
    folder.write(left_job_name(number, submission.intended_at), job_id.encode(), durable=False)


def read_left_job_id(
    folder: OutputFolder, number: int, submission: ChunkSubmission, *, wait: float
) -> str | None:
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
