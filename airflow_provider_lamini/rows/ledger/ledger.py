"""The ledger of a row run: what is done, what is running and what is left, in one small file beside the results.

Each step rewrites the file ``_ledger.json``. It does not grow with the run: chunks are numbered in the order of their
rows, so every planned chunk that is not listed as open is finished.

The life of a chunk, and what a retry finds if the process dies after each step::

    plan                 the chunk is open           its rows are read again from its start
    intend               a job is to be submitted    an intent without an id: `Ledger.unknown_submissions`
    record_job_id        the job has an id           its results are fetched
    (the part is written)                            the part is written again, with the same content
    finish               the chunk is not open       nothing is left to do

If the platform refuses the rows of a chunk together, `LedgerChange.split` replaces the submission by pieces. Each of them is
intended, gets an id and is settled for itself; its results are saved before it counts as done.

Each process that opens the ledger writes its own token and the number of its generation into it. A writer that finds
another token stops: a newer try of the task has acquired the ledger, or another task uses the folder. `fencing`
explains what happens if two processes do this at the same moment.
"""

from __future__ import annotations

import hashlib
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar, Literal

import msgspec
from msgspec.structs import replace

from airflow_provider_lamini.rows.errors import LedgerConflictError, LedgerError, LedgerLostError
from airflow_provider_lamini.rows.ledger.change import LedgerChange
from airflow_provider_lamini.rows.ledger.document import (
    LedgerDocument,
    describe_owner,
    difference,
    has_other_input,
    load,
)
from airflow_provider_lamini.rows.ledger.fencing import (
    acquire,
    check_acquired,
    leave_job_id,
    read_left_job_id,
)
from airflow_provider_lamini.rows.run_files import LEDGER, holds_results, remove_run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from airflow_provider_lamini.api.call import PromptList
    from airflow_provider_lamini.rows.counts import Counts
    from airflow_provider_lamini.rows.ledger.document import Chunk, Header, Round
    from airflow_provider_lamini.rows.storage.folder import OutputFolder


