"""The ledger of a row run: what is done, what is running and what is left, in one small file beside the results.

The file ``_ledger.json`` is rewritten as a whole, with the changes of several steps at once where a crash in between only
repeats what costs nothing. It does not grow with the run: chunks are numbered in the order of their rows, so every planned
chunk that is not listed as open is finished.

The life of a chunk, and what a retry finds if the process dies after each step::

    plan                 the chunk is open           its rows are read again from its start
    intend               a job is to be submitted    an intent without an id: `Ledger.unknown_submissions`
    record_job_id        the job has an id           its results are fetched; the id is in a file until the ledger is written
    (the part is written)                            the part is written again, with the same content
    finish               the chunk is not open       nothing is left to do

If the platform refuses the rows of a chunk together, `LedgerChange.split` replaces the submission by pieces. Each of them is
intended, gets an id and is settled for itself; its results are saved before it counts as done.

Each process that opens the ledger writes its own token and the number of its generation into it. A writer that finds
another token stops: a newer try of the task has acquired the ledger, or another task uses the folder. `fencing`
explains what happens if two processes do this at the same moment.
"""

from __future__ import annotations

import math
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, ClassVar, Literal

import msgspec
from msgspec.structs import replace

from airflow_provider_lamini.rows.errors import (
    LedgerConflictError,
    LedgerError,
    LedgerLostError,
    RowError,
)
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
from airflow_provider_lamini.rows.storage.run_files import LEDGER, holds_results, remove_run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from airflow_provider_lamini.rows.counts import Counts
    from airflow_provider_lamini.rows.ledger.document import Chunk, ChunkSubmission, Header
    from airflow_provider_lamini.rows.storage.folder import OutputFolder


