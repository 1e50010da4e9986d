"""Who may write to a ledger: a process takes it over from the one before, and learns when it is taken over itself.

Reading and writing are two steps, so of two processes at the same moment both could think that they are in charge.
Where there are locks, the whole is done behind one (`OutputFolder.lock`), and so is what lies between an intent and
the id that settles it. Where a store can put a file on the condition that it is not there yet, each generation is
claimed by such a file: a process looks for the claim of a later one after it has written an intent and before it
submits, and the later one reads the ledger after it has claimed, so that one of the two always sees the other.
Where a store can do neither, a process notices at its next step that it was taken over.
"""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING

from msgspec.structs import replace

from airflow_provider_lamini.rows.errors import LedgerLostError
from airflow_provider_lamini.rows.ledger.document import load
from airflow_provider_lamini.rows.run_files import late_name, owner_name

if TYPE_CHECKING:
    from airflow_provider_lamini.rows.ledger.document import Chunk, LedgerDocument
    from airflow_provider_lamini.rows.storage.folder import OutputFolder

_PAUSE = 0.25


def acquire(folder: OutputFolder, document: LedgerDocument, *, begun: bool) -> tuple[LedgerDocument, bool]:
    """Become the writer of a ledger. The document that is returned is still to be written.

    :param folder: the output folder
    :param document: the ledger
    :param begun: whether it lies in the folder; else the run begins with it
    :return: the ledger as it is then, and whether generations are claimed here
    :raises LedgerTakenError: where another run has begun in the folder at the same moment
    """
    token, known = uuid.uuid4().hex, document.generation
    generation = known + 1
    while (claimed := folder.create_exclusive(owner_name(generation), token.encode())) is False:
        generation += 1
    found = load(folder) if claimed else None
    # It may have changed since it was read: the one before did not see this claim until now.
    if found is not None and (begun or found.generation > known):
        if found.header.owner != document.header.owner or found.generation >= generation:
            raise _taken(folder)
        document = found
    if claimed:
        folder.delete(owner_name(generation - 2))
    return replace(document, writer=token, generation=generation), bool(claimed)


def check_acquired(folder: OutputFolder, mine: LedgerDocument, *, claims: bool) -> None:
    """Make sure that nobody has taken a ledger over since.

    :param folder: the output folder
    :param mine: the ledger as this process has it
    :param claims: whether generations are claimed here
    :raises LedgerTakenError: where somebody has, or the ledger is gone
    """
    found = load(folder)
    late = claims and found is not None and found.generation < mine.generation
    # With claims, one that was taken over may still write once: it finds the claim before it submits.
    if found is None or (found.writer != mine.writer and not late):
        raise _taken(folder)
    if claims and folder.exists(owner_name(mine.generation + 1)):
        raise _taken(folder)


def leave_job_id(folder: OutputFolder, chunk: Chunk, job_id: str) -> None:
    """Tell the process that has taken over what became of a submission that was intended before.

    :param folder: the output folder
    :param chunk: the chunk that was to be submitted
    :param job_id: the platform's id; empty where nothing was started
    """
    folder.write(late_name(chunk.number, chunk.rounds[-1].intended_at), job_id.encode())


def read_left_job_id(folder: OutputFolder, chunk: Chunk, *, wait: float) -> str | None:
    """What `leave_job_id` tells of a submission: the job's id, empty where nothing was started.

    :param folder: the output folder
    :param chunk: a chunk of whose last submission no id is known
    :param wait: seconds to wait for it
    """
    until = time.monotonic() + wait
    while True:
        try:
            return folder.read(late_name(chunk.number, chunk.rounds[-1].intended_at)).decode()
        except FileNotFoundError:
            if time.monotonic() >= until:
                return None
        time.sleep(_PAUSE)


def _taken(folder: OutputFolder) -> LedgerLostError:
    return LedgerLostError(
        f"Another process now works on the output folder {folder}: a newer try of this task, or a task with the same "
        "folder. This one stops and leaves everything to the other."
    )
