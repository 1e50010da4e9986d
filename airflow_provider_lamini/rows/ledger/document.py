"""The ledger's file: what is in it, and how it is read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from airflow_provider_lamini.rows.columns import ColumnKind  # noqa: TC001 - msgspec reads the annotation
from airflow_provider_lamini.rows.counts import Counts
from airflow_provider_lamini.rows.errors import UnreadableLedgerError
from airflow_provider_lamini.rows.run_files import LEDGER
from airflow_provider_lamini.rows.sources.batch import Cursor

if TYPE_CHECKING:
    from airflow_provider_lamini.rows.storage.folder import OutputFolder

_FORMAT = "lamini-ledger"
_VERSION = 1


class Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a run is. Two tries of one run have the same header, but for its last three fields.

    :param owner: who runs it: Dag, task, run and map index, never the try
    :param settings: a hash of all arguments that decide the results
    :param content: a hash of the input (`survey.Survey.content`)
    :param total: rows of the input
    :param chunk_size: rows of each chunk but the last
    :param stamp: the input's cheap identity (`source.Source.stamp`) when it was surveyed
    :param created_at: when the run began, in seconds since 1970
    :param kinds: what is in each column that is passed through (`survey.Survey.kinds`)
    """

    owner: dict[str, str | int]
    settings: str
    content: str
    total: int
    chunk_size: int
    stamp: str = ""
    created_at: float = 0.0
    kinds: dict[str, ColumnKind] = {}


class Round(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One submission of a chunk, or of those of its rows that failed before.

    :param intended_at: when it was decided on, in seconds since 1970
    :param rows: the rows' numbers in the chunk; ``None`` for all
    :param job_id: the platform's id, once it is known
    :param submitted_at: when the id became known, in seconds since 1970
    """

    intended_at: float
    rows: list[int] | None = None
    job_id: str | None = None
    submitted_at: float | None = None


class Chunk(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A chunk that is begun and not finished.

    :param number: its number, from 0, in the order of the rows
    :param start: the place in the input before its first row
    :param rows: how many rows it has
    :param fingerprint: a hash of its prompts
    :param rounds: its submissions so far, the last one perhaps not yet known to the platform
    :param seal: of the files that hold its rows (`source.Source.seal`); empty where there is none
    """

    number: int
    start: Cursor
    rows: int
    fingerprint: str
    rounds: list[Round] = []
    seal: str = ""

    @property
    def first_row(self) -> int:
        """Index of its first row in the whole input."""
        return self.start.row

    @property
    def state(self) -> Literal["planned", "intended", "submitted"]:
        """How far its last submission is."""
        if not self.rounds:
            return "planned"
        return "intended" if self.rounds[-1].job_id is None else "submitted"

    @property
    def job_id(self) -> str | None:
        """The id of its last submission, once it is known."""
        return self.rounds[-1].job_id if self.rounds else None

    @property
    def retried(self) -> int:
        """How many of its rows were submitted more than once."""
        again = self.rounds[1:]
        if any(each.rows is None for each in again):
            return self.rows
        return len({row for each in again for row in each.rows or ()})


class LedgerDocument(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file.

    :param header: what the run is
    :param writer: the token of the process that may write
    :param generation: how many processes have taken the folder over, one after the other
    :param next: where the next chunk starts
    :param planned: how many chunks were begun
    :param open: those of them that are not finished, in the order of their rows
    :param totals: the rows of finished chunks by outcome
    :param try_began: when this try of the task began, in seconds since 1970
    :param done_before: how many rows were done then
    """

    header: Header
    format: str = _FORMAT
    version: int = _VERSION
    writer: str = ""
    generation: int = 0
    next: Cursor = Cursor()
    planned: int = 0
    open: list[Chunk] = []
    totals: Counts = Counts()
    try_began: float = 0.0
    done_before: int = 0

    @property
    def is_bare(self) -> bool:
        """Whether nothing was submitted yet, so that nothing is lost with it."""
        return self.planned == len(self.open) and not any(chunk.rounds for chunk in self.open)


def load(folder: OutputFolder) -> LedgerDocument | None:
    """Read the ledger of a folder, or ``None`` where there is none.

    :raises UnreadableLedgerError: where the file is not one that this version can read
    """
    try:
        data = folder.read(LEDGER)
    except (FileNotFoundError, NotADirectoryError):
        return None
    place = folder.uri(LEDGER)
    try:
        kind = msgspec.json.decode(data, type=_Kind)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        kind = _Kind()
    if kind.format != _FORMAT:
        raise UnreadableLedgerError(
            f"{place} is not a ledger of this package, or only a piece of one. Choose another folder, or "
            f"look at the "
            "file and remove it."
        )
    if kind.version != _VERSION:
        raise UnreadableLedgerError(
            f"{place} has version {kind.version}, and this version of airflow-provider-lamini reads "
            f"{_VERSION}. "
            "Finish the run with the version that began it, or choose another folder."
        )
    try:
        return msgspec.json.decode(data, type=LedgerDocument)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise UnreadableLedgerError(
            f"{place} is damaged. Choose another folder, or look at the file and remove it."
        ) from None


def difference(found: Header, wanted: Header) -> str:
    """What a folder holds instead of what is wanted, for a person.

    :param found: the run that the folder holds
    :param wanted: the run that is to go on there
    :returns: empty where it is the same
    """
    if found.owner != wanted.owner:
        return f"{owner_in_words(found.owner)}, not of {owner_in_words(wanted.owner)}"
    if (found.content, found.total) != (wanted.content, wanted.total):
        return f"this task and run with another input ({found.total} rows then, {wanted.total} now)"
    if (found.settings, found.chunk_size) != (wanted.settings, wanted.chunk_size):
        return "this task and run with other settings"
    return ""


def owner_in_words(owner: dict[str, str | int]) -> str:
    """Who runs a run, for a person.

    :param owner: as in the header
    """
    return ", ".join(f"{name} {value}" for name, value in owner.items())


class _Kind(msgspec.Struct):
    format: str = ""
    version: int = 0
