"""Only those rows of an input that failed in an earlier run. They keep the indices that they have in the whole input.

The input is passed again, because an errors file has only the passthrough columns of a row. A row is found by its index, and
must have the values that it failed with in those passthrough columns that its prompt does not use. So another input cannot be
taken for the old one, but what was wrong in a row may have been corrected.
"""

from __future__ import annotations

import hashlib
from array import array
from bisect import bisect_left
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

import msgspec

from airflow_provider_lamini.rows.batch import KeptBatch, Position
from airflow_provider_lamini.rows.errors import IncompleteOutputError, InputChangedError
from airflow_provider_lamini.rows.failures import FailureReason
from airflow_provider_lamini.rows.hashes import KEY_SIZE, row_keys
from airflow_provider_lamini.rows.ledger.document import load
from airflow_provider_lamini.rows.output.manifest import read_manifest
from airflow_provider_lamini.rows.output.parts import ERROR_COLUMNS
from airflow_provider_lamini.rows.output.reading import REMEDY
from airflow_provider_lamini.rows.prompts.screening import screen
from airflow_provider_lamini.rows.sources.chunk_reader import ChunkReader
from airflow_provider_lamini.rows.sources.source import Source
from airflow_provider_lamini.rows.sources.validation import needed_columns
from airflow_provider_lamini.rows.storage.run_files import keys_name
from airflow_provider_lamini.wording import counted

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from airflow_provider_lamini.rows.batch import Batch
    from airflow_provider_lamini.rows.output.manifest import Part
    from airflow_provider_lamini.rows.prompts.template import PromptTemplate
    from airflow_provider_lamini.rows.storage.folder import OutputFolder
    from airflow_provider_lamini.rows.values import Row

_LINE = msgspec.json.Decoder(dict[str, Any])
_VALUES = msgspec.json.Encoder(order="sorted")
_UNKNOWN = 0
"""Stands for the values of a row that could not be read."""


@dataclass(frozen=True, slots=True)
class FailedRows:
    """The rows that failed in a run. It takes 16 bytes of memory per row.

    :param folder: the run's output folder
    :param indices: their indices in the run's whole input, in order
    :param values: a hash of each row's values in the columns, or `_UNKNOWN`
    :param columns: the passthrough columns by which rows are recognized
    :param input_version: `Source.version` of the whole input at that time; empty if it is not known
    :param parts: its parts, if the run had the whole input
    """

    folder: OutputFolder
    indices: array[int]
    values: array[int]
    columns: tuple[str, ...]
    input_version: str
    parts: Sequence[Part] = ()


def read_failed_rows(folder: OutputFolder, prompt_columns: Collection[str] = ()) -> FailedRows:
    """Read which rows failed in a run.

    :param folder: its output folder
    :param prompt_columns: columns and fields that the prompt uses. They may have been corrected, so that rows are recognized by
        them only if there are no other passthrough columns.
    :raises IncompleteOutputError: if the run has not ended, or its errors files are missing or damaged
    """
    manifest = read_manifest(folder)
    indices, values = array("q"), array("Q")
    columns: tuple[str, ...] = ()
    for name in manifest.errors:
        try:
            for row in map(_LINE.decode, folder.lines(name)):
                columns = _recognizing(row, prompt_columns)
                indices.append(row["index"])
                unreadable = row["error_reason"] == FailureReason.BAD_ROW.value
                values.append(_UNKNOWN if unreadable else _hash(row, columns))
        except FileNotFoundError:
            raise IncompleteOutputError(f"{folder.uri(name)} is missing. {REMEDY}") from None
        except (msgspec.MsgspecError, UnicodeDecodeError, KeyError, TypeError):
            raise IncompleteOutputError(f"{folder.uri(name)} is damaged. {REMEDY}") from None
    ordered = all(map(int.__lt__, indices, indices[1:]))
    if not ordered or len(indices) != manifest.counts.failed:
        raise IncompleteOutputError(
            f"The files errors-*.jsonl in {folder} do not have the "
            f"{counted(manifest.counts.failed, 'failed row')} of its manifest: somebody has changed them. {REMEDY}"
        )
    ledger = load(folder)
    version = "" if ledger is None else whole_input_version(ledger.header.input_version)
    parts = manifest.parts if manifest.only_failed_of is msgspec.UNSET else []
    return FailedRows(folder, indices, values, columns, version, parts)