class Ledger:
    """The ledger of one run. Create it with `open` or `resume`.

    A method that changes the ledger writes it before it returns, unless it says otherwise. If it fails, nothing has changed.
    """

    late_answer: ClassVar[float] = 30.0
    """Without locks: seconds after an intent during which the process that wrote it may still leave its job's id."""
    late_write: ClassVar[float] = 3.0
    """Without locks: seconds for which a process may still write parts of a run that another run replaces."""
    max_intent_age: ClassVar[float] = 5.0
    """Seconds after which an intent is renewed before the submission begins, so that `late_answer` is long enough."""
    write_interval: ClassVar[float] = 1.0
    """Seconds after a write during which changes are rather collected: some stores allow one write a second and object."""
    check_age: ClassVar[float] = 0.2
    """Seconds for which a check for a claim that was made beside a write counts as made after that write."""

    def __init__(self, folder: OutputFolder, document: LedgerDocument, *, clock: Callable[[], float]) -> None:
        self._folder = folder
        self._document = document
        self._clock = clock
        self._written = True
        self._written_at, self._checked_at, self._checked_beside_at = time.monotonic(), -math.inf, -math.inf
        self._obsolete: list[str] = []
        self._found_open = {chunk.number for chunk in document.open}
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
        with folder.lock() as locked:
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
                advice = _advice(found, header) if ours else _REMEDY
                raise LedgerConflictError(
                    f"The output folder {folder} holds the results of {other}. {advice}"
                )
            if other or if_same == "replace":
                # The old ledger is acquired first, so that its writer stops. Its file is replaced last, so that a crash
                # in between leaves nothing that looks like results of the new run.
                old = cls._acquire(folder, found, clock)
                if not (locked or found.finished):
                    time.sleep(cls.late_write)
                remove_run(folder)
                return cls._begin(folder, header, clock, old._document.generation)  # noqa: SLF001
            return cls._acquire(folder, found, clock)

    @classmethod
    def resume(
        cls,
        folder: OutputFolder,
        owner: dict[str, str | int],
        *,
        known: LedgerDocument | None = None,
        clock: Callable[[], float] = time.time,
    ) -> Ledger:
        """Continue a run of this task without validating the input again.

        The caller compares `Header.input_version` with the version of the input.

        :param folder: the output folder
        :param owner: Dag, task, run and map index, as in `Header`
        :param known: the ledger, if it was just read; where storage has locks, it is read again
        :param clock: returns the current Unix timestamp
        :raises LedgerError: if there is no ledger
        :raises LedgerConflictError: if it belongs to another task or run
        :raises UnreadableLedgerError: if this release cannot read it
        """
        with folder.lock() as locked:
            found = load(folder) if locked or known is None else known
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
            return cls._acquire(folder, found, clock, after_wait=True)

    @property
    def document(self) -> LedgerDocument:
        """The content of the ledger."""
        return self._document

    @property
    def fenced(self) -> bool:
        """Whether two processes never write at the same time: storage has locks, or creates a file only once."""
        with self._folder.lock() as locked:
            return locked or self._document.exclusive is True

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

    def unknown_of(self, chunk: Chunk) -> list[ChunkSubmission]:
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

    @property
    def may_wait(self) -> bool:
        """Whether the ledger was written so recently that other changes should be collected."""
        return time.monotonic() - self._written_at < self.write_interval

    def may_have_part(self, chunk: Chunk) -> bool:
        """Whether an earlier try may have written the part of an open chunk.

        :param chunk: the chunk
        """
        if chunk.number not in self._found_open:
            return False
        return not chunk.rounds or chunk.rounds[-1].intended_at < self._document.try_started_at

    @contextmanager
    def transaction(self, *, later: bool = False) -> Iterator[LedgerChange]:
        """Collect changes and write them at once when the block ends. If the block fails, nothing changes.

        Submit nothing inside the block: an intent is on the disk only after its end.

        :param later: let the next transaction, or `commit`, write the changes
        :return: takes the changes
        :raises LedgerLostError: if another process has acquired the ledger
        :raises LedgerError: if the ledger was changed otherwise while the block ran
        """
        before = self._document
        change = LedgerChange(before, self._clock())
        yield change
        if self._document is not before:
            raise LedgerError(f"The ledger of {self._folder} was changed while a transaction was open.")
        if later:
            self._written = self._written and change.document is before
            self._document = change.document
            self._obsolete += change.obsolete
            return
        if change.document is before and self._written:
            return
        self._commit(change.document, durable=change.durable, obsolete=change.obsolete)
        if change.durable:
            self._check_before_paying()

    def commit(self) -> None:
        """Write the changes that no transaction has written yet.

        :raises LedgerLostError: if another process has acquired the ledger
        """
        if not self._written:
            self._commit(self._document, durable=False)

    def confirm(self, chunks: Sequence[Chunk]) -> None:
        """Make sure that this process may still submit chunks that it has intended together with an earlier one.

        :param chunks: those that are not submitted yet
        :raises LedgerLostError: if another process has acquired the ledger
        """
        if self._clock() - self.chunk(chunks[0].number).rounds[-1].intended_at < self.max_intent_age:
            if not self._was_checked_beside_write():
                self._check_before_paying()
            return
        with self.transaction() as change:
            for chunk in chunks:
                change.renew(chunk)

    def record_job_id(self, chunk: Chunk, job_id: str, key: int | None = None) -> Chunk:
        """Record the id of a job as soon as the platform has returned it: until `commit`, in a file of its own.

        The file stays until the chunk is finished, because no task waits for its removal.

        :param chunk: the chunk that was intended
        :param job_id: the platform's id
        :param key: which of the chunk's pieces; ``None`` if it was not split
        :return: the chunk with the id
        :raises LedgerError: if no submission was intended
        """
        change = LedgerChange(self._document, self._clock())
        changed = change.record_job_id(chunk, job_id, key)
        submission = self.chunk(chunk.number).submission(key)
        self._write_and_check(lambda: leave_job_id(self._folder, chunk.number, submission, job_id))
        self._inherited.discard((chunk.number, submission.key))
        self._document, self._written = change.document, False
        return changed

    def forget(self, chunk: Chunk, key: int | None = None) -> Chunk:
        """Drop the last submission of a chunk: its job was never started, or is lost. It can be submitted again.

        :param chunk: the chunk
        :param key: which of the chunk's pieces; ``None`` if it was not split
        :return: the chunk without that submission
        :raises LedgerError: if it has no submission
        :raises LedgerLostError: if another process has acquired the ledger
        """
        current = self.chunk(chunk.number)
        submission = current.submission(key) if current.submissions else None
        known = (chunk.number, submission.key if submission else 0)
        own_intent = (
            submission is not None and submission.state == "intended" and known not in self._inherited
        )
        self._inherited.discard(known)
        try:
            with self.transaction() as change:
                changed = change.forget(chunk, key)
        except LedgerLostError:
            if submission is not None and own_intent:
                leave_job_id(self._folder, chunk.number, submission, "")
            raise
        return changed

    def read_left_job_id(self, chunk: Chunk, submission: ChunkSubmission) -> str | None:
        """Read what an earlier process has left about an unknown submission.

        Waits as long as that process may still leave it. Where storage has locks, that process has ended.

        :param chunk: one of `unknown_submissions`
        :param submission: one of `unknown_of` it
        :return: the job's id; empty if no job was started, ``None`` if nothing was left
        """
        with self._folder.lock() as locked:
            remaining = 0.0 if locked else submission.intended_at + self.late_answer - self._clock()
        wait = min(max(remaining, 0.0), self.late_answer)
        return read_left_job_id(self._folder, chunk.number, submission, wait=wait)

    def update_header(self, *, chunk_size: int) -> None:
        """Record what a try may change without changing the results.

        :param chunk_size: rows per chunk from now on
        """
        header = replace(self.header, chunk_size=chunk_size)
        if header != self.header:
            with self.transaction() as change:
                change.document = replace(change.document, header=header)

    def check_acquired(self, *, max_age: float = 0.0) -> None:
        """Make sure that this process may still write. Call it before a part is written.

        :param max_age: do nothing if this was certain less than so many seconds ago
        :raises LedgerLostError: if another process has acquired the ledger
        """
        began = time.monotonic()
        if began - self._checked_at < max_age:
            return
        check_acquired(self._folder, self._document)
        self._checked_at = began

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
        after_wait: bool = False,
    ) -> Ledger:
        began = time.monotonic()
        document = acquire(folder, document, is_new=is_new, after_wait=after_wait)
        ledger = cls(folder, document, clock=clock)
        ledger._checked_at = began
        if is_new or document.exclusive is not True:
            ledger._write(document, durable=True)
        else:  # the claim says who may write
            ledger._written = False
        ledger._adopt_left_ids()
        return ledger

    def _adopt_left_ids(self) -> None:
        """Record the ids that the process before has left since it wrote the ledger last."""
        for intended in self._document.intents():
            for chunk, each in intended:
                left = read_left_job_id(self._folder, chunk.number, each, wait=0)
                if not left:
                    break
                with self.transaction(later=True) as change:
                    change.record_job_id(chunk, left, each.key)
                self._inherited.discard((chunk.number, each.key))

    def _commit(self, document: LedgerDocument, *, durable: bool, obsolete: Sequence[str] = ()) -> None:
        if self._folder.writing:
            self._write_and_check(self._folder.settle)
        with self._folder.lock():
            if not self._was_checked_beside_write():
                self.check_acquired()
            self._write(document, durable=durable)
        self._document, self._written = document, True
        names, self._obsolete = [*self._obsolete, *obsolete], []
        self._folder.delete_later(names)  # if that fails, the end of the run removes them

    def _write_and_check(self, write: Callable[[], object]) -> None:
        """Write something, and where processes leave claims, check for one at the same time.

        If there is one or the check fails, the next step checks again.
        """
        if self._document.exclusive is not True:
            write()
            return
        await_check = self._folder.start(self._check_beside_write)
        write()
        await_check()

    def _check_beside_write(self) -> None:
        with suppress(OSError, RowError):
            self.check_acquired()
            self._checked_beside_at = time.monotonic()

    def _was_checked_beside_write(self) -> bool:
        """Whether this process has checked for a claim beside its last write. This counts only once."""
        checked_at, self._checked_beside_at = self._checked_beside_at, -math.inf
        return time.monotonic() - checked_at < self.check_age

    def _check_before_paying(self) -> None:
        """Make sure that a process which acquires the ledger from now on sees what was written.

        If that is not certain, nothing is sent, and the next process learns so.
        """
        try:
            with self._folder.lock() as locked:
                if not locked:
                    self.check_acquired()
        except LedgerLostError:
            self._leave_unsent()
            raise
        except Exception:
            with suppress(OSError, RowError):  # the store may still fail; then the next process asks the user
                self._leave_unsent()
            raise

    def _leave_unsent(self) -> None:
        """Leave word that the submissions that this process has intended were not made."""
        for chunk in self._document.open:
            for each in chunk.submissions:
                if each.state == "intended" and (chunk.number, each.key) not in self._inherited:
                    leave_job_id(self._folder, chunk.number, each, "")

    def _write(self, document: LedgerDocument, *, durable: bool) -> None:
        self._folder.write(LEDGER, msgspec.json.encode(document), durable=durable)
        self._written_at = time.monotonic()
        if durable:
            self._folder.sync()


