"""The rows of a chunked operator: where they come from, where their results go, and how many may fail."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_lamini.exceptions import TooManyFailedRowsError
from airflow_provider_lamini.rows.errors import InputChangedError, LedgerError
from airflow_provider_lamini.rows.ledger.document import Header, load
from airflow_provider_lamini.rows.ledger.ledger import Ledger, fingerprint
from airflow_provider_lamini.rows.passthrough_cache import ROOM, PassthroughCache
from airflow_provider_lamini.rows.run_files import LEDGER
from airflow_provider_lamini.rows.sources.chunk_reader import Readers
from airflow_provider_lamini.rows.sources.source import open_source
from airflow_provider_lamini.rows.sources.validation import needed_columns, validate_input
from airflow_provider_lamini.rows.storage.folder import OutputFolder
from airflow_provider_lamini.runs.submission_record import digest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from contextlib import ExitStack

    from airflow_provider_lamini.api.call import PromptList
    from airflow_provider_lamini.rows.failure_limit import FailureLimit
    from airflow_provider_lamini.rows.ledger.document import Chunk
    from airflow_provider_lamini.rows.output.chunk_result import ChunkResult
    from airflow_provider_lamini.rows.output.parts import PartWriter
    from airflow_provider_lamini.rows.prompt import PromptTemplate
    from airflow_provider_lamini.rows.sources.batch import SourceChunk
    from airflow_provider_lamini.rows.sources.source import Source
    from airflow_provider_lamini.rows.values import Row
    from airflow_provider_lamini.runs.outcome import Log


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Where rows come from and where their results go.

    :param readers: read the input
    :param remembered: what goes into the output, of chunks that this process has begun
    :param stamp: the input's, when it was opened
    :param prompt: how a row becomes a prompt
    :param passthrough: columns that go into the output
    :param folder: the output
    :param ledger: what is done
    :param writer: writes the parts
    """

    readers: Readers
    remembered: PassthroughCache
    stamp: str
    prompt: PromptTemplate
    passthrough: Sequence[str]
    folder: OutputFolder
    ledger: Ledger
    writer: PartWriter

    @property
    def source(self) -> Source:
        """The input."""
        return self.readers.source

    def go_on(self, inside: ExitStack) -> bool:
        """Take the run up again in the process that has it open.

        :param inside: is entered where this becomes the only process that works in the output folder
        :return: whether it can be; else the input has changed, or the ledger is gone, and it must be opened anew
        :raises LedgerTakenError: where another process has taken it over
        """
        if self.source.stamp() != self.stamp or not self.folder.exists(LEDGER):
            return False
        inside.enter_context(self.folder.lock())
        self.ledger.check()
        if not self.source.stays_open:
            self.readers.let_go()
        return True

    def passthrough_rows(self, chunk: Chunk) -> Sequence[Row]:
        """The rows of a chunk that was begun, with no more than what goes into the output.

        :raises InputChangedError: where they are no longer those that the chunk was begun with
        """
        remembered = self.remembered.take(chunk.number)
        if remembered is not None:
            return remembered
        if chunk.seal:
            # Nobody has written to the file since the prompts were made: to make them again would prove nothing.
            found = self.readers.through.read(chunk.start)
            if found and self.source.seal(found.start, found.after) == chunk.seal:
                return found.rows
        return self.read(chunk)[0]

    def read(self, chunk: Chunk) -> tuple[Sequence[Row], PromptList]:
        """The rows of a chunk that was begun, and their prompts.

        :raises InputChangedError: where they are no longer those that the chunk was begun with
        """
        found = self.readers.again.read(chunk.start)
        rows = found.rows if found else ()
        prompts = self.prompt.render_all(rows)
        if fingerprint(prompts) != chunk.fingerprint:
            raise InputChangedError(
                f"In {self.source.describe()}, {chunk_name(chunk)} are not the ones that were sent: the input was changed "
                "while the task ran. Nothing more was sent. Bring the old input back, or run the new one into "
                "another output folder."
            )
        return rows, prompts

    def coming(self) -> tuple[SourceChunk, PromptList] | None:
        """The rows that come next, and their prompts; ``None`` where all are in chunks. `begin` begins the chunk."""
        if self.ledger.exhausted:
            return None
        found = self.readers.ahead.read(self.ledger.cursor)
        return (found, self.prompt.render_all(found.rows)) if found else None

    def begin(self, found: SourceChunk, prompts: PromptList) -> Chunk:
        """Record that the chunk that comes next is begun.

        :param found: its rows
        :param prompts: their prompts
        """
        seal = self.source.seal(found.start, found.after)
        return self.ledger.plan(found.start, found.after, fingerprint(prompts), seal)

    @contextmanager
    def finishing(
        self, chunk: Chunk, rows: Sequence[Row], result: ChunkResult, retried: int
    ) -> Iterator[None]:
        """Write a chunk's part and record that it is done, with whatever the block changes in the ledger.

        :param chunk: the chunk
        :param rows: its rows
        :param result: what they came to
        :param retried: how many of them were sent more than once
        """
        self.ledger.check()
        self.writer.write(chunk.number, chunk.first_row, rows, result)
        with self.ledger.together():
            self.ledger.finish(chunk, result.counts(retried, self.writer.sums(result)))
            yield
        self.writer.delete_partial(chunk.number, len(chunk.rounds))


