"""Results on their way out: what a chunk's rows came to, and the files that it becomes.

A finished chunk is one file ``part-00000.jsonl`` with a line per input row, in their order::

    {"index": 0, <the columns passed through>, "output": ..., "finish_reason": "stop", "error": null}

``index`` counts the rows of the whole input from 0. All keys are on every line. ``error`` is null where
the row has an output, and else a text, with ``output`` null; ``finish_reason`` is null where the platform
gave none. Rows that failed are repeated in ``errors-00000.jsonl`` as ``{"index", <the columns passed
through>, "error"}``, a file which is there only where there are such rows. Prompts are in neither, unless
their columns are passed through.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_provider_lamini.rows.columns import column_of
from airflow_provider_lamini.rows.errors import ColumnError, OutputError
from airflow_provider_lamini.rows.output.chunk_result import ChunkResult
from airflow_provider_lamini.rows.run_files import errors_name, part_name, stage_name
from airflow_provider_lamini.rows.values import kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import Self

    from airflow_provider_lamini.api.call import Json
    from airflow_provider_lamini.rows.ledger.ledger import Ledger
    from airflow_provider_lamini.rows.storage.folder import OutputFolder
    from airflow_provider_lamini.rows.values import Row

RESERVED = ("index", "output", "finish_reason", "error")
"""Keys of a line that no column that is passed through may have."""


_LINES = 1000


def check_passthrough(columns: object, reserved: Sequence[str] = RESERVED) -> tuple[str, ...]:
    """Check the columns that go into the output beside the answer.

    :param columns: their names, a list
    :param reserved: names that the output has itself
    :return: the same
    :raises ColumnError: for names that are no texts, that occur twice, or that a line has for itself
    """
    if columns is None:
        return ()
    if isinstance(columns, str) or not isinstance(columns, (list, tuple)):
        raise ColumnError(f"passthrough is {kind(columns)}. Give a list of columns, such as ['id'].")
    for column in columns:
        if not isinstance(column, str) or not column:
            raise ColumnError(f"passthrough has an entry {kind(column)} that is no name of a column.")
        if column in reserved:
            raise ColumnError(
                f"passthrough: the output has a {column!r} of its own. Rename that column of the input. "
                f"Reserved are: {', '.join(reserved)}."
            )
        if columns.count(column) > 1:
            raise ColumnError(f"passthrough names the column {column!r} more than once.")
    return tuple(columns)


class PartWriter:
    """Writes finished chunks into a folder, each part as JSON Lines.

    :param folder: the folder
    :param passthrough: columns that go into the output, already checked
    """

    suffix = "jsonl"
    """How the names of parts end."""
    reserved: tuple[str, ...] = RESERVED
    """What a part has beside the columns that are passed through: ``index`` before them, the rest after."""

    def __init__(self, folder: OutputFolder, passthrough: Sequence[str] = ()) -> None:
        self._folder = folder
        self._columns = check_passthrough(list(passthrough), self.reserved)
        self._encoder = msgspec.json.Encoder()
        self._line = _line_type("Line", self._columns, self.reserved[1:])
        self._error = _line_type("ErrorLine", self._columns, ("error",))

    @classmethod
    def of_run(cls, folder: OutputFolder, passthrough: Sequence[str], ledger: Ledger) -> Self:  # noqa: ARG003
        """A writer for a run that may have been begun.

        :param folder: the folder
        :param passthrough: columns that go into the output, already checked
        :param ledger: the run's
        """
        return cls(folder, passthrough)

    def write(self, number: int, first_row: int, rows: Sequence[Row], result: ChunkResult) -> None:
        """Write a chunk's part and, where rows failed, its errors. Writing it again gives the same files.

        :param number: the chunk's number
        :param first_row: index of its first row
        :param rows: its rows, as they were read
        :param result: what they came to
        :raises OutputError: where these are not equally many, or the folder cannot be written to
        """
        if len(rows) != len(result):
            raise OutputError(f"Chunk {number} has {len(rows)} rows, but results for {len(result)}.")
        columns = [column_of(rows, column) for column in self._columns]
        failed = result.failed
        if failed:
            # Before the part: where a part is, its errors are.
            bad = (
                self._error(first_row + at, *(column[at] for column in columns), result.errors[at])
                for at in failed
            )
            self._folder.write(errors_name(number), self._encoded(bad))
        else:
            self._folder.delete(errors_name(number))
        self._folder.write(part_name(number, self.suffix), self._part(first_row, columns, result))

    def sums(self, result: ChunkResult) -> dict[str, float]:  # noqa: ARG002 - there is nothing by default
        """What is worth summing over the rows of a chunk, for the ledger."""
        return {}

    def _part(
        self, first_row: int, columns: Sequence[Sequence[Json]], result: ChunkResult
    ) -> bytes | Iterator[bytes]:
        """The content of a part.

        :param first_row: index of its first row
        :param columns: the columns that are passed through
        :param result: what its rows came to
        """
        # Done by C throughout: a million rows pass here.
        indices = range(first_row, first_row + len(result))
        return self._encoded(map(self._line, indices, *columns, *self._answers(result)))

    def _answers(self, result: ChunkResult) -> tuple[Sequence[object], ...]:
        """The columns after those that are passed through."""
        return result.outputs, result.finish_reasons, result.errors

    def save_partial(self, number: int, rounds: int, result: ChunkResult) -> None:
        """Keep what a chunk's rounds have brought so far, before the rows that failed are sent again.

        :param number: the chunk's number
        :param rounds: how many rounds that is
        :param result: what they brought
        """
        self._folder.write(stage_name(number, rounds), self._encoder.encode(result))

    def load_partial(self, number: int, rounds: int, rows: int) -> ChunkResult | None:
        """What was kept by `save_partial`, or ``None`` where nothing was.

        :param number: the chunk's number
        :param rounds: how many rounds it had then
        :param rows: how many rows it has
        :raises OutputError: for a file that is not ours
        """
        name = stage_name(number, rounds)
        try:
            result = msgspec.json.decode(self._folder.read(name), type=ChunkResult)
        except FileNotFoundError:
            return None
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise OutputError(
                f"{self._folder.uri(name)} is damaged. Remove it; its rows are then sent again."
            ) from None
        if len(result) != rows:
            raise OutputError(
                f"{self._folder.uri(name)} has {len(result)} rows instead of {rows}. Remove it."
            )
        return result

    def delete_partial(self, number: int, rounds: int) -> None:
        """Remove what was kept for a chunk, once it is finished.

        :param number: the chunk's number
        :param rounds: how many rounds it had
        """
        for done in range(rounds + 1):
            self._folder.delete(stage_name(number, done))

    def _encoded(self, lines: Iterable[msgspec.Struct]) -> Iterator[bytes]:
        left = iter(lines)
        while several := list(islice(left, _LINES)):
            yield self._encoder.encode_lines(several)


@lru_cache(16)
def _line_type(name: str, columns: tuple[str, ...], last: tuple[str, ...]) -> Callable[..., msgspec.Struct]:
    """A class whose instances are encoded as a line with these columns: far faster than dictionaries."""
    fields = [f"column_{number}" for number in range(len(columns))]
    return msgspec.defstruct(
        name,
        [("index", int), *((field, Any) for field in (*fields, *last))],
        rename=dict(zip(fields, columns, strict=True)),
        gc=False,
    )