def _recognizing(row: Row, prompt_columns: Collection[str]) -> tuple[str, ...]:
    """The columns by which rows are recognized."""
    passed = tuple(key for key in row if key not in ("index", *ERROR_COLUMNS))
    used = {column for name in prompt_columns for column in (name, name.partition(".")[0])}
    return tuple(column for column in passed if column not in used) or passed


def whole_input_version(version: str) -> str:
    """The version of the whole input of a run.

    :param version: the version of its input, of which `FailedRowsSource` may have taken some rows
    """
    return version.partition("/")[0]


class FailedRowsSource(Source):
    """The rows of an input that failed in an earlier run.

    :param whole: the whole input
    :param failed: the rows that failed
    :raises InputChangedError: if the input is not that of the run, as far as this is known before it is read
    """

    def __init__(self, whole: Source, failed: FailedRows) -> None:
        self._whole = whole
        self._failed = failed
        self.failed_in = str(failed.folder)
        self._hash = hashlib.blake2b(failed.indices.tobytes(), digest_size=16).hexdigest()
        self._changed = failed.input_version != whole.version()
        if self._changed and failed.indices and not failed.columns:
            raise InputChangedError(
                f"{whole.describe()} may not be what it was when {failed.folder} was written, and that run has no passthrough "
                "columns by which its failed rows can be found again. Nothing was sent. Pass the unchanged input of that run."
            )

    def check_unmoved(self, prompt: PromptTemplate, max_prompt_chars: int | None) -> None:
        """Make sure that the rows of an input that has changed are those that failed, although others may look the same.

        Either no other row of the run had the same values in the passthrough columns, or all rows that have not failed still
        have the same prompts.

        :param prompt: makes the prompt of a row
        :param max_prompt_chars: maximum length of a prompt in characters
        :raises InputChangedError: if nobody can tell
        """
        failed = self._failed
        if not self._changed or not failed.indices or not failed.parts:
            return
        if not _tells_apart(failed) and not self._has_same_prompts(prompt, max_prompt_chars):
            raise InputChangedError(
                f"{self._whole.describe()} may not be what it was when {failed.folder} was written: other rows of that run had "
                "the same passthrough columns as the failed ones, so these may have moved. Nothing was sent. Pass the unchanged "
                "input of that run, and give it a key, such as passthrough=['id']."
            )

    def _has_same_prompts(self, prompt: PromptTemplate, max_prompt_chars: int | None) -> bool:
        """Whether all rows that have not failed have the same prompts as in the earlier run."""
        failed = self._failed
        again, place = set(failed.indices), Position()
        with closing(ChunkReader(self._whole, needed_columns(prompt))) as reader:
            for number, part in enumerate(failed.parts):
                found = reader.read(place, part.rows)
                if found is None or len(found.rows) != part.rows:
                    return False
                try:
                    before = failed.folder.read(keys_name(number))
                except FileNotFoundError:
                    return False
                now = row_keys(screen(found.rows, found.bad, prompt, max_prompt_chars).prompts)
                for row in range(part.rows):
                    place_of_key = slice(row * KEY_SIZE, (row + 1) * KEY_SIZE)
                    if now[place_of_key] != before[place_of_key] and part.first_row + row not in again:
                        return False
                place = found.after
        return True

    @property
    def can_seek(self) -> bool:
        return self._whole.can_seek

    def describe(self) -> str:
        return f"{self._whole.describe()}, of which {len(self._failed.indices)} rows failed in {self._failed.folder}"

    def name(self) -> str:
        return self._whole.name()

    def notes(self) -> str:
        unknown = self._failed.values.count(_UNKNOWN) if self._changed else 0
        found = [self._whole.notes()] if self._whole.notes() else []
        if unknown:
            found.append(
                f"changed since; {counted(unknown, 'row')} that could not be read then can be found by number only"
            )
        return "; ".join(found)

    def columns(self) -> Collection[str]:
        return self._whole.columns()

    def version(self) -> str:
        return f"{self._whole.version()}/{self._hash}"

    def paths(self) -> list[str]:
        return self._whole.paths()

    def matches(self, path: str) -> bool:
        return self._whole.matches(path)

    def indices(self, first: int, count: int) -> Sequence[int]:
        return self._failed.indices[first : first + count]

    def batches(
        self,
        start: Position | None = None,
        *,
        columns: Collection[str] | None = None,
        required: Collection[str] = (),
    ) -> Iterator[Batch]:
        indices, position = self._failed.indices, start or Position()
        if position.row >= len(indices):
            return
        wanted = None if columns is None else dict.fromkeys((*columns, *self._failed.columns))
        for batch in self._whole.batches(self._in_whole(position), columns=wanted, required=required):
            begin, first = batch.start.row, position.row
            after = bisect_left(indices, begin + len(batch), first)
            if after == first:
                continue
            found = _FailedBatch(batch, position, [index - begin for index in indices[first:after]], indices)
            self._check_rows(found)
            yield found
            position = found.after(len(found))
            if after == len(indices):
                return
        raise InputChangedError(
            f"{self._whole.describe()} has no row {indices[position.row]}, which failed in {self._failed.folder}: the input has "
            "changed since. Nothing more was sent. Pass the input of that run."
        )

    def _in_whole(self, position: Position) -> Position:
        """The same position in the whole input: it is behind the failed row before it."""
        row = self._failed.indices[position.row - 1] + 1 if position.row else 0
        return Position(row, position.file, position.offset, position.line)

    def _check_rows(self, batch: _FailedBatch) -> None:
        """Make sure that these are the rows that failed."""
        if not self._failed.columns:
            return
        first = batch.start.row
        for offset, row in enumerate(batch.rows):
            expected = self._failed.values[first + offset]
            known = expected != _UNKNOWN and offset not in batch.bad
            if known and _hash(row, self._failed.columns) != expected:
                raise InputChangedError(
                    f"{batch.describe_row(offset)} is not the row that failed in {self._failed.folder}: its passthrough columns "
                    "have other values. The input has changed since. Nothing more was sent. Pass the input of that run."
                )