def _advice(found: LedgerDocument, header: Header) -> str:
    """What to do if a run has other settings, or its input has changed.

    :param found: the run in the folder
    :param header: the same run with the new input or settings
    """
    job_ids = [job_id for chunk in found.open for job_id in chunk.job_ids]
    more = f" and {len(job_ids) - _MAX_NAMED} more" if len(job_ids) > _MAX_NAMED else ""
    running = f"Its jobs may still run and bill: {', '.join(job_ids[:_MAX_NAMED])}{more}. " if job_ids else ""
    grown = has_other_input(found.header, header) and header.total_rows > found.header.total_rows
    others = {
        "input": found.header.input_version != header.input_version,
        "arguments": found.header.fingerprint != header.fingerprint,
    }
    changed = " and the ".join(name for name, is_other in others.items() if is_other)
    restore = f"To continue with what was sent, restore the {changed} and clear the task."
    return f"{_IF_GROWN if grown else ''}{_REMEDY} {running}{restore}"


_MAX_NAMED = 5
"""Maximum number of jobs in a message."""
_IF_GROWN = "If rows were only added at its end, set on_changed_input='extend': then these alone are sent. "
_REMEDY = (
    "Choose another folder, for example with {{ run_id }} in its name, or set on_other_run='replace' to replace what is "
    "there."
)
