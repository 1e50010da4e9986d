"""The input of a run: a list, table, files, query or function. Rows have a fixed order and can be read from any position."""

from __future__ import annotations

import hashlib
import weakref
from abc import ABC, abstractmethod
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec

from airflow_provider_lamini.rows.batch import FAILED, Position, SourceChunk, SourceRow, kept_batches
from airflow_provider_lamini.rows.columns import PROMPT, concatenate
from airflow_provider_lamini.rows.errors import ColumnError, InputChangedError, InputError
from airflow_provider_lamini.rows.sources.finder import FileFinder, is_errors_file
from airflow_provider_lamini.rows.sources.forms import (
    KNOWN,
    are_sentences,
    files_of_list,
    is_path,
    is_result,
    path_text,
)
from airflow_provider_lamini.rows.sources.options import InputOptions
from airflow_provider_lamini.rows.sources.projection import project_declared, project_open
from airflow_provider_lamini.rows.sources.read_once import ReadOnceInput
from airflow_provider_lamini.rows.sources.tables import (
    is_sliced,
    is_table,
    repeated_columns,
    repeated_names,
    table_rows,
)
from airflow_provider_lamini.rows.storage.local import TemporaryFile
from airflow_provider_lamini.rows.storage.uris import redacted_uri, short_uri
from airflow_provider_lamini.rows.values import is_path_object, kind
from airflow_provider_lamini.wording import counted, short_name

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from airflow_provider_lamini.rows.batch import Batch
    from airflow_provider_lamini.rows.failures import RowFailure
    from airflow_provider_lamini.rows.prompts.template import PromptTemplate
    from airflow_provider_lamini.rows.sources.textfile import InputFile
    from airflow_provider_lamini.rows.values import Row

_MAX_NAMED = 3
_MEGABYTE = 1_000_000


class Notes:
    """What was found out about an input, each thing once."""

    def __init__(self) -> None:
        self._found: dict[str, dict[str, None]] = {}

    def add(self, remark: str, subject: str) -> None:
        """Note a remark about a file or a folder; a repetition changes nothing.

        :param remark: what was found out
        :param subject: about what
        """
        self._found.setdefault(remark, {})[subject] = None

    def summary(self) -> str:
        """All remarks in one line."""
        return "; ".join(f"{remark} ({_join(list(subjects))})" for remark, subjects in self._found.items())


