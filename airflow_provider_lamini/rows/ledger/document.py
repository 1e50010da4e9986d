"""The content of the ledger file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeVar

import msgspec

from airflow_provider_lamini.rows.batch import Position
from airflow_provider_lamini.rows.columns import ColumnKind  # noqa: TC001 - msgspec reads the annotation
from airflow_provider_lamini.rows.counts import Counts
from airflow_provider_lamini.rows.errors import LedgerError, UnreadableLedgerError
from airflow_provider_lamini.rows.formats import (
    PACKAGE,
    DamagedFileError,
    FileFormat,
    NewerFormatError,
    UnknownFormatError,
)
from airflow_provider_lamini.rows.storage.run_files import LEDGER

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from airflow_provider_lamini.rows.storage.folder import OutputFolder

FORMAT = FileFormat(f"{PACKAGE}/ledger", 1)

State = Literal["planned", "intended", "submitted"]

T = TypeVar("T", "LedgerDocument", "LedgerOwner")


class Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Identifies a run. Two tries of one run have the same owner, fingerprint and rows.

    :param owner: Dag, task, run and map index of the task; never the try number
    :param fingerprint: hash of the platform and all arguments that decide the results
    :param total_rows: number of rows of the input
    :param chunk_size: rows per chunk, as the task asked for it last
    :param input_version: `Source.version` when the input was validated
    :param created_at: when the run began, as a Unix timestamp
    :param column_kinds: kind of values in each passthrough column (`InputSummary.column_kinds`)
    :param characters: characters of all prompts
    """

    owner: dict[str, str | int]
    fingerprint: str
    total_rows: int
    chunk_size: int
    input_version: str = ""
    created_at: float = 0.0
    column_kinds: dict[str, ColumnKind] = {}
    characters: int = 0


