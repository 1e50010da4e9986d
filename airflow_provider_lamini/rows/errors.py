"""Errors about rows, files of rows and output folders.

::

    RowError
      InputError              the input cannot be read as rows at all
        InputChangedError     the input is not the one that the run started with
        InputMissingError     a file of it does not exist
        InputUnavailableError its database does not answer
      BadRowError             one row, or one line of a file, cannot be used
        NoPromptError         one of the texts that it sends is blank
        NoExpectedAnswerError it has no answer to compare with
      ColumnError             the name or the type of a column cannot be used
        MissingColumnError    a column does not exist
      OutputError             the output folder cannot be used
        ConcurrentAccessError another process works there
          FolderBusyError     it does not finish in time
        IncompleteOutputError parts of a finished run are missing or damaged
        LedgerError           the ledger of the folder does not allow the task to continue
          LedgerConflictError   the folder belongs to another run, input, settings or task
          LedgerLostError       another process has acquired the ledger (also a ConcurrentAccessError)
          UnreadableLedgerError this release cannot read the ledger
      StoreRefusedError       a store does not permit reading or writing; it may have permitted it before
        InputRefusedError     it is the input's (also an InputError)
        OutputRefusedError    it is the output's (also an OutputError)
        TemporaryDiskError    it is the worker's disk for temporary files
      MissingExtraError       a file format needs an extra of this package

Messages name the file, the line or row and the column, and say what is wrong and what to do. They never contain the
content of a row. A retry helps after a `ConcurrentAccessError`, an `InputUnavailableError` or a `StoreRefusedError` that may
pass, and once a run has begun, after an `InputMissingError`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_lamini.wording import short_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Self

    from airflow_provider_lamini.api.call import Json

_MAX_COLUMNS = 50


def list_columns(columns: Sequence[str]) -> str:
    """The columns that exist, as a sentence."""
    more = ", ..." if len(columns) > _MAX_COLUMNS else ""
    return f"Existing columns: {', '.join(map(short_name, columns[:_MAX_COLUMNS])) or 'none'}{more}."


class RowError(ValueError):
    """Rows cannot be read, or results cannot be written."""


class InputError(RowError):
    """The input cannot be read as rows at all: the input or the argument is wrong."""


class InputChangedError(InputError):
    """The input is not the one that the run started with, so the finished results do not match the remaining rows."""


class BadRowError(RowError):
    """One row, or one line of a file, cannot be used. A retry does not help until it is corrected.

    :param message: what is wrong, and where
    :param rest: the values of the row that can be used, if only some cannot
    """

    reason = "bad_row"
    """Why, as a `FailureReason`."""

    def __init__(self, message: str, rest: Mapping[str, Json] | None = None) -> None:
        super().__init__(message)
        self.rest = dict(rest or {})


class NoPromptError(BadRowError):
    """One of the texts that a row sends is blank."""

    reason = "no_prompt"


class NoExpectedAnswerError(BadRowError):
    """A row has no expected answer to compare with."""

    reason = "no_expected_answer"


class ColumnError(RowError):
    """The name or the type of a column cannot be used."""


class MissingColumnError(ColumnError):
    """A column does not exist."""

    location: str = ""
    """The file or the row."""
    column: str = ""
    """The missing column."""
    columns: tuple[str, ...] = ()
    """The columns that exist."""

    @classmethod
    def of(cls, location: str, column: str, columns: Iterable[str]) -> Self:
        """Create the error.

        :param location: the file or the row
        :param column: the missing column
        :param columns: the columns that exist
        """
        names = tuple(columns)
        error = cls(f"{location} has no column {short_name(column)!r}. {list_columns(names)}")
        error.location, error.column, error.columns = location, column, names
        return error


class OutputError(RowError):
    """The output folder, or a file in it, cannot be used."""


class ConcurrentAccessError(OutputError):
    """Another process works in the same folder. Neither the folder nor the arguments are wrong."""


class FolderBusyError(ConcurrentAccessError):
    """Another process works in the folder and has not finished in time. A later retry helps."""


class IncompleteOutputError(OutputError):
    """The results in a folder are incomplete: the run has not ended, or somebody has removed or changed files."""


class LedgerError(OutputError):
    """The ledger of an output folder does not allow the task to continue."""


class LedgerConflictError(LedgerError):
    """The folder holds the results of another run, input or settings, or another task has taken it. Nothing was changed."""


class LedgerLostError(LedgerError, ConcurrentAccessError):
    """Another process has acquired the ledger. This process must stop, and changes nothing any more."""


class UnreadableLedgerError(LedgerError):
    """The ledger is damaged, not one of this package, or written by a newer release. Nothing was changed."""


class StoreRefusedError(RowError):
    """A store does not permit reading or writing, or there is no usable connection to it."""

    may_pass: bool = False
    """Whether the store's reason goes away by itself, such as credentials that have expired."""

    @classmethod
    def of(cls, message: str, error: OSError) -> Self:
        """Create the error.

        :param message: which file or folder, and what to do
        :param error: the store's error
        """
        refused = cls(message)
        response = getattr(error.__cause__, "response", None)
        code = response.get("Error", {}).get("Code") if isinstance(response, dict) else None
        refused.may_pass = code in _PASSING_CODES
        return refused


_PASSING_CODES = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "RequestExpired",
        "RequestTimeTooSkewed",
        "TokenRefreshRequired",
    }
)
"""Codes of object stores for a refusal of credentials that are renewed, or of a clock that is corrected."""


class TemporaryDiskError(StoreRefusedError):
    """The disk for temporary files on the worker is full, or cannot be used. Another worker may have space."""

    may_pass = True


class InputMissingError(InputError):
    """A file of the input does not exist, or no file matches it."""


class InputUnavailableError(InputError):
    """The database of the input cannot be reached, or has failed. A later retry may help."""


class InputRefusedError(InputError, StoreRefusedError):
    """The store of the input does not permit reading it."""


class OutputRefusedError(OutputError, StoreRefusedError):
    """The store of the output does not permit reading or writing there."""


class MissingExtraError(RowError):
    """A file format needs a package that is not installed."""
