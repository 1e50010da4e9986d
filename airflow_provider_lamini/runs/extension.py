"""A run continues with an input that has grown at its end, or was written anew: what was sent stays done."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import msgspec

from airflow_provider_lamini.rows.batch import Position
from airflow_provider_lamini.rows.columns import column_of
from airflow_provider_lamini.rows.errors import IncompleteOutputError, InputChangedError
from airflow_provider_lamini.rows.hashes import KEY_SIZE, row_keys
from airflow_provider_lamini.rows.ledger.document import load
from airflow_provider_lamini.rows.ledger.ledger import Ledger
from airflow_provider_lamini.rows.output.reading import part_rows
from airflow_provider_lamini.rows.prompts.screening import screen
from airflow_provider_lamini.rows.sources.chunk_reader import ChunkReader
from airflow_provider_lamini.rows.sources.validation import needed_columns
from airflow_provider_lamini.rows.storage.run_files import MANIFEST, keys_name, part_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_lamini.rows.batch import SourceChunk
    from airflow_provider_lamini.rows.ledger.document import Header, LedgerDocument
    from airflow_provider_lamini.rows.sources.source import Source
    from airflow_provider_lamini.rows.storage.folder import OutputFolder
    from airflow_provider_lamini.runs.row_run_config import RowRunConfig

_RESTORE = "Nothing more was sent. Restore it, or choose another output folder."
_ADVICE = (
    "With on_changed_input='extend', the rows that were sent must still be the first ones, unchanged and in the same order. "
    "Nothing more was sent. Restore them, or choose another output folder."
)


def extend_run(folder: OutputFolder, config: RowRunConfig, source: Source, header: Header) -> Ledger:
    """Acquire the ledger of a run whose input has changed, and make it that of the new input.

    All rows that are in planned chunks are compared with what was sent: their prompts by the keys of the chunk, and their
    passthrough columns with its part. Jobs that run stay valid. The result is that of a run that begins with the new input.

    :param folder: the output folder, with a ledger of this run
    :param config: the settings, with the prompt for the input's columns
    :param source: the input
    :param header: identifies the run with this input
    :raises InputChangedError: if rows that were sent have changed. Nothing was changed.
    :raises IncompleteOutputError: if nobody can tell
    """
    found = load(folder)
    if found is None:
        raise IncompleteOutputError(
            f"{folder} has no ledger any more: somebody has removed it, and jobs of this run may still run and bill. Restore "
            "it, or choose another output folder."
        )
    check = _SentRows(folder, config, source)
    after, starts = check.positions(found, header)
    ledger = Ledger.resume(folder, header.owner)
    if (
        ledger.document.sizes != found.sizes
    ):  # the process from which this one has taken over has gone on meanwhile
        after, starts = check.positions(ledger.document, header)
    starts = {chunk.number: starts[chunk.number] for chunk in ledger.chunks}
    ledger.check_acquired()
    if header.total_rows > after.row:
        # Without its manifest the run has not ended, whether or not the ledger knows of the new rows yet.
        folder.delete(MANIFEST)
    with ledger.transaction() as change:
        change.extend(header, after, starts)
    return ledger


class _SentRows:
    """Compares rows of the input with those that were sent.

    :param folder: the output folder
    :param config: the settings
    :param source: the input
    """

    def __init__(self, folder: OutputFolder, config: RowRunConfig, source: Source) -> None:
        self._folder = folder
        self._config = config
        self._source = source
        self._reader = ChunkReader(source, needed_columns(config.prompt, config.passthrough))

    def positions(self, document: LedgerDocument, header: Header) -> tuple[Position, dict[int, Position]]:
        """Compare the rows of all planned chunks, and find them in the input.

        :param document: the ledger
        :param header: identifies the run with the new input
        :return: the position behind them, and those of the chunks by their numbers, as far as they are not finished
        :raises InputChangedError: if they are not the rows that were sent
        :raises IncompleteOutputError: if nobody can tell
        """
        self._check_kinds(document, header)
        if header.total_rows < document.next.row:
            limit = "" if self._config.limit_rows is None else " (limit_rows counts)"
            raise InputChangedError(
                f"{self._source.describe()} has fewer than the {document.next.row} rows that were sent before{limit}. {_ADVICE}"
            )
        after, starts = Position(), {}
        unfinished = {chunk.number for chunk in document.open}
        for number, (_, rows) in enumerate(document.parts()):
            found = self._reader.read(after, rows)
            if found is None or len(found.rows) != rows:
                raise InputChangedError(f"{self._source.describe()} was changed while it was read. {_ADVICE}")
            self._compare(number, found, finished=number not in unfinished)
            if number in unfinished:
                starts[number] = found.start
            after = found.after
        self._reader.close()
        return after, starts

    def _check_kinds(self, document: LedgerDocument, header: Header) -> None:
        """Make sure that all parts can have the same types of columns."""
        known = document.header.column_kinds
        changed = [name for name, kind in header.column_kinds.items() if known.get(name, kind) != kind]
        if changed and self._config.writer.suffix == "parquet" and document.planned:
            name = changed[0]
            raise InputChangedError(
                f"The column {name!r} was of the type {known[name]} when rows were sent, and with the new rows it is of the "
                f"type {header.column_kinds[name]}, so parts in Parquet would differ. Nothing more was sent. Convert the new "
                "values, or choose another output folder."
            )

    def _compare(self, number: int, found: SourceChunk, *, finished: bool) -> None:
        """Compare the rows of a chunk.

        :param number: the chunk's number
        :param found: its rows in the input
        :param finished: whether its part is written
        :raises InputChangedError: if they are not the rows that were sent
        """
        config = self._config
        prompts, _ = screen(found.rows, found.bad, config.prompt, config.max_prompt_chars)
        offset = self._other_prompt(number, prompts)
        if offset is None and finished and config.passthrough:
            offset = self._other_columns(number, found)
        if offset is not None:
            raise InputChangedError(
                f"Row {found.start.row + offset} of {self._source.describe()} is not what was sent before. {_ADVICE}"
            )

    def _other_prompt(self, number: int, prompts: Sequence[str]) -> int | None:
        """The first row with another prompt than before; ``None`` if there is none."""
        name = keys_name(number)
        try:
            before = self._folder.read(name)
        except FileNotFoundError:
            raise IncompleteOutputError(
                f"{self._folder.uri(name)} is missing, so nobody can tell whether its rows have changed. Choose another output "
                "folder."
            ) from None
        now = row_keys(prompts)
        if now == before:
            return None
        bounds = pairwise(range(0, len(now) + KEY_SIZE, KEY_SIZE))
        return next(
            (row for row, (begin, end) in enumerate(bounds) if now[begin:end] != before[begin:end]),
            len(prompts),
        )

    def _other_columns(self, number: int, found: SourceChunk) -> int | None:
        """The first row with other passthrough columns than before; ``None`` if there is none."""
        columns = self._config.passthrough
        name = part_name(number, self._config.writer.suffix)
        values = zip(*(column_of(found.rows, column) for column in columns), strict=True)
        try:
            for offset, (row, now) in enumerate(zip(part_rows(self._folder, name), values, strict=True)):
                if tuple(map(row.get, columns)) != now:
                    return offset
        except FileNotFoundError:
            raise IncompleteOutputError(f"{self._folder.uri(name)} is missing. {_RESTORE}") from None
        except (msgspec.MsgspecError, ValueError):
            raise IncompleteOutputError(f"{self._folder.uri(name)} is damaged. {_RESTORE}") from None
        return None