class ChunkSubmission(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One submission: of a chunk, of the rows of it that failed in the round before, or of a piece of these.

    :param intended_at: when the task decided to submit, as a Unix timestamp; 0 for a piece that waits for its turn
    :param rows: offsets of the submitted rows in the chunk; ``None`` for all rows
    :param job_id: the platform's id of the job, once it is known
    :param submitted_at: when the id became known, as a Unix timestamp
    :param pieces: if the platform has refused these rows together: the pieces that are submitted instead
    :param done: whether the results of this piece are saved
    """

    intended_at: float
    rows: list[int] | None = None
    job_id: str | None = None
    submitted_at: float | None = None
    pieces: list[ChunkSubmission] = []
    done: bool = False

    @property
    def key(self) -> int:
        """Identifies a submission among the simultaneous ones of its chunk, which have no row in common."""
        return self.rows[0] if self.rows else 0

    @property
    def state(self) -> State:
        """How far it has come."""
        if self.job_id is not None:
            return "submitted"
        return "intended" if self.intended_at else "planned"


class Chunk(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A chunk that was planned and is not finished.

    :param number: its number, from 0, in the order of the rows
    :param start: position of its first row in the input
    :param rows: number of its rows
    :param fingerprint: hash of its prompts
    :param rounds: its submissions so far; the last one may have no job id yet
    """

    number: int
    start: Position
    rows: int
    fingerprint: str
    rounds: list[ChunkSubmission] = []

    @property
    def first_row(self) -> int:
        """Index of its first row in the whole input."""
        return self.start.row

    @property
    def rows_left(self) -> Sequence[int]:
        """Offsets of the rows of its last round: those whose results are not saved yet."""
        rows = self.rounds[-1].rows if self.rounds else None
        return range(self.rows) if rows is None else rows

    @property
    def submissions(self) -> list[ChunkSubmission]:
        """The last round or, if it was split, its pieces whose results are not saved yet."""
        if not self.rounds:
            return []
        last = self.rounds[-1]
        return [piece for piece in last.pieces if not piece.done] if last.pieces else [last]

    def submission(self, key: int | None) -> ChunkSubmission:
        """One of `submissions`.

        :param key: its `ChunkSubmission.key`; ``None`` if there is only one
        :raises LedgerError: if there is none
        """
        found = [each for each in self.submissions if key is None or each.key == key]
        if len(found) != 1:
            raise LedgerError(f"Chunk {self.number} has no submission of these rows.")
        return found[0]

    @property
    def state(self) -> State:
        """How far its last round has come; of several pieces, the least certain one counts."""
        states = {each.state for each in self.submissions}
        if "intended" in states:
            return "intended"
        return "submitted" if states == {"submitted"} else "planned"

    @property
    def job_ids(self) -> list[str]:
        """The jobs under way."""
        return [each.job_id for each in self.submissions if each.job_id is not None]

    @property
    def all_job_ids(self) -> list[str]:
        """The jobs of all of its submissions so far."""
        submissions = (each for submission in self.rounds for each in (submission, *submission.pieces))
        return [each.job_id for each in submissions if each.job_id is not None]

    @property
    def job_id(self) -> str | None:
        """The job id of its last submission, once it is known."""
        return self.rounds[-1].job_id if self.rounds else None

    def submission_times(self) -> Iterator[float]:
        """When each of its submissions was intended, as Unix timestamps."""
        for each in self.rounds:
            yield from (piece.intended_at for piece in each.pieces or [each] if piece.intended_at)

    @property
    def has_partial_results(self) -> bool:
        """Whether results of some of its rows may be in a file, because its rows were not all sent together."""
        return len(self.rounds) > 1 or any(each.rows is not None or each.pieces for each in self.rounds)

    @property
    def retried(self) -> int:
        """Number of its rows that were submitted more than once."""
        retries = self.rounds[1:]
        if any(retry.rows is None for retry in retries):
            return self.rows
        return len({row for retry in retries for row in retry.rows or ()})

    def __str__(self) -> str:
        last = self.first_row + self.rows - 1
        return f"row {last}" if self.rows == 1 else f"rows {self.first_row} to {last}"


class Sizes(msgspec.Struct, frozen=True, array_like=True):
    """Consecutive chunks of one size.

    :param rows: rows per chunk
    :param chunks: number of chunks
    """

    rows: int
    chunks: int


MAX_JOB_IDS = 20
"""Maximum number of job ids that are kept when their chunks are finished."""
MAX_GROUPS = 40
"""Maximum number of groups of outputs; rows of further groups are counted as `OTHERS`."""
OTHERS = "others"


class ReportData(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the report says about the finished chunks besides their counts. Its size is bounded.

    :param groups: rows with an output by a property of the output, such as its length (`PartWriter.groups`)
    :param jobs: number of their jobs
    :param job_ids: the first of these jobs
    """

    groups: dict[str, int] = {}
    jobs: int = 0
    job_ids: list[str] = []

    def with_chunk(self, job_ids: list[str], groups: Mapping[str, int]) -> ReportData:
        """Add a finished chunk.

        :param job_ids: its jobs
        :param groups: its rows by the same property
        """
        sums = dict(self.groups)
        for name, rows in groups.items():
            known = name if name in sums or len(sums) < MAX_GROUPS else OTHERS
            sums[known] = sums.get(known, 0) + rows
        return ReportData(sums, self.jobs + len(job_ids), [*self.job_ids, *job_ids][:MAX_JOB_IDS])


class LedgerDocument(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of the file.

    :param header: identifies the run
    :param writer_token: random token of the process that may write
    :param generation: number of processes that have acquired the ledger so far
    :param next: position of the next chunk's first row
    :param planned: number of chunks that were planned, finished or not
    :param open: the planned chunks that are not finished, in the order of their rows
    :param totals: outcomes of the rows of all finished chunks
    :param try_started_at: when this try of the task started, as a Unix timestamp
    :param rows_done_before: rows that were done when this try started
    :param max_chunk_rows: rows of the next chunks, if the platform accepts fewer than `Header.chunk_size`; 0 if not
    :param sizes: sizes of the planned chunks, in their order
    :param exclusive: whether the folder's store was seen to refuse the second creation of a file; unset if it has locks instead
    :param keep_claims: whether a process may still run from which another has acquired the ledger; unset if not
    :param report: what else the report says about the finished chunks; unset before there is one
    """

    header: Header
    format: str = FORMAT.name
    version: int = FORMAT.version
    writer_token: str = ""
    generation: int = 0
    next: Position = Position()
    planned: int = 0
    open: list[Chunk] = []
    totals: Counts = Counts()
    try_started_at: float = 0.0
    rows_done_before: int = 0
    max_chunk_rows: int = 0
    sizes: list[Sizes] = []
    exclusive: bool | msgspec.UnsetType = msgspec.UNSET
    keep_claims: bool | msgspec.UnsetType = msgspec.UNSET
    report: ReportData | msgspec.UnsetType = msgspec.UNSET

    @property
    def chunk_size(self) -> int:
        """Rows of the next chunk; the last one may have fewer."""
        return min(self.max_chunk_rows or self.header.chunk_size, self.header.chunk_size)

    def parts(self) -> Iterator[tuple[int, int]]:
        """The first row and the number of rows of each planned chunk, in their order."""
        first = 0
        for size in self.sizes:
            for _ in range(size.chunks):
                yield first, size.rows
                first += size.rows

    @property
    def exhausted(self) -> bool:
        """Whether all rows are in planned chunks."""
        return self.next.row >= self.header.total_rows

    @property
    def finished(self) -> bool:
        """Whether all chunks are finished."""
        return self.exhausted and not self.open

    @property
    def nothing_submitted(self) -> bool:
        """Whether the run has submitted nothing yet, so that starting over loses nothing."""
        return self.planned == len(self.open) and not any(chunk.rounds for chunk in self.open)

    def intents(self) -> list[list[tuple[Chunk, ChunkSubmission]]]:
        """The submissions that were intended and have no job id here, those that were intended together in one list.

        A list is in the order in which they are submitted: each only after the id of the one before was left in a file.
        """
        found: dict[float, list[tuple[Chunk, ChunkSubmission]]] = {}
        for chunk in self.open:
            for each in chunk.submissions:
                if each.state == "intended":
                    found.setdefault(each.intended_at, []).append((chunk, each))
        return list(found.values())

    def chunk(self, number: int) -> Chunk:
        """An open chunk.

        :raises LedgerError: if the chunk is not open
        """
        for chunk in self.open:
            if chunk.number == number:
                return chunk
        raise LedgerError(f"Chunk {number} is not open.")


class LedgerOwner(msgspec.Struct, frozen=True):
    """The fields of `LedgerDocument` that say who may write. Decoding only these is much faster.

    :param writer_token: random token of the process that may write
    :param generation: number of processes that have acquired the ledger so far
    """

    format: str
    version: int
    writer_token: str
    generation: int


_DOCUMENT = msgspec.json.Decoder(LedgerDocument)
_OWNER = msgspec.json.Decoder(LedgerOwner)


def load(folder: OutputFolder) -> LedgerDocument | None:
    """Read the ledger of a folder; ``None`` if there is none.

    :raises UnreadableLedgerError: if this release cannot read the file
    """
    return _load(folder, _DOCUMENT)


def load_owner(folder: OutputFolder) -> LedgerOwner | None:
    """Read who may write to the ledger of a folder; ``None`` if there is no ledger.

    :raises UnreadableLedgerError: if this release cannot read the file
    """
    return _load(folder, _OWNER)


def _load(folder: OutputFolder, decoder: msgspec.json.Decoder[T]) -> T | None:
    try:
        content = folder.read(LEDGER)
    except (FileNotFoundError, NotADirectoryError):
        return None
    location = folder.uri(LEDGER)
    try:
        return FORMAT.decode(content, decoder, location)
    except NewerFormatError as error:
        raise UnreadableLedgerError(f"{error} Or choose another output folder.") from error
    except UnknownFormatError as error:
        raise UnreadableLedgerError(
            f"{location} is not a ledger of {PACKAGE}, or it is incomplete. Choose another output folder, or check the "
            "file and remove it."
        ) from error
    except DamagedFileError as error:
        raise UnreadableLedgerError(
            f"{location} is damaged. Choose another output folder, or check the file and remove it."
        ) from error


def difference(found: Header, expected: Header) -> str:
    """Describe how the run in a folder differs from the expected one.

    :param found: header of the run in the folder
    :param expected: header of the run that is to continue there
    :return: the description for a message; empty if the runs are the same
    """
    if found.owner != expected.owner:
        return f"{describe_owner(found.owner)}, not of {describe_owner(expected.owner)}"
    if (found.input_version, found.total_rows) != (expected.input_version, expected.total_rows):
        return (
            f"this task and run with another input ({found.total_rows} rows then, {expected.total_rows} now)"
        )
    if found.fingerprint != expected.fingerprint:
        return "this task and run with other settings"
    return ""


def has_other_input(found: Header, expected: Header) -> bool:
    """Whether the runs differ in nothing but their input.

    :param found: header of the run in the folder
    :param expected: header of the run that is to continue there
    """
    same = (found.owner, found.fingerprint) == (expected.owner, expected.fingerprint)
    return same and (found.input_version, found.total_rows) != (expected.input_version, expected.total_rows)


def describe_owner(owner: dict[str, str | int]) -> str:
    """The owner of a run for a message.

    :param owner: as in `Header`
    """
    return ", ".join(f"{name} {value}" for name, value in owner.items())