class Ledger:
    """The ledger of one run. Create it with `open` or `resume`.

    Each method that changes the ledger writes the file before it returns. If it fails, nothing has changed.
    """

    late_answer: ClassVar[float] = 30.0
    """Without locks: seconds after an intent during which the process that wrote it may still leave its job's id."""

    def __init__(
        self, folder: OutputFolder, document: LedgerDocument, *, claims: bool, clock: Callable[[], float]
    ) -> None:
        self._folder = folder
        self._document = document
        self._claims = claims
        self._clock = clock
        self._inherited = {
            (chunk.number, each.key)
            for chunk in document.open
            for each in chunk.submissions
            if each.state == "intended"
        }

    @classmethod
    def open(
        cls,
        folder: OutputFolder,
        header: Header,
        *,
        if_same: Literal["continue", "replace"] = "continue",
        if_other: Literal["fail", "replace"] = "fail",
        clock: Callable[[], float] = time.time,
    ) -> Ledger:
        """Begin or continue a run. From now on no other process can write to the ledger.

        :param folder: the output folder
        :param header: identifies the run
        :param if_same: what to do if the folder holds this run: continue, or remove its results and start over
        :param if_other: what to do if the folder holds another run: fail, or remove its results and start this one. A
            run of the same task that has submitted nothing yet, for example because of a wrong model name, has no
            results and is always replaced.
        :param clock: returns the current Unix timestamp
        :raises LedgerConflictError: if the folder holds another run
        :raises UnreadableLedgerError: if this release cannot read the folder's ledger
        """
        with folder.lock():
            folder.clean()
            found = load(folder)
            if found is None:
                if holds_results(folder):
                    if if_other == "fail":
                        raise LedgerConflictError(
                            f"The output folder {folder} holds results without a ledger, so they belong to another run. "
                            f"{_REMEDY}"
                        )
                    remove_run(folder)
                return cls._begin(folder, header, clock)
            other = difference(found.header, header)
            ours = found.header.owner == header.owner
            if (
                other
                and if_other == "fail"
                and not (ours and found.nothing_submitted and not holds_results(folder))
            ):
                grown = has_other_input(found.header, header) and header.total_rows > found.header.total_rows
                raise LedgerConflictError(
                    f"The output folder {folder} holds the results of {other}. {_IF_GROWN if grown else ''}{_REMEDY}"
                )
            if other or if_same == "replace":
                # The old ledger is acquired first, so that its writer stops. Its file is replaced last, so that a crash
                # in between leaves nothing that looks like results of the new run.
                old = cls._acquire(folder, found, clock)
                remove_run(folder)
                return cls._begin(folder, header, clock, old._document.generation)  # noqa: SLF001
            return cls._acquire(folder, found, clock)

    @classmethod
    def resume(
        cls, folder: OutputFolder, owner: dict[str, str | int], *, clock: Callable[[], float] = time.time
    ) -> Ledger:
        """Continue a run of this task without validating the input again.

        The caller compares `Header.input_version` with the version of the input.

        :param folder: the output folder
        :param owner: Dag, task, run and map index, as in `Header`
        :param clock: returns the current Unix timestamp
        :raises LedgerError: if there is no ledger
        :raises LedgerConflictError: if it belongs to another task or run
        :raises UnreadableLedgerError: if this release cannot read it
        """
        with folder.lock():
            found = load(folder)
            if found is None:
                raise LedgerError(
                    f"The ledger {folder.uri(LEDGER)} is gone, although the run had begun. Somebody has removed it; its "
                    "jobs may still run and bill. Clear the task to start over."
                )
            if found.header.owner != owner:
                raise LedgerConflictError(
                    f"The output folder {folder} now holds the results of {describe_owner(found.header.owner)}: another "
                    "task has replaced those of this run. Give each task its own folder."
                )
            return cls._acquire(folder, found, clock)

    @property
    def document(self) -> LedgerDocument:
        """The content of the ledger."""
        return self._document

    @property
    def header(self) -> Header:
        """Identifies the run."""
        return self._document.header

    @property
    def chunks(self) -> Sequence[Chunk]:
        """The open chunks, in the order of their rows."""
        return self._document.open

    @property
    def totals(self) -> Counts:
        """The outcomes of the rows of all finished chunks."""
        return self._document.totals

    @property
    def exhausted(self) -> bool:
        """Whether all rows are in planned chunks."""
        return self._document.exhausted

    @property
    def finished(self) -> bool:
        """Whether all chunks are finished."""
        return self._document.finished

    @property
    def unknown_submissions(self) -> list[Chunk]:
        """Open chunks that an earlier process intended to submit and that have no job id.

        Their jobs may have started. `record_job_id` or `forget` decides each of them.
        """
        return [chunk for chunk in self.chunks if self.unknown_of(chunk)]

    def unknown_of(self, chunk: Chunk) -> list[Round]:
        """The submissions of a chunk that an earlier process intended and that have no job id."""
        return [
            each
            for each in chunk.submissions
            if each.state == "intended" and (chunk.number, each.key) in self._inherited
        ]

    def chunk(self, number: int) -> Chunk:
        """An open chunk in its current state.

        :raises LedgerError: if the chunk is not open
        """
        return self._document.chunk(number)

    @contextmanager
    def transaction(self) -> Iterator[LedgerChange]:
        """Collect changes and write them at once when the block ends. If the block fails, nothing changes.

        Submit nothing inside the block: an intent is on the disk only after its end.

        :return: takes the changes
        :raises LedgerLostError: if another process has acquired the ledger
        :raises LedgerError: if the ledger was changed otherwise while the block ran
        """
        before = self._document
        change = LedgerChange(before, self._clock())
        yield change
        if self._document is not before:
            raise LedgerError(f"The ledger of {self._folder} was changed while a transaction was open.")
        if change.document is before:
            return
        with self._folder.lock():
            self.check_acquired()
            self._write(change.document, durable=change.durable)
        self._document = change.document
        if change.durable:
            self._check_before_paying()

    def record_job_id(self, chunk: Chunk, job_id: str, key: int | None = None) -> Chunk:
        """Record the id of a job as soon as the platform has returned it.

        :param chunk: the chunk that was intended
        :param job_id: the platform's id
        :param key: which of the chunk's pieces; ``None`` if it was not split
        :return: the chunk with the id
        :raises LedgerError: if no submission was intended
        :raises LedgerLostError: if another process has acquired the ledger; the id is left for that process
        """
        return self._settle(chunk, key, lambda change: change.record_job_id(chunk, job_id, key), job_id)

    def forget(self, chunk: Chunk, key: int | None = None) -> Chunk:
        """Drop the last submission of a chunk: its job was never started, or is lost. It can be submitted again.

        :param chunk: the chunk
        :param key: which of the chunk's pieces; ``None`` if it was not split
        :return: the chunk without that submission
        :raises LedgerError: if it has no submission
        :raises LedgerLostError: if another process has acquired the ledger
        """
        return self._settle(chunk, key, lambda change: change.forget(chunk, key), "")

    def read_left_job_id(self, chunk: Chunk, submission: Round) -> str | None:
        """Read what an earlier process has left about an unknown submission.

        Waits as long as that process may still leave it. Where storage has locks, it cannot.

        :param chunk: one of `unknown_submissions`
        :param submission: one of `unknown_of` it
        :return: the job's id; empty if no job was started, ``None`` if nothing was left
        """
        with self._folder.lock() as locked:
            if locked:
                return None
        remaining = submission.intended_at + self.late_answer - self._clock()
        wait = min(max(remaining, 0.0), self.late_answer)
        return read_left_job_id(self._folder, chunk.number, submission, wait=wait)

    def update_header(self, *, chunk_size: int, input_version: str) -> None:
        """Record what a try may change without changing the results.

        :param chunk_size: rows per chunk from now on
        :param input_version: the version of the input, whose rows are the same
        """
        header = replace(self.header, chunk_size=chunk_size, input_version=input_version)
        if header != self.header:
            with self.transaction() as change:
                change.document = replace(change.document, header=header)

    def check_acquired(self) -> None:
        """Make sure that this process may still write. Call it before a part is written.

        :raises LedgerLostError: if another process has acquired the ledger
        """
        check_acquired(self._folder, self._document, claims=self._claims)

    @classmethod
    def _begin(
        cls, folder: OutputFolder, header: Header, clock: Callable[[], float], generation: int = 0
    ) -> Ledger:
        document = LedgerDocument(replace(header, created_at=clock()), generation=generation)
        return cls._acquire(folder, document, clock, is_new=True)

    @classmethod
    def _acquire(
        cls,
        folder: OutputFolder,
        document: LedgerDocument,
        clock: Callable[[], float],
        *,
        is_new: bool = False,
    ) -> Ledger:
        document, claims = acquire(folder, document, is_new=is_new)
        ledger = cls(folder, document, claims=claims, clock=clock)
        ledger._write(document, durable=True)
        return ledger

    def _settle(
        self, chunk: Chunk, key: int | None, settle: Callable[[LedgerChange], Chunk], outcome: str
    ) -> Chunk:
        """Record what became of a submission. If the ledger is lost, leave the outcome for its new owner."""
        current = self.chunk(chunk.number)
        submission = current.submission(key) if current.submissions else None
        known = (chunk.number, submission.key if submission else 0)
        own_intent = (
            submission is not None and submission.state == "intended" and known not in self._inherited
        )
        self._inherited.discard(known)
        try:
            with self.transaction() as change:
                changed = settle(change)
            self._check_written()
        except LedgerLostError:
            if submission is not None and (outcome or own_intent):
                leave_job_id(self._folder, chunk.number, submission, outcome)
            raise
        return changed

    def _check_written(self) -> None:
        """Make sure that a process which acquires the ledger from now on sees what was written."""
        if self._claims:
            self.check_acquired()

    def _check_before_paying(self) -> None:
        try:
            self._check_written()
        except LedgerLostError:
            for chunk in self._document.open:
                for each in chunk.submissions:
                    if each.state == "intended" and (chunk.number, each.key) not in self._inherited:
                        leave_job_id(self._folder, chunk.number, each, "")
            raise

    def _write(self, document: LedgerDocument, *, durable: bool) -> None:
        self._folder.write(LEDGER, msgspec.json.encode(document), durable=durable)
        if durable:
            self._folder.sync()


def fingerprint(prompts: PromptList) -> str:
    """Hash of prompts, for `LedgerChange.plan`."""
    return hashlib.sha1(prompts.as_json, usedforsecurity=False).hexdigest()


_IF_GROWN = "If rows were only added at its end, set on_changed_input='extend': then these alone are sent. "
_REMEDY = (
    "Choose another folder, for example with {{ run_id }} in its name, or set on_other_run='replace' to replace what is "
    "there."
)
