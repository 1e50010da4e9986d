"""What can be wrong with rows, files of rows and folders of results.

::

    RowError
      InputError              the input cannot be read as rows at all
        InputChangedError     the input is not the one that the run began with
      BadRowError             one row, or one line of a file, cannot be used
      ColumnError             the name of a column cannot be used
        MissingColumnError    a column that is asked for is not there
      OutputError             the output folder cannot be used
        ConcurrentAccessError     another process works in the same place
          FolderBusyError     it does not leave in time
        IncompleteOutputError parts of a finished run are missing or damaged
        LedgerError           the ledger of the folder
          LedgerConflictError   the folder belongs to another run, input or settings
          LedgerLostError      another process has taken the folder over (also an ConcurrentAccessError)
          UnreadableLedgerError the file is not a ledger that this version can read
      MissingExtraError       a file format needs an extra of this package

Messages name the file, the line or row, the column, what is wrong and what to do. They never hold a row's
content. None of them passes by itself, except `ConcurrentAccessError`: nothing is wrong with what was given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Self

_SHOWN = 50
_LONGEST = 60


def listed(columns: Sequence[str]) -> str:
    """The columns that are there, as a sentence."""
    more = ", ..." if len(columns) > _SHOWN else ""
    return f"Columns there: {', '.join(map(short, columns[:_SHOWN])) or 'none'}{more}."


def short(name: str) -> str:
    """The name of a column for a message: on one line, and no longer than names are.

    Of a file without a header line, what stands in the place of names is data.

    :param name: the column
    """
    text = name if name.isprintable() else ascii(name)[1:-1]
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


class RowError(ValueError):
    """Rows cannot be read, or results cannot be kept."""


class InputError(RowError):
    """The input cannot be read as rows at all: the input or the argument is wrong."""


class InputChangedError(InputError):
    """The input is no longer the one that the run began with, so what is done does not fit what is left."""


class BadRowError(RowError):
    """One row, or one line of a file, cannot be used. Repeating does not help before it is corrected."""


class ColumnError(RowError):
    """The name, or the type, of a column cannot be used."""


class MissingColumnError(ColumnError):
    """A column that is asked for is not there."""

    place: str = ""
    """The file or the row."""
    column: str = ""
    """The column."""
    columns: tuple[str, ...] = ()
    """The columns that are there."""

    @classmethod
    def of(cls, place: str, column: str, available: Iterable[str]) -> Self:
        """Say which column is missing where.

        :param place: the file or the row
        :param column: the column
        :param available: the columns that are there
        """
        columns = tuple(available)
        error = cls(f"{place} has no column {short(column)!r}. {listed(columns)}")
        error.place, error.column, error.columns = place, column, columns
        return error


class OutputError(RowError):
    """The output folder, or a name in it, cannot be used."""


class ConcurrentAccessError(OutputError):
    """Another process works in the same place. Nothing is wrong with the place, or with what was given."""


class FolderBusyError(ConcurrentAccessError):
    """Another process works in the folder, and has not left it in time. Retrying later helps."""


class IncompleteOutputError(OutputError):
    """The results in a folder are not whole: the run has not ended, or somebody removed or changed files."""


class LedgerError(OutputError):
    """The ledger of an output folder does not allow to go on."""


class LedgerConflictError(LedgerError):
    """The folder holds the results of another run, input or settings. Nothing was changed."""


class LedgerLostError(LedgerError, ConcurrentAccessError):
    """Another process has opened the same ledger since. This one must stop; it changes nothing any more."""


class UnreadableLedgerError(LedgerError):
    """The ledger file is torn, foreign or written by a newer version. Nothing was changed."""


class MissingExtraError(RowError):
    """A file format needs a package that is not installed."""