def open_rows(
    given: object,
    output: str,
    *,
    prompt: PromptTemplate,
    max_prompt_chars: int | None,
    passthrough: Sequence[str],
    writer: type[PartWriter],
    owner: dict[str, str | int],
    decides: Mapping[str, object],
    chunk_size: int,
    replace_other: bool,
    woken: bool,
    stays: bool,
    input_conn_id: str | None,
    output_conn_id: str | None,
    inside: ExitStack,
    log: Log,
) -> Rows:
    """Open the input and the output of a task, and take the ledger over.

    At the beginning of a run the whole input is read once and checked. A later try finds that in the ledger.

    :param given: the task's input
    :param output: the output folder
    :param prompt: how a row becomes a prompt
    :param max_prompt_chars: characters of the longest prompt that is allowed
    :param passthrough: columns that go into the output
    :param writer: writes the parts
    :param owner: who runs: Dag, task, run and map index
    :param decides: all arguments that decide the results
    :param chunk_size: rows per chunk
    :param replace_other: remove another run's results, where the folder holds such, instead of failing
    :param woken: whether the task goes on after a deferral: then its run must be there already
    :param stays: whether this process waits for its jobs itself
    :param input_conn_id: the connection for the input's object storage
    :param output_conn_id: the connection for the output's object storage
    :param inside: is entered where this becomes the only process that works in the output folder
    :param log: the task's log
    :raises RowError: where the input or the output cannot be used
    """
    source = open_source(given, conn_id=input_conn_id)
    folder = OutputFolder(output, output_conn_id)
    folder.check_apart(source)
    settings = digest(decides)
    stamp = source.stamp()
    found = load(folder)
    known = found and (found.header.owner, found.header.settings, found.header.chunk_size, found.header.stamp)
    if known == (owner, settings, chunk_size, stamp):
        inside.enter_context(folder.lock())
        ledger = Ledger.resume(folder, owner)
        if ledger.totals.rows:
            log.info("%d of %d rows were done before.", ledger.totals.rows, ledger.header.total)
    elif woken and found is None:
        # Beginning anew here would submit everything again at each waking, for as long as the task lives.
        raise LedgerError(
            f"The run that this task has begun is not in {folder}; its jobs may still run and bill. Somebody removed it, or "
            "the output folder is another than before the task was deferred: keep clocks and chance out of its template."
        )
    else:
        seen = validate_input(source, prompt, passthrough=passthrough, max_prompt_chars=max_prompt_chars)
        header = Header(owner, settings, seen.content, seen.total, chunk_size, stamp, kinds=seen.kinds)
        inside.enter_context(folder.lock())
        ledger = Ledger.open(folder, header, if_other="replace" if replace_other and not woken else "fail")
        log.info("Read %s: %d rows. The output goes to %s.", source.describe(), seen.total, folder)
    return Rows(
        readers=Readers(source, chunk_size, needed_columns(prompt, passthrough), passthrough),
        remembered=PassthroughCache(passthrough, ROOM if stays else 0),
        stamp=stamp,
        prompt=prompt,
        passthrough=passthrough,
        folder=folder,
        ledger=ledger,
        writer=writer.of_run(folder, passthrough, ledger),
    )


class Failures:
    """Ends a run when too many of its rows have failed.

    :param rows: input, output and ledger
    :param limit: how many rows may fail
    """

    def __init__(self, rows: Rows, limit: FailureLimit) -> None:
        self._rows = rows
        self._limit = limit

    @property
    def exceeded(self) -> bool:
        """Whether more rows have failed so far than may."""
        ledger = self._rows.ledger
        return self._limit.exceeded(ledger.totals.failed, ledger.header.total)

    def check(self) -> None:
        """Compare what has failed so far with the limit.

        :raises TooManyFailedRowsError: where it is exceeded
        """
        if not self.exceeded:
            return
        ledger = self._rows.ledger
        failed, total = ledger.totals.failed, ledger.header.total
        under_way = [chunk.job_id for chunk in ledger.chunks if chunk.job_id]
        running = f" Still running, and billing: {', '.join(under_way)}." if under_way else ""
        raise TooManyFailedRowsError(
            f"{failed} of {total} rows failed, and max_failed_rows allows {self._limit}. Why each of them failed "
            f"is in errors-*.jsonl in {self._rows.folder}.{running} Raise max_failed_rows and clear the task to accept "
            "them; choose another folder to send rows again."
        )


def chunk_name(chunk: Chunk) -> str:
    """A chunk for a message: the first and the last of its rows."""
    return f"rows {chunk.first_row} to {chunk.first_row + chunk.rows - 1}"
