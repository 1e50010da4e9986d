"""Changes to a ledger, before they are written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import UNSET
from msgspec.structs import replace

from airflow_provider_lamini.rows.batch import Position
from airflow_provider_lamini.rows.counts import Counts
from airflow_provider_lamini.rows.errors import LedgerError
from airflow_provider_lamini.rows.ledger.document import Chunk, ChunkSubmission, ReportData, Sizes
from airflow_provider_lamini.rows.storage.run_files import left_job_name, partial_names

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_lamini.rows.ledger.document import Header, LedgerDocument


class LedgerChange:
    """Changes that `Ledger.transaction` writes together.

    :param document: the ledger before the changes
    :param now: the current time, as a Unix timestamp

    :ivar document: the ledger with the changes made so far
    :ivar durable: whether the changes must survive a power failure before the task continues
    :ivar obsolete: files that nobody needs once the changes are written
    """

    def __init__(self, document: LedgerDocument, now: float) -> None:
        self.document = document
        self.durable = False
        self.obsolete: list[str] = []
        self._now = now

    def begin_try(self, started_at: float) -> None:
        """Record when a try of the task started, and how many rows were done then.

        :param started_at: Unix timestamp
        """
        done = self.document.totals.rows
        self.document = replace(self.document, try_started_at=started_at, rows_done_before=done)

    def plan(self, start: Position, after: Position, fingerprint: str) -> Chunk:
        """Plan the next chunk.

        :param start: position of its first row: that of `LedgerDocument.next`, or an equivalent one
        :param after: position after its last row
        :param fingerprint: hash of its prompts
        :return: the chunk
        :raises LedgerError: if these are not the next rows
        """
        now = self.document
        rows = after.row - start.row
        expected = min(now.chunk_size, now.header.total_rows - now.next.row)
        if start.row != now.next.row or rows != expected or not rows:
            raise LedgerError(
                f"Chunk {now.planned} should have {expected} rows from row {now.next.row} on, but has rows {start.row} "
                f"to {after.row}: the input has changed since it was validated. It was not sent. Restore the input and clear the "
                "task, or choose another output folder."
            )
        chunk = Chunk(now.planned, start, rows, fingerprint)
        sizes = list(now.sizes)
        last = sizes.pop() if sizes and sizes[-1].rows == rows else Sizes(rows, 0)
        sizes.append(replace(last, chunks=last.chunks + 1))
        self.document = replace(
            now, planned=now.planned + 1, next=after, open=[*now.open, chunk], sizes=sizes
        )
        return chunk

    def intend(self, chunk: Chunk, rows: list[int] | None = None) -> Chunk:
        """Record that the task is about to submit a chunk. It must be written before the request is sent.

        :param chunk: the chunk
        :param rows: offsets of the submitted rows in the chunk; ``None`` for all rows
        :return: the chunk with its new round
        :raises LedgerError: if an earlier intent has no outcome yet, or the chunk has no such rows
        """
        current = self.document.chunk(chunk.number)
        if current.state == "intended":
            raise LedgerError(f"Chunk {chunk.number} has an intent without an outcome.")
        if rows is not None and not all(0 <= row < current.rows for row in rows):
            raise LedgerError(f"Chunk {chunk.number} has no such rows.")
        # If a power failure lost the intent, a job that was started could be paid for twice.
        self.durable = True
        return self._set_rounds(current, [*current.rounds, ChunkSubmission(self._now, rows)])

    def renew(self, chunk: Chunk) -> Chunk:
        """Record that the task still intends to submit a chunk.

        :param chunk: the chunk
        :return: the chunk with the intent
        """
        self.durable = True
        return self._replace(self.document.chunk(chunk.number), None, intended_at=self._now)

    def record_job_id(self, chunk: Chunk, job_id: str, key: int | None = None) -> Chunk:
        """Record the id of the job that was started for an intended submission.

        :param chunk: the chunk
        :param job_id: the platform's id
        :param key: which of the chunk's pieces; ``None`` if it was not split
        :return: the chunk with the id
        :raises LedgerError: if no submission was intended
        """
        current = self.document.chunk(chunk.number)
        if current.state != "intended" or current.submission(key).state != "intended":
            raise LedgerError(f"Chunk {chunk.number} has no intent that job {job_id} could belong to.")
        return self._replace(current, key, job_id=job_id, submitted_at=self._now)

    def forget(self, chunk: Chunk, key: int | None = None) -> Chunk:
        """Drop the last submission of a chunk: its job was never started, or is lost.

        :param chunk: the chunk
        :param key: which of the chunk's pieces; it then waits for its turn again. ``None`` if the chunk was not split.
        :return: the chunk without that submission
        :raises LedgerError: if it has no submission
        """
        current = self.document.chunk(chunk.number)
        if not current.rounds:
            raise LedgerError(f"Chunk {chunk.number} has no submission to forget.")
        if current.rounds[-1].pieces:
            return self._replace(current, key, intended_at=0.0, job_id=None, submitted_at=None)
        return self._set_rounds(current, current.rounds[:-1])

    def split(self, chunk: Chunk, key: int, halves: list[list[int]]) -> Chunk:
        """Record that a submission was refused, and in what pieces its rows are submitted instead.

        :param chunk: the chunk
        :param key: the refused submission
        :param halves: the rows of each piece, as offsets in the chunk
        :return: the chunk with the pieces
        """
        current = self.document.chunk(chunk.number)
        last, refused = current.rounds[-1], current.submission(key)
        pieces = list(last.pieces) or [refused]
        at = next(at for at, piece in enumerate(pieces) if piece.key == refused.key)
        pieces[at : at + 1] = [ChunkSubmission(0.0, rows) for rows in halves]
        return self._set_rounds(current, [*current.rounds[:-1], replace(last, pieces=pieces)])

    def intend_piece(self, chunk: Chunk, key: int) -> Chunk:
        """Record that the task is about to submit a piece. It must be written before the request is sent.

        :param chunk: the chunk
        :param key: the piece
        :return: the chunk with the intent
        """
        self.durable = True
        return self._replace(self.document.chunk(chunk.number), key, intended_at=self._now)

    def settle_piece(self, chunk: Chunk, key: int) -> Chunk:
        """Record that the results of a piece are saved.

        :param chunk: the chunk
        :param key: the piece
        :return: the chunk, in which the piece is done
        """
        return self._replace(self.document.chunk(chunk.number), key, done=True)

    def send_whole_again(self, chunk: Chunk) -> Chunk:
        """Drop the last round of a chunk with all of its pieces, none of which has a usable result.

        :param chunk: the chunk
        :return: the chunk, whose rows wait for a new round
        """
        current = self.document.chunk(chunk.number)
        return self._set_rounds(current, current.rounds[:-1])

    def pause(self, chunk: Chunk, rows: list[int], counts: Counts) -> Chunk:
        """Record that the results of some rows of a chunk are saved, and that its other rows are not sent for now.

        :param chunk: the chunk
        :param rows: offsets of the rows that are left
        :param counts: what the answered rows add to the totals before the chunk is finished, such as tokens; no rows
        :return: the chunk, with a round that waits for its turn
        """
        self.document = replace(self.document, totals=self.document.totals + counts)
        return self._set_rounds(self.document.chunk(chunk.number), [ChunkSubmission(0.0, rows)])

    def extend(self, header: Header, after: Position, starts: Mapping[int, Position]) -> None:
        """Go on with an input that has more rows behind those of the planned chunks.

        :param header: identifies the run with the new input
        :param after: position after the last planned chunk in the new input
        :param starts: positions of the open chunks in it, by their numbers
        :raises LedgerError: if the planned chunks have another number of rows
        """
        now = self.document
        if after.row != now.next.row or header.total_rows < after.row:
            raise LedgerError(f"The planned chunks have {now.next.row} rows, but the input has {after.row}.")
        self.durable = True
        chunks = [replace(chunk, start=starts[chunk.number]) for chunk in now.open]
        header = replace(header, created_at=now.header.created_at)
        self.document = replace(now, header=header, next=after, open=chunks)

    def start_over(self) -> None:
        """Plan everything again, because the platform has accepted nothing so far."""
        self.document = replace(
            self.document,
            next=Position(),
            planned=0,
            open=[],
            totals=Counts(),
            sizes=[],
            max_chunk_rows=0,
            report=UNSET,
        )

    def limit_chunks(self, rows: int) -> None:
        """Make the next chunks smaller, because the platform accepts no larger ones.

        :param rows: rows per chunk
        """
        self.document = replace(self.document, max_chunk_rows=min(rows, self.document.chunk_size))

    def finish(self, chunk: Chunk, counts: Counts, groups: Mapping[str, int] | None = None) -> None:
        """Record that the part of a chunk is written. The files that only a chunk under way needs become obsolete.

        :param chunk: the chunk
        :param counts: outcomes of its rows
        :param groups: its rows with an output by a property of the output, for the report
        :raises LedgerError: if the counts do not match the number of its rows
        """
        now = self.document
        done = now.chunk(chunk.number)
        if counts.rows != done.rows or counts.ok + counts.failed != done.rows:
            raise LedgerError(
                f"Chunk {chunk.number} has {done.rows} rows, but {counts.ok} with an output and {counts.failed} with an "
                "error were counted."
            )
        rest = [other for other in now.open if other.number != done.number]
        before = now.report if now.report is not UNSET else ReportData()
        report = before.with_chunk(done.all_job_ids, groups or {})
        self.document = replace(now, open=rest, totals=now.totals + counts, report=report)
        self.obsolete += [left_job_name(done.number, when) for when in done.submission_times()]
        if done.has_partial_results:
            self.obsolete += partial_names(done.number, len(done.rounds))

    def _replace(self, chunk: Chunk, key: int | None, **changes: object) -> Chunk:
        """Change one of the submissions of a chunk."""
        last, target = chunk.rounds[-1], chunk.submission(key)
        if not last.pieces:
            return self._set_rounds(chunk, [*chunk.rounds[:-1], replace(last, **changes)])
        pieces = [replace(piece, **changes) if piece is target else piece for piece in last.pieces]
        return self._set_rounds(chunk, [*chunk.rounds[:-1], replace(last, pieces=pieces)])

    def _set_rounds(self, chunk: Chunk, rounds: list[ChunkSubmission]) -> Chunk:
        changed = replace(chunk, rounds=rounds)
        chunks = [changed if other.number == chunk.number else other for other in self.document.open]
        self.document = replace(self.document, open=chunks)
        return changed