def _join(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
    return f"{', '.join(map(short_uri, names[:_MAX_NAMED]))}{more}"


class Source(ABC):
    """Rows in a fixed order."""

    title: str | None = None
    """What the rows are, if they were read from somewhere else before."""
    identity: str | None = None
    """The version of these rows, if their file says nothing about it."""
    failed_in: str | None = None
    """The folder of the run in which these rows have failed, whose indices they keep; ``None`` for other rows."""

    @property
    def can_seek(self) -> bool:
        """Whether reading can start at any position without reading everything before it."""
        return True

    @abstractmethod
    def describe(self) -> str:
        """A short description for logs, without any content."""

    def name(self) -> str:
        """What a manifest says that the input was: its path or URI, where it has one."""
        return self.describe()

    @abstractmethod
    def notes(self) -> str:
        """What was sniffed or skipped, as far as it was read, for the log; empty if there is nothing to say."""

    def remarks(self) -> str:
        """The same as a sentence that follows another one."""
        notes = self.notes()
        return f" Input: {notes}." if notes else ""

    @abstractmethod
    def columns(self) -> Collection[str]:
        """The columns of the first rows."""

    @abstractmethod
    def version(self) -> str:
        """A cheap identity that changes when the input is written again. Each call looks it up again."""

    @abstractmethod
    def paths(self) -> list[str]:
        """The files that are read, as paths in their store; empty for a list."""

    @abstractmethod
    def matches(self, path: str) -> bool:
        """Whether a file with this path would belong to the input if it existed.

        :param path: path in the input's store
        """

    @abstractmethod
    def batches(
        self,
        start: Position | None = None,
        *,
        columns: Collection[str] | None = None,
        required: Collection[str] = (),
    ) -> Iterator[Batch]:
        """Read in batches of a convenient size. Memory does not depend on the size of the input.

        :param start: the position to start at; ``None`` for the beginning
        :param columns: the columns to read; ``None`` for all. Rows of a list keep all columns.
        :param required: columns that need a value in each row; readers that can check this for free set `Batch.checked`
        :raises BadRowError: for the first row that cannot be read, unless bad rows are kept (`Batch.bad`)
        :raises ColumnError: if a file declares its columns and lacks one of these
        :raises InputError: if a file cannot be read
        """

    def indices(self, first: int, count: int) -> Sequence[int]:
        """The numbers of consecutive rows for the output.

        :param first: number of rows before them
        :param count: number of rows
        """
        return range(first, first + count)

    def bind(self, prompt: PromptTemplate) -> PromptTemplate:
        """A template for the columns of this input. It is read for this only if the template depends on it.

        :param prompt: the template
        :raises ColumnError: if a brace looks like a placeholder, but is not a column
        """
        return prompt.for_columns(self.columns()) if prompt.needs_columns else prompt

    def read(
        self, start: Position | None = None, *, columns: Collection[str] | None = None
    ) -> Iterator[SourceRow]:
        """Read row by row. Parameters and errors as for `batches`."""
        for batch in self.batches(start, columns=columns):
            for offset, row in enumerate(batch.rows):
                yield SourceRow(batch.start.row + offset, row, batch, offset)

    def chunks(
        self,
        size: int | Callable[[], int],
        start: Position | None = None,
        *,
        columns: Collection[str] | None = None,
    ) -> Iterator[SourceChunk]:
        """Read in chunks; the last one may be smaller. Other parameters and errors as for `batches`.

        :param size: rows per chunk, or a function that says how many the next chunk has
        """
        next_size = size if callable(size) else lambda: size
        pieces: list[Sequence[Row]] = []
        bad: dict[int, RowFailure] = {}
        missing, chunk_start = 0, None
        for batch in self.batches(start, columns=columns):
            begin = 0
            while begin < len(batch):
                if chunk_start is None:
                    chunk_start, missing = batch.after(begin), next_size()
                end = min(begin + missing, len(batch))
                pieces.append(batch.rows[begin:end])
                first = batch.start.row - chunk_start.row
                bad.update((first + at, batch.bad[at]) for at in batch.bad if begin <= at < end)
                missing -= end - begin
                begin = end
                if not missing:
                    yield SourceChunk(chunk_start, batch.after(end), concatenate(pieces), bad)
                    pieces, chunk_start, bad = [], None, {}
        if chunk_start is not None:
            yield SourceChunk(chunk_start, batch.after(len(batch)), concatenate(pieces), bad)


class ListSource(Source):
    """Rows in the arguments of the task.

    :param items: texts, mappings, records of a database, or lists or tables of these
    :param options: how to read them
    :param keep_bad: keep rows that cannot be used (`Batch.bad`) instead of raising an error
    """

    def __init__(
        self, items: Sequence[object], options: InputOptions | None = None, *, keep_bad: bool = False
    ) -> None:
        from airflow_provider_lamini.rows.sources.lists import CheckedList
        from airflow_provider_lamini.rows.sources.records import flatten

        rows, columns, remark = flatten(items, options.columns if options else None)
        self._notes = Notes()
        self._repeated = repeated_columns(rows) or repeated_names(columns or ())
        if self._repeated:
            self._notes.add("left out columns with the same name", ", ".join(self._repeated))
        if remark:
            self._notes.add(remark, "the list")
        if not is_sliced(rows):
            if are_sentences(rows):
                self._notes.add("took texts that end like names of files as prompts", "the list")
            if any(isinstance(row, (int, float)) and row == row for row in rows):  # noqa: PLR0124 - NaN is missing
                self._notes.add(
                    "took numbers as texts; 3.10 is 3.1 if a template rendered the list", "the list"
                )
        self._found = CheckedList(rows, columns, keep_bad=keep_bad)
        for name in self._found.unnamed:
            self._notes.add("left out columns whose names are not texts", kind(name))
        self._version: str | None = None

    @property
    def rows(self) -> Sequence[Row]:
        """All rows, without values that cannot be used."""
        return [row for page in self._found.pages() for row in page.rows]

    def describe(self) -> str:
        return f"a list of {counted(len(self._found), 'row')}"

    def notes(self) -> str:
        return self._notes.summary()

    def columns(self) -> Collection[str]:
        return dict.fromkeys((*self._found.columns(), *self._repeated))

    def version(self) -> str:
        if self._version is None:
            digest = hashlib.blake2b(b"[", digest_size=16)
            for page in self._found.pages():
                digest.update(b"," * bool(page.first) + msgspec.json.encode(page.rows)[1:-1])
            digest.update(b"]")
            self._version = digest.hexdigest()
        return self._version

    def paths(self) -> list[str]:
        return []

    def matches(self, path: str) -> bool:  # noqa: ARG002
        return False

    def batches(
        self,
        start: Position | None = None,
        *,
        columns: Collection[str] | None = None,
        required: Collection[str] = (),  # noqa: ARG002
    ) -> Iterator[Batch]:
        twice = next((column for column in columns or () if column in self._repeated), None)
        if twice is not None:
            raise ColumnError(
                f"The input has more than one column {short_name(twice)!r}. Rename one of them."
            )
        projection = project_open(columns, {})
        copies = not projection.is_plain
        for batch in self._found.batches(start or Position(), columns, copies=copies):
            yield projection.apply(batch)


class FileSource(Source):
    """Rows in one or more files.

    :param uris: paths, URIs or patterns, as the user wrote them
    :param conn_id: the Airflow connection to the object store
    :param options: how to read the files
    :param keep_bad: keep rows that cannot be used (`Batch.bad`) instead of raising an error
    """

    def __init__(
        self,
        uris: Sequence[str],
        conn_id: str | None = None,
        options: InputOptions | None = None,
        *,
        keep_bad: bool = False,
    ) -> None:
        self._options = options or InputOptions()
        self._notes = Notes()
        self._finder = FileFinder(uris, conn_id, self._options, self._notes.add, keep_bad=keep_bad)
        self._uri = redacted_uri(uris[0])
        if len(uris) > 1:
            self._uri += f" and {len(uris) - 1} more"
        self._files = self._finder.find()
        self._failed = self._failed_rows()

    @property
    def can_seek(self) -> bool:
        return all(file.can_seek for file in self._files)

    def describe(self) -> str:
        size = sum(file.info.size for file in self._files)
        shown = f"{size / 1e6:.1f} MB" if size >= _MEGABYTE else f"{size / 1e3:.1f} kB"
        count = "" if len(self._files) == 1 else f", {len(self._files)} files"
        return f"{self.name()} ({shown}{count})"

    def name(self) -> str:
        return self.title or self._uri

    def entitle(self, title: str) -> None:
        """Say what the rows are in all messages, instead of the files that keep them.

        :param title: what they are
        """
        self.title = title
        self._files = [replace(file, name=title) for file in self._files]

    def notes(self) -> str:
        return self._notes.summary()

    def columns(self) -> Collection[str]:
        first = next((batch for batch in self.batches() if len(batch)), None)
        return () if first is None else dict.fromkeys(column for row in first.rows for column in row)

    def version(self) -> str:
        if self.identity is not None:
            return self.identity
        infos = [file.info for file in self._finder.find()]
        changed = self._options.changed()
        return _hash([infos, changed] if changed else infos)

    def paths(self) -> list[str]:
        return [file.info.path for file in self._files]

    def matches(self, path: str) -> bool:
        return self._finder.matches(path)

    def indices(self, first: int, count: int) -> Sequence[int]:
        return super().indices(first, count) if self._failed is None else self._failed[first : first + count]

    def bind(self, prompt: PromptTemplate) -> PromptTemplate:
        bound = super().bind(prompt)
        if self._failed:
            known = set(self.columns())
            missing = [name for name in bound.columns if known.isdisjoint((name, name.partition(".")[0]))]
            if missing:
                raise InputError(
                    f"{self._uri} has only the passthrough columns of that run, without {short_name(missing[0])!r}, which the "
                    f"prompt needs. Pass the input of that run, and only_failed_of={self.failed_in!r}."
                )
        return bound

    def _failed_rows(self) -> array[int] | None:
        """The indices of failed rows of an earlier run, if nothing else is in the files.

        :raises InputError: if they belong to several runs, or are asked for and not there
        """
        wanted = self._options.failed_rows == "only"
        if not all(is_errors_file(file.info.path) for file in self._files):
            if wanted:
                raise InputError(
                    f"failed_input_rows='only' needs the output folder of an earlier run as input; {self._uri} is something "
                    "else."
                )
            return None
        if not self._files and not wanted:
            return None
        folders = dict.fromkeys(map(self._finder.folder_of, self._files))
        found = array("q")
        for batch in self.batches(columns=("index", "error_reason")):
            for row in batch.rows:
                index = row.get("index")
                if not isinstance(index, int) or "error_reason" not in row:
                    return None
                if len(folders) > 1 or (found and index <= found[-1]):
                    raise InputError(
                        f"{self._uri}: the failed rows are not those of one run, in their order. Pass the errors files of one "
                        "run at a time."
                    )
                found.append(index)
        self.failed_in = next(iter(folders), self._uri)
        return found

    def batches(
        self,
        start: Position | None = None,
        *,
        columns: Collection[str] | None = None,
        required: Collection[str] = (),
    ) -> Iterator[Batch]:
        place = start or Position()
        if place.file >= len(self._files) and place != Position():
            raise InputChangedError(
                f"{self._uri} has {counted(len(self._files), 'file')}, but the task should continue with file number "
                f"{place.file}: files were removed since the run began."
            )
        for number in range(place.file, len(self._files)):
            if number > place.file:
                place = Position(place.row, number)
            file = self._files[number]
            # As in JSON Lines, rows without a column are bad rows, unless no file has it.
            needed = () if file.keep_bad and file.format != "jsonl" and len(self._files) > 1 else required
            for batch in _open(file, place, columns, needed):
                yield batch
                place = Position(batch.start.row + len(batch), number)


def open_source(
    value: object,
    *,
    conn_id: str | None = None,
    keep_bad: bool = False,
    options: InputOptions | None = None,
) -> Source:
    """Find the input of a run. Files are looked up, but not read.

    :param value: one of these:

        - a list of rows: texts (each becomes a row with the column ``prompt``), mappings, records of a database; a list of
          such lists; a DataFrame, a Series or an Arrow table
        - a path, URI or pattern of files, or a list of these: see `docs/input.md`. The files of a pattern are read in the
          order of their paths.
        - the output folder of an earlier run, its manifest, or the result of its task; or a list of these
    :param conn_id: the Airflow connection to the object store
    :param keep_bad: keep rows that cannot be used (`Batch.bad`) instead of raising an error
    :param options: how to read it
    :raises InputError: if the input is of another type, a file does not exist, or its format is unknown
    :raises BadRowError: if a row of a list cannot be used
    """
    if isinstance(value, ReadOnceInput):
        return _open_once(value, keep_bad=keep_bad)
    options = options or InputOptions()
    if is_path_object(value):
        value = path_text(value)
    if isinstance(value, str):
        return _open_text(value, conn_id, options, keep_bad=keep_bad)
    if isinstance(value, Mapping) and is_result(value):
        return FileSource([value["manifest"]], conn_id, options, keep_bad=keep_bad)
    if is_table(value):
        value = table_rows(value)
    if (
        isinstance(value, Mapping)
        or not isinstance(value, Sequence)
        or isinstance(value, (bytes, bytearray, memoryview))
    ):
        raise InputError(
            f"The input is {kind(value)}. Pass a list of prompts, a list of rows, or the path of a file."
        )
    if value and all(map(is_result, value)):
        return FileSource([result["manifest"] for result in value], conn_id, options, keep_bad=keep_bad)
    files = files_of_list(value, all_files=options.format is not None, columns=options.columns)
    if files is None:
        if options.failed_rows == "only":
            raise InputError(
                "failed_input_rows='only' needs the output folder of an earlier run as input, and not a list."
            )
        return ListSource(value, options, keep_bad=keep_bad)
    return FileSource(files, conn_id, options, keep_bad=keep_bad)


def _open_once(given: ReadOnceInput, *, keep_bad: bool) -> Source:
    """Rows that are read once, in a temporary file that is closed with the source."""
    digest = hashlib.blake2b(digest_size=16)
    with ExitStack() as stack:
        file = stack.enter_context(TemporaryFile())
        for block in given.read_lines(keep_bad=keep_bad):
            digest.update(block)
            file.write(block)
        source = FileSource([str(file.path())], options=InputOptions(format="jsonl"), keep_bad=keep_bad)
        weakref.finalize(source, stack.pop_all().close)
    source.entitle(str(given))
    source.identity = digest.hexdigest()
    return source


def _open_text(text: str, conn_id: str | None, options: InputOptions, *, keep_bad: bool) -> Source:
    if not text.strip():
        raise InputError("The input is an empty text. Pass a list of prompts, a list of rows, or a path.")
    if not is_path(text) and options.format is None:
        # The text may be a prompt, so the message does not repeat it.
        raise InputError(
            "The input is a text, but not the path of an existing file. To send prompts, pass a list of them; if the list "
            "comes from a template, set render_template_as_native_obj=True on the Dag, or pass the upstream task's output "
            f"itself. Supported files: {KNOWN}."
        )
    return FileSource([text], conn_id, options, keep_bad=keep_bad)


def _open(
    file: InputFile,
    start: Position,
    columns: Collection[str] | None,
    required: Collection[str],
) -> Iterator[Batch]:
    """Read one file. The failed rows of an earlier run are left out."""
    if not file.of_run:
        return _read(file, start, columns, required)
    needed = None if columns is None else dict.fromkeys((*columns, FAILED))
    return kept_batches(_read(file, start, needed, required), start)


def _read(
    file: InputFile, start: Position, columns: Collection[str] | None, required: Collection[str]
) -> Iterator[Batch]:
    """Read one file with the reader for its format. Readers are imported only when they are needed."""
    if file.format == "jsonl":
        from airflow_provider_lamini.rows.sources import jsonl

        projection = project_open(columns, file.partitions)
        derived = {*projection.fields, *projection.constants}
        checkable = () if derived.intersection(required) else required
        batches = jsonl.read_batches(
            file, start, projection.names, checkable, keep_bad=file.keep_bad, wanted=columns
        )
        return batches if projection.is_plain else map(projection.apply, batches)
    if file.format == "parquet":
        from airflow_provider_lamini.rows.sources import parquet

        return parquet.read_batches(file, start, columns, required)
    if file.format == "txt":
        from airflow_provider_lamini.rows.sources import plaintext

        projection = project_declared(
            columns, [PROMPT], partitions=file.partitions, required=required, name=file.name
        )
        return map(projection.apply, plaintext.read_batches(file, start))
    from airflow_provider_lamini.rows.sources.delimited import DelimitedReader

    return DelimitedReader(file).read_batches(start, columns, required)


def _hash(value: object) -> str:
    return hashlib.blake2b(msgspec.json.encode(value), digest_size=16).hexdigest()
