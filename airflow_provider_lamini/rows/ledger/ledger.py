"""What is done, what is under way and what is left of a chunked run: one small file beside the results.

The file, ``_ledger.json``, is written anew at each step. It does not grow with the run: chunks are
numbered in the order of their rows, so all that were begun and are no longer open are finished, and only
the open ones are listed.

A chunk's life, and what a crash after each step leads to::

    plan                 the chunk is open           it is read again from where it starts
    intend               a job will be submitted     an intent without an id: `Ledger.unknown`
    submitted            the job has an id           its result is fetched
    (part is written)                                it is written again, the same
    finish               the chunk is not open       nothing is left to do

Each process that opens a ledger writes a token of its own into it, and the number of its generation. A writer that
finds another token stops: a newer try of the task has taken over, or somebody else uses the folder.
How that is sure where two do so at once: `takeover`.
"""

from __future__ import annotations

import hashlib
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar, Literal

import msgspec
from msgspec.structs import replace

from airflow_provider_lamini.rows.errors import LedgerConflictError, LedgerError, LedgerLostError
from airflow_provider_lamini.rows.ledger.document import (
    Chunk,
    LedgerDocument,
    Round,
    difference,
    load,
    owner_in_words,
)
from airflow_provider_lamini.rows.ledger.fencing import (
    acquire,
    check_acquired,
    leave_job_id,
    read_left_job_id,
)
from airflow_provider_lamini.rows.run_files import LEDGER, remove_run, run_files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from airflow_provider_lamini.api.call import PromptList
    from airflow_provider_lamini.rows.counts import Counts
    from airflow_provider_lamini.rows.ledger.document import Header
    from airflow_provider_lamini.rows.sources.batch import Cursor
    from airflow_provider_lamini.rows.storage.folder import OutputFolder