class _FailedBatch(KeptBatch):
    """The failed rows of a batch.

    :param inner: the batch
    :param start: the position behind the failed row before them
    :param kept: which rows of the batch they are
    :param indices: the indices of all failed rows
    """

    def __init__(self, inner: Batch, start: Position, kept: list[int], indices: Sequence[int]) -> None:
        super().__init__(inner, start, kept)
        self._indices = indices

    def describe_row(self, offset: int) -> str:
        return f"row {self._indices[self.start.row + offset]} ({self.location(offset)})"


def _tells_apart(failed: FailedRows) -> bool:
    """Whether the values by which rows are recognized occurred once each in the run."""
    known = {value: 0 for value in failed.values if value != _UNKNOWN}
    if len(known) < len(failed.values) - failed.values.count(_UNKNOWN):
        return False
    fields: Any = dict.fromkeys(failed.columns, NotRequired[Any])
    make: Any = TypedDict
    decode = msgspec.json.Decoder(make("Row", fields)).decode
    for part in failed.parts:
        if part.name.endswith(".parquet"):  # its values may look otherwise
            return False
        try:
            for row in map(decode, failed.folder.lines(part.name)):
                value = _hash(row, failed.columns)
                if value in known:
                    known[value] += 1
        except (FileNotFoundError, msgspec.MsgspecError):
            return False
    return all(count == 1 for count in known.values())


def _hash(row: Row, columns: Sequence[str]) -> int:
    """A hash of the values in some columns; never `_UNKNOWN`."""
    values = map(row.get, columns)
    # A column of integers has floats where a value is missing, and integers again once it is filled in.
    same = [int(each) if isinstance(each, float) and each.is_integer() else each for each in values]
    content = _VALUES.encode(same)
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest()) or 1
