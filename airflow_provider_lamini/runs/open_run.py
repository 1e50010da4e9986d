"""A run over rows while a task works on it: its input, its output and its ledger."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from airflow_provider_lamini.exceptions import BudgetExceededError, TooManyFailedRowsError
from airflow_provider_lamini.rows.batch import SourceChunk
from airflow_provider_lamini.rows.columns import Table, column_of
from airflow_provider_lamini.rows.counts import Counts, describe_failures
from airflow_provider_lamini.rows.errors import (
    BadRowError,
    ColumnError,
    InputChangedError,
    InputError,
    InputMissingError,
    InputRefusedError,
)
from airflow_provider_lamini.rows.hashes import digest, fingerprint, row_keys
from airflow_provider_lamini.rows.output.chunk_result import ChunkResult
from airflow_provider_lamini.rows.prompts.screening import screen
from airflow_provider_lamini.rows.sources.chunk_reader import ChunkReader
from airflow_provider_lamini.rows.sources.validation import needed_columns
from airflow_provider_lamini.rows.storage.run_files import LEDGER, keys_name
from airflow_provider_lamini.wording import counted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_provider_lamini.rows.batch import Position
    from airflow_provider_lamini.rows.failures import RowFailure
    from airflow_provider_lamini.rows.ledger.document import Chunk, ChunkSubmission
    from airflow_provider_lamini.rows.ledger.ledger import Ledger
    from airflow_provider_lamini.rows.output.reuse import EarlierResult, EarlierRun
    from airflow_provider_lamini.rows.sources.source import Source
    from airflow_provider_lamini.rows.storage.folder import OutputFolder
    from airflow_provider_lamini.rows.values import Row
    from airflow_provider_lamini.runs.row_run_config import RowRunConfig

OWNERSHIP_CHECK_INTERVAL = 1.0
"""Seconds between two checks, before something that can be repeated, that no other process has acquired the ledger."""

CURRENT_CHECK_INTERVAL = 5.0
"""Seconds between two checks whether the input is unchanged: on an object store while a task waits in its worker, and on any
storage while it sends direct requests."""

LAST_CHECK = 0.5
"""Seconds before the end of a run within which such a check counts as the last one, on an object store."""

PASSTHROUGH_CACHE_BYTES = 16 * 1024 * 1024
"""Size of the cache of passthrough columns of a task that waits in its worker. Chunks that do not fit are read again."""

_CHANGED = (
    "The input (or max_prompt_chars) was changed while the task ran; nothing more was sent. Restore it and clear the task, or "
    "process the new input with another output folder."
)


class ChunkRows(NamedTuple):
    """The rows of a chunk, with their prompts.

    :param start: position of the first row
    :param after: position after the last row
    :param rows: the rows
    :param prompts: their prompts; empty for rows that cannot be sent
    :param keys: hashes of the prompts (`row_keys`)
    :param failures: why rows cannot be sent, by offset
    :param reused: results of an earlier run for rows that need not be sent, by offset
    """

    start: Position
    after: Position
    rows: Sequence[Row]
    prompts: list[str]
    keys: bytes
    failures: Mapping[int, RowFailure]
    reused: Mapping[int, EarlierResult]

    @property
    def sendable(self) -> list[int] | None:
        """Offsets of the rows to send; ``None`` for all."""
        if not self.failures and not self.reused:
            return None
        return [
            offset
            for offset in range(len(self.rows))
            if offset not in self.failures and offset not in self.reused
        ]

    def result(self) -> ChunkResult:
        """The result of the chunk before anything is sent."""
        result = ChunkResult.pending(len(self.rows))
        for offset, failure in self.failures.items():
            result.fail(offset, failure)
        for offset, earlier in self.reused.items():
            result.settle(offset, earlier.output, earlier.finish_reason)
            if earlier.reasoning is not None:
                result.reasoning[offset] = earlier.reasoning
        result.reused = len(self.reused)
        return result

    @property
    def fingerprint(self) -> str:
        """Hash of the prompts."""
        return fingerprint(self.keys)


class PassthroughCache:
    """Keeps the passthrough columns of chunks until their results arrive, so that the input is read once.

    Columns are encoded: a chunk of numbers takes a tenth of the memory of Python objects.

    :param columns: the passthrough columns
    :param max_bytes: maximum size of all encoded chunks together; 0 turns the cache off
    """

    def __init__(self, columns: Sequence[str], max_bytes: int) -> None:
        self._columns = columns
        self._free_bytes = max_bytes
        self._chunks: dict[int, tuple[int, bytes]] = {}

    def put(self, number: int, rows: Sequence[Row]) -> None:
        """Keep the rows of a chunk, if they fit.

        :param number: the chunk's number
        :param rows: its rows, at least one
        """
        # Estimate from one row first: encoding rows that do not fit would cost as much as reading them again.
        if len(self._encode(rows[:1])) * len(rows) > self._free_bytes:
            return
        encoded = self._encode(rows)
        if 0 < len(encoded) <= self._free_bytes:
            self._free_bytes -= len(encoded)
            self._chunks[number] = len(rows), encoded

    def pop(self, number: int) -> Table | None:
        """Remove the rows of a chunk from the cache and return them; ``None`` if they are not in it."""
        count, encoded = self._chunks.pop(number, (0, b""))
        self._free_bytes += len(encoded)
        if not encoded:
            return None
        columns = msgspec.msgpack.decode(encoded)
        return Table(dict(zip(self._columns, columns, strict=True)), count)

    def _encode(self, rows: Sequence[Row]) -> bytes:
        """Encode the columns of some rows; empty if they contain an integer with more than 64 bits."""
        try:
            return msgspec.msgpack.encode([list(column_of(rows, column)) for column in self._columns])
        except OverflowError:
            return b""


class OpenRun:
    """The input, output and ledger of a run that this process works on. Created by `opening.open_run`.

    :param config: the settings
    :param source: the input
    :param folder: the output
    :param ledger: the ledger, acquired by this process
    :param input_version: the input's version when it was opened
    :param cache_bytes: memory for passthrough columns of submitted chunks, so that they are not read again
    :param earlier: the run whose results are reused

    :ivar source: the input
    :ivar folder: the output
    :ivar ledger: the ledger
    :ivar writer: writes the parts
    """

    def __init__(
        self,
        config: RowRunConfig,
        source: Source,
        folder: OutputFolder,
        ledger: Ledger,
        *,
        input_version: str,
        cache_bytes: int,
        earlier: EarlierRun | None = None,
    ) -> None:
        self._config = config
        self.source = source
        self._input_version = input_version
        self._checked_at = time.monotonic()
        self._is_current = True
        self.folder = folder
        self.ledger = ledger
        self.writer = config.writer.for_run(
            folder, config.passthrough, ledger.totals, ledger.header.column_kinds
        )
        columns = needed_columns(config.prompt, config.passthrough)
        # Two readers: reading a planned chunk again must not move the position of the next one.
        self._upcoming = ChunkReader(source, columns)
        self._planned = ChunkReader(source, columns)
        self._cache = PassthroughCache(config.passthrough, cache_bytes)
        self._earlier = earlier

    def is_current(self, max_age: float = 0.0) -> bool:
        """Whether the input is unchanged and the ledger still exists. Otherwise the run must be opened again.

        :param max_age: do not check if this was checked less than so many seconds ago
        """
        now = time.monotonic()
        if self._is_current and now - self._checked_at >= max_age:
            self._checked_at = now
            self._is_current = self.source.version() == self._input_version and self.folder.exists(LEDGER)
        return self._is_current

    def close(self) -> None:
        """Close the input. Reading again opens it again."""
        self._upcoming.close()
        self._planned.close()

    def end(self) -> None:
        """Close everything. The run must not be used any more."""
        self.close()
        if self._earlier is not None:
            self._earlier.close()

    def upcoming(self) -> ChunkRows | None:
        """Read the rows of the next chunk; ``None`` if all rows are in chunks.

        :raises InputChangedError: if rows are missing, or one cannot be sent although all could when the input was validated
        """
        document = self.ledger.document
        if document.exhausted:
            return None
        size = min(document.chunk_size, document.header.total_rows - document.next.row)
        chunk = self._read(self._upcoming, document.next, size)
        if len(chunk.rows) < size:
            raise InputChangedError(
                f"{self.source.describe()} had {counted(document.header.total_rows, 'row')} when the task began, and now it has "
                f"{chunk.start.row + len(chunk.rows)}. {_CHANGED}"
            )
        found = self._screened(chunk)
        if found.failures and not self._config.keep_bad_rows:
            offset, failure = min(found.failures.items())
            raise InputChangedError(
                f"Row {found.start.row + offset} of {self.source.describe()} could be sent when the task began, and now it "
                f"cannot: {failure.text}. {_CHANGED}"
            )
        return found

    def _read(self, reader: ChunkReader, start: Position, size: int) -> SourceChunk:
        """Read a chunk, perhaps with fewer rows.

        :raises InputChangedError: if it cannot be read because the input was changed
        """
        try:
            return reader.read(start, size) or SourceChunk(start, start, ())
        except (BadRowError, ColumnError, InputError) as error:
            if isinstance(error, (InputChangedError, InputMissingError, InputRefusedError)):
                raise
            if self.source.version() == self._input_version:
                raise
            raise InputChangedError(f"{error} {_CHANGED}") from None

    def remember(self, chunk: Chunk, rows: Sequence[Row]) -> None:
        """Keep the passthrough columns of a submitted chunk in memory, if they fit.

        :param chunk: the chunk
        :param rows: its rows
        """
        self._cache.put(chunk.number, rows)

    def rows_to_write(self, chunk: Chunk, result: ChunkResult) -> Sequence[Row]:
        """The rows of a planned chunk with at least their passthrough columns, and those of the prompt if a row failed.

        :raises InputChangedError: if they are not the rows that the chunk was planned with
        """
        cached = self._cache.pop(chunk.number)
        return self.read(chunk).rows if cached is None or result.failures else cached

    def read(self, chunk: Chunk) -> ChunkRows:
        """Read the rows of a planned chunk again, with their prompts.

        :raises InputChangedError: if they are not the rows that the chunk was planned with
        """
        screened = self._screened(self._read(self._planned, chunk.start, chunk.rows))
        if screened.fingerprint != chunk.fingerprint:
            raise InputChangedError(
                f"In {self.source.describe()}, the content of {chunk} is not what was sent. {_CHANGED}"
            )
        return screened

    def _screened(self, chunk: SourceChunk) -> ChunkRows:
        config = self._config
        prompts, failures = screen(chunk.rows, chunk.bad, config.prompt, config.max_prompt_chars)
        keys = row_keys(prompts)
        reused: Mapping[int, EarlierResult] = {}
        if self._earlier is not None:
            wanted = [offset for offset in range(len(chunk.rows)) if offset not in failures]
            reused = self._earlier.find(keys, wanted)
        return ChunkRows(chunk.start, chunk.after, chunk.rows, prompts, keys, failures, reused)

    def save_plan(self, upcoming: ChunkRows, *, as_job: bool) -> None:
        """Save what is known about the rows of a chunk before it is planned: their keys, and results to be reused.

        :param upcoming: the rows
        :param as_job: whether the results are needed again when a job has ended, perhaps in another process
        """
        number = self.ledger.document.planned
        self.folder.write_later(keys_name(number), upcoming.keys, durable=False)
        if as_job and upcoming.reused:
            self.writer.save_partial(number, 0, upcoming.result())

    def submission_key(self, chunk: Chunk, submission: ChunkSubmission) -> str:
        """Identify a submission among all of the task's.

        :param chunk: the chunk
        :param submission: one of its submissions, made or about to be
        """
        intended_at = submission.intended_at
        return digest({"output": self.folder.location, "chunk": chunk.number, "intended_at": intended_at})

    def finish_chunk(
        self,
        chunk: Chunk,
        rows: Sequence[Row],
        result: ChunkResult,
        *,
        retried: int = 0,
        sums: Mapping[str, float] | None = None,
        later: bool = False,
    ) -> None:
        """Write the part of a chunk, and record that it is finished. A crash in between writes the part again.

        :param chunk: the chunk
        :param rows: its rows
        :param result: their results
        :param retried: number of rows that were sent more than once within one round
        :param sums: sums over the rows besides those of the writer, such as tokens
        :param later: let the next transaction write the record; the part is there by then
        :raises LedgerLostError: if another process has acquired the ledger
        """
        self.ledger.check_acquired(max_age=OWNERSHIP_CHECK_INTERVAL)
        indices, again = self.source.indices(chunk.first_row, chunk.rows), self.ledger.may_have_part(chunk)
        self.writer.write(chunk.number, indices, rows, result, again=again)
        groups, all_sums = self.writer.groups(result), {**self.writer.sums(result), **(sums or {})}
        counts = result.counts(chunk.retried + retried, all_sums)
        with self.ledger.transaction(later=later) as change:
            change.finish(chunk, counts, groups)

    def pause_chunk(
        self, chunk: Chunk, left: list[int], result: ChunkResult, *, retried: int, sums: Mapping[str, float]
    ) -> None:
        """Save the results of a chunk some of whose rows are not sent for now, and count what they have cost.

        :param chunk: the chunk
        :param left: offsets of the rows that are left
        :param result: the results of the others
        :param retried: number of rows that were sent more than once
        :param sums: sums over the answers, such as tokens
        :raises LedgerLostError: if another process has acquired the ledger
        """
        self.ledger.check_acquired(max_age=OWNERSHIP_CHECK_INTERVAL)
        self.writer.save_partial(chunk.number, 1, result)
        with self.ledger.transaction() as change:
            change.pause(chunk, left, Counts(retried=retried, sums=dict(sums)))

    def paused_result(self, chunk: Chunk) -> ChunkResult | None:
        """What `pause_chunk` has saved; ``None`` if there is nothing.

        :param chunk: the chunk
        """
        return self.writer.load_partial(chunk.number, 1, chunk.rows) if chunk.rounds else None

    def too_many_failed(self, totals: Counts) -> bool:
        """Whether more rows have failed than may.

        :param totals: the rows of all finished chunks by outcome
        """
        return self.over_limit(totals.failed)

    def over_limit(self, failed: int) -> bool:
        """Whether a number of failed rows is more than may fail.

        :param failed: number of rows
        """
        return self._config.failure_limit.exceeded(failed, self.ledger.header.total_rows)

    def check_limits(self) -> None:
        """Compare the failed rows and the used tokens so far with their limits.

        :raises TooManyFailedRowsError: if more rows have failed than may
        :raises BudgetExceededError: if rows are left, and more tokens were used than may be; or if the platform does not say
            how many were used
        """
        ledger = self.ledger
        if not self.too_many_failed(ledger.totals):
            self._check_tokens()
            return
        failed, total = ledger.totals.failed, ledger.header.total_rows
        job_ids = [job_id for chunk in ledger.chunks for job_id in chunk.job_ids]
        running = f" Still running, and billing: {', '.join(job_ids)}." if job_ids else ""
        raise TooManyFailedRowsError(
            f"{failed} of {counted(total, 'row')} failed, and max_failed_rows allows {self._config.failure_limit}. By reason: "
            f"{describe_failures(ledger.totals.failures)}. The files errors-*.jsonl in {self.folder} say why.{running} To "
            "accept the failed rows, raise max_failed_rows and clear the task; only_failed_of of another task sends them again."
        )

    def _check_tokens(self) -> None:
        limit, sums = self._config.budget.tokens, self.ledger.totals.sums
        if limit is None:
            return
        used = sums.get("total_tokens")
        paused = sum(chunk.rows - len(chunk.rows_left) for chunk in self.ledger.chunks if chunk.rounds)
        done, total = self.ledger.totals.rows + paused, self.ledger.header.total_rows
        if not used and self.ledger.totals.reused < self.ledger.totals.ok:
            raise BudgetExceededError(
                f"max_total_tokens cannot be kept: this endpoint reports no tokens. {done} of {total} rows are done and "
                f"kept in {self.folder}. Remove max_total_tokens, perhaps for max_input_chars, and clear the task."
            )
        if used is not None and used >= limit and not self.ledger.finished:
            raise BudgetExceededError(
                f"The run has used {used:.0f} tokens, and max_total_tokens allows {limit}. {done} of {total} rows are done "
                f"and kept in {self.folder}. To send the others, raise max_total_tokens and clear the task."
            )