class Ledger:
    """The record of one run. Make it with `open` or `resume`.

    Each method that changes it writes the file before it returns; one that fails has changed nothing.
    """

    late_answer: ClassVar[float] = 30.0
    """Without locks: seconds after an intent until which the process that wrote it may still tell its job's id."""

    def __init__(self, folder: OutputFolder, document: LedgerDocument, clock: Callable[[], float]) -> None:
        self._folder = folder
        self._document = document
        self._clock = clock
        self._unsaved: LedgerDocument | None = None
        self._durable = False
        self._claims = False
        self._inherited = {chunk.number for chunk in document.open if chunk.state == "intended"}

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
        """Begin a run in a folder, or go on with it. From here on, no other process can write to the ledger.

        :param folder: the output folder
        :param header: what the run is
        :param if_same: what to do where the folder holds this very run: go on, or remove its results and
            begin anew
        :param if_other: what to do where it holds another: fail, or remove its results and begin this one. One of the
            same task and run that has submitted nothing yet, such as with a wrong name of a model, has no results.
        :param clock: gives the time, in seconds since 1970
        :raises LedgerConflictError: where the folder holds another run
        :raises UnreadableLedgerError: where its ledger is no ledger of ours
        """
        with folder.lock():
            folder.clean()
            found = load(folder)
            if found is None:
                if run_files(folder):
                    if if_other == "fail":
                        raise LedgerConflictError(
                            f"The output folder {folder} holds results without a ledger, so they are not of "
                            f"this run. {_REMEDY}"
                        )
                    remove_run(folder)
                return cls._begin(folder, header, clock)
            other = difference(found.header, header)
            ours = found.header.owner == header.owner
            if other and if_other == "fail" and not (ours and found.is_bare and not run_files(folder)):
                raise LedgerConflictError(
                    f"The output folder {folder} holds the results of {other}. {_REMEDY}"
                )
            if other or if_same == "replace":
                # The old run's ledger is taken over first, so that its writer stops; it is removed last, so
                # that a crash in between leaves nothing that looks like results of the new run.
                old = cls._taken(folder, found, clock)
                remove_run(folder)
                return cls._begin(folder, header, clock, old._document.generation)  # noqa: SLF001
            return cls._taken(folder, found, clock)

    @classmethod
    def resume(
        cls, folder: OutputFolder, owner: dict[str, str | int], *, clock: Callable[[], float] = time.time
    ) -> Ledger:
        """Go on with a run that this task has begun, without surveying the input again.

        The caller compares `header.stamp` with the input's.

        :param folder: the output folder
        :param owner: who goes on, as in `Header`
        :param clock: gives the time, in seconds since 1970
        :raises LedgerError: where there is no ledger
        :raises LedgerConflictError: where it is of another task or run
        :raises UnreadableLedgerError: where it is no ledger of ours
        """
        with folder.lock():
            found = load(folder)
            if found is None:
                raise LedgerError(
                    f"The ledger {folder.uri(LEDGER)} is gone, though the run had begun. Somebody has removed it; its "
                    "jobs may still run and bill. Clear the task to begin anew."
                )
            if found.header.owner != owner:
                raise LedgerConflictError(
                    f"The output folder {folder} now holds the results of {owner_in_words(found.header.owner)}: "
                    f"another task has "
                    "replaced those of this run. Give each task a folder of its own."
                )
            return cls._taken(folder, found, clock)

    @property
    def header(self) -> Header:
        """What the run is."""
        return self._current.header

    @property
    def cursor(self) -> Cursor:
        """Where the next chunk starts."""
        return self._current.next

    @property
    def chunks(self) -> Sequence[Chunk]:
        """The open chunks, in the order of their rows."""
        return self._current.open

    @property
    def planned(self) -> int:
        """How many chunks were begun."""
        return self._current.planned

    @property
    def done(self) -> int:
        """How many chunks are finished."""
        return self._current.planned - len(self._current.open)

    @property
    def totals(self) -> Counts:
        """The outcomes of the rows of all finished chunks."""
        return self._current.totals

    @property
    def exhausted(self) -> bool:
        """Whether all rows are in chunks that were begun."""
        return self._current.next.row >= self.header.total

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        return self.exhausted and not self._current.open

    @property
    def unknown(self) -> list[Chunk]:
        """Open chunks with a submission that an earlier process intended and of which no id is recorded.

        Their jobs may or may not have begun. Each is settled with `submitted` or `forget`.
        """
        return [
            chunk for chunk in self.chunks if chunk.state == "intended" and chunk.number in self._inherited
        ]

    def chunk(self, number: int) -> Chunk:
        """An open chunk as it is now.

        :raises LedgerError: where the chunk is not open
        """
        for chunk in self.chunks:
            if chunk.number == number:
                return chunk
        raise LedgerError(f"Chunk {number} of {self._folder} is not open.")

    def plan(self, start: Cursor, after: Cursor, fingerprint: str, seal: str | None = None) -> Chunk:
        """Begin the next chunk.

        :param start: the place before its first row, which is `cursor` or a place that means the same
        :param after: the place after its last row
        :param fingerprint: a hash of its prompts
        :param seal: of the files that hold them, see `source.Source.seal`
        :raises LedgerError: where these are not the rows that come next
        """
        now = self._current
        header = now.header
        rows = after.row - start.row
        expected = min(header.chunk_size, header.total - now.next.row)
        if start.row != now.next.row or rows != expected or not rows:
            raise LedgerError(
                f"Chunk {now.planned} of {self._folder} should be {expected} rows from row {now.next.row} "
                f"on, but rows {start.row} to {after.row} were given. The input has changed since it was "
                f"surveyed."
            )
        chunk = Chunk(now.planned, start, rows, fingerprint, seal=seal or "")
        self._save(replace(now, planned=now.planned + 1, next=after, open=[*now.open, chunk]))
        return chunk

    def intend(self, chunk: Chunk, rows: list[int] | None = None) -> Chunk:
        """Say that a chunk will be submitted. Call it before the request that starts the job.

        :param chunk: the chunk
        :param rows: the rows that are submitted, by their numbers in the chunk; ``None`` for all
        :raises LedgerError: where an earlier intent is not settled, or a row is not in the chunk
        """
        now = self.chunk(chunk.number)
        if now.state == "intended":
            raise LedgerError(f"Chunk {chunk.number} of {self._folder} has an intent that is not settled.")
        if rows is not None and not all(0 <= row < now.rows for row in rows):
            raise LedgerError(f"Chunk {chunk.number} of {self._folder} has no such rows.")
        # Lost with the power, an intent could become a job that is paid for twice: it must be on the disk.
        return self._change(now, [*now.rounds, Round(self._clock(), rows)], durable=True)

    def submitted(self, chunk: Chunk, job_id: str) -> Chunk:
        """Record the id of the job that was intended. Call it right after the platform has told it.

        :param chunk: the chunk
        :param job_id: the platform's id
        :raises LedgerError: where no job was intended
        """
        now = self.chunk(chunk.number)
        if now.state != "intended":
            raise LedgerError(
                f"Chunk {chunk.number} of {self._folder} has no intent that an id would settle."
            )
        last = replace(now.rounds[-1], job_id=job_id, submitted_at=self._clock())
        self._inherited.discard(chunk.number)
        return self._settle(now, [*now.rounds[:-1], last], job_id)

    def read_left_job_id(self, chunk: Chunk) -> str | None:
        """What became of an unknown submission, where the process that has lost the folder tells it after all.

        Waits for it as long as that process may still be at it. Where there are locks it is not.

        :param chunk: one of `unknown`
        :return: the id of its job; empty where none was started, ``None`` where it is not told
        """
        with self._folder.lock() as sure:
            if sure:
                return None
        left = chunk.rounds[-1].intended_at + self.late_answer - self._clock()
        return read_left_job_id(self._folder, chunk, wait=min(max(left, 0.0), self.late_answer))

    def begin_try(self, now: float) -> None:
        """Note when a try of the task began, and how much was done then.

        :param now: seconds since 1970
        """
        self._save(replace(self._current, try_began=now, done_before=self.totals.rows))

    @property
    def try_began(self) -> tuple[float, int]:
        """When this try of the task began, in seconds since 1970, and how many rows were done then."""
        return self._current.try_began, self._current.done_before

    def forget(self, chunk: Chunk) -> Chunk:
        """Drop a chunk's last submission: it did not begin, or its job is lost. It can then be intended anew.

        :raises LedgerError: where it has none
        """
        now = self.chunk(chunk.number)
        if not now.rounds:
            raise LedgerError(f"Chunk {chunk.number} of {self._folder} has no submission to forget.")
        ours = now.state == "intended" and chunk.number not in self._inherited
        self._inherited.discard(chunk.number)
        return self._settle(now, now.rounds[:-1], "" if ours else None)

    def finish(self, chunk: Chunk, counts: Counts) -> None:
        """Record that a chunk's part is written, and how its rows came out.

        :param chunk: the chunk
        :param counts: the outcomes of its rows
        :raises LedgerError: where they are not as many as the chunk has rows
        """
        done = self.chunk(chunk.number)
        if counts.rows != done.rows or counts.ok + counts.failed != done.rows:
            raise LedgerError(
                f"Chunk {chunk.number} of {self._folder} has {done.rows} rows, but {counts.ok} with an "
                f"output and {counts.failed} with an error were counted."
            )
        now = self._current
        rest = [other for other in now.open if other.number != done.number]
        self._save(replace(now, open=rest, totals=now.totals + counts))

    @contextmanager
    def together(self) -> Iterator[None]:
        """Write once for all changes within, at the end; nothing where they fail.

        Submit nothing within: an intent is on the disk only after the end.
        """
        if self._unsaved is not None:
            raise LedgerError("Changes are already collected.")
        self._unsaved = self._document
        try:
            yield
            changed, self._unsaved = self._unsaved, None
            if changed is not self._document:
                self._save(changed, durable=self._durable)
        finally:
            self._unsaved = None
            self._durable = False

    def check(self) -> None:
        """Make sure that this process is still in charge. Call it before a part is written.

        :raises LedgerTakenError: where it is not
        """
        check_acquired(self._folder, self._document, claims=self._claims)

    @property
    def _current(self) -> LedgerDocument:
        return self._document if self._unsaved is None else self._unsaved

    @classmethod
    def _begin(
        cls, folder: OutputFolder, header: Header, clock: Callable[[], float], generation: int = 0
    ) -> Ledger:
        document = LedgerDocument(replace(header, created_at=clock()), generation=generation)
        return cls._taken(folder, document, clock, begun=False)

    @classmethod
    def _taken(
        cls,
        folder: OutputFolder,
        document: LedgerDocument,
        clock: Callable[[], float],
        *,
        begun: bool = True,
    ) -> Ledger:
        """Take a run over; `begun` says whether it lies in the folder already."""
        document, claims = acquire(folder, document, begun=begun)
        ledger = cls(folder, document, clock)
        ledger._claims = claims
        ledger._write(document, durable=True)
        return ledger

    def _change(self, chunk: Chunk, rounds: list[Round], *, durable: bool) -> Chunk:
        changed = replace(chunk, rounds=rounds)
        now = self._current
        others = [changed if other.number == chunk.number else other for other in now.open]
        self._save(replace(now, open=others), durable=durable)
        return changed

    def _save(self, document: LedgerDocument, *, durable: bool = False) -> None:
        if self._unsaved is not None:
            self._unsaved = document
            self._durable = self._durable or durable
            return
        with self._folder.lock():
            self.check()
            self._write(document, durable=durable)
        self._document = document
        if durable:
            self._check_before_paying()

    def _settle(self, chunk: Chunk, rounds: list[Round], told: str | None) -> Chunk:
        """Record what became of a submission; where this process was taken over, tell it to the one that has."""
        try:
            changed = self._change(chunk, rounds, durable=False)
            self._check_written()
        except LedgerLostError:
            if told is not None:
                leave_job_id(self._folder, chunk, told)
            raise
        return changed

    def _check_written(self) -> None:
        """Make sure that a process which takes over from now on will see what was written."""
        if self._claims and self._unsaved is None:
            self.check()

    def _check_before_paying(self) -> None:
        try:
            self._check_written()
        except LedgerLostError:
            for chunk in self._document.open:
                if chunk.state == "intended" and chunk.number not in self._inherited:
                    leave_job_id(self._folder, chunk, "")
            raise

    def _write(self, document: LedgerDocument, *, durable: bool) -> None:
        self._folder.write(LEDGER, msgspec.json.encode(document), durable=durable)
        if durable:
            self._folder.sync()


def fingerprint(prompts: PromptList) -> str:
    """A hash of prompts, for `Ledger.plan`."""
    return hashlib.sha1(prompts.as_json, usedforsecurity=False).hexdigest()


_REMEDY = (
    "Choose another folder, for example with {{ run_id }} in its name, "
    "or have this task replace what is there with on_other_run='replace'."
)
