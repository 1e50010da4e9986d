"""The input of a run: a list, a file or a glob of files. Rows have a fixed order and can be read from any position."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import msgspec

from airflow_provider_lamini.rows.columns import concatenate
from airflow_provider_lamini.rows.errors import InputChangedError, InputError, InputRefusedError
from airflow_provider_lamini.rows.sources.batch import Cursor, SourceChunk, SourceRow
from airflow_provider_lamini.rows.sources.sql import SqlInput, read_lines
from airflow_provider_lamini.rows.sources.textfile import InputFile
from airflow_provider_lamini.rows.storage.base import GLOB
from airflow_provider_lamini.rows.storage.locate import locate
from airflow_provider_lamini.rows.storage.uris import SCHEME, redacted_uri
from airflow_provider_lamini.rows.values import kind

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from airflow_provider_lamini.rows.failures import RowFailure
    from airflow_provider_lamini.rows.sources.batch import Batch
    from airflow_provider_lamini.rows.storage.base import FileInfo, Store
    from airflow_provider_lamini.rows.values import Row

_GZIP = ".gz"
_JSON_LINES = frozenset({".jsonl", ".ndjson", ".json"})
_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_PARQUET = ".parquet"
_LONGEST_PATH = 4096
_KNOWN = "*.jsonl, *.ndjson, *.json (JSON Lines), *.csv, *.tsv, each also with .gz, and *.parquet"


class Source(ABC):
    """Rows in a fixed order."""

    title: str | None = None
    """What the rows are, if they were read from somewhere else before."""
    identity: str | None = None
    """The version of these rows, if their file says nothing about it."""

    @property
    def can_seek(self) -> bool:
        """Whether reading can start at any position without reading everything before it."""
        return True

    @abstractmethod
    def describe(self) -> str:
        """A short description for logs, without any content."""

    @abstractmethod
    def version(self) -> str:
        """A cheap identity that changes when the input is written again. Each call looks it up again."""

    @abstractmethod
    def layout(self) -> str:
        """What a `Cursor` depends on: in another layout, the same rows have other positions."""

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
        cursor: Cursor | None = None,
        *,
        columns: Collection[str] | None = None,
        required: Collection[str] = (),
    ) -> Iterator[Batch]:
        """Read in batches of a convenient size. Memory does not depend on the size of the input.

        :param cursor: the position to start at; ``None`` for the beginning
        :param columns: the columns to read; ``None`` for all. Rows of a list keep all columns.
        :param required: columns that need a value in each row; readers that can check this for free set `Batch.checked`
        :raises BadRowError: for the first row that cannot be read, unless bad rows are kept (`Batch.bad`)
        :raises ColumnError: if a file declares its columns and lacks one of these
        :raises InputError: if a file cannot be read
        """

    def read(
        self, cursor: Cursor | None = None, *, columns: Collection[str] | None = None
    ) -> Iterator[SourceRow]:
        """Read row by row. Parameters and errors as for `batches`."""
        for batch in self.batches(cursor, columns=columns):
            for offset, row in enumerate(batch.rows):
                yield SourceRow(batch.start.row + offset, row, batch, offset)

    def chunks(
        self,
        size: int | Callable[[], int],
        cursor: Cursor | None = None,
        *,
        columns: Collection[str] | None = None,
    ) -> Iterator[SourceChunk]:
        """Read in chunks; the last one may be smaller. Other parameters and errors as for `batches`.

        :param size: rows per chunk, or a function that says how many the next chunk has
        """
        next_size = size if callable(size) else lambda: size
        pieces: list[Sequence[Row]] = []
        bad: dict[int, RowFailure] = {}
        missing, start = 0, None
        for batch in self.batches(cursor, columns=columns):
            begin = 0
            while begin < len(batch):
                if start is None:
                    start, missing = batch.after(begin), next_size()
                end = min(begin + missing, len(batch))
                pieces.append(batch.rows[begin:end])
                first = batch.start.row - start.row
                bad.update((first + at, batch.bad[at]) for at in batch.bad if begin <= at < end)
                missing -= end - begin
                begin = end
                if not missing:
                    yield SourceChunk(start, batch.after(end), concatenate(pieces), bad)
                    pieces, start, bad = [], None, {}
        if start is not None:
            yield SourceChunk(start, batch.after(len(batch)), concatenate(pieces), bad)


class ListSource(Source):
    """Rows in the arguments of the task.

    :param items: texts or mappings
    :param keep_bad: keep rows that cannot be used (`Batch.bad`) instead of raising an error
    """

    def __init__(self, items: Sequence[object], *, keep_bad: bool = False) -> None:
        from airflow_provider_lamini.rows.sources.lists import check_rows

        self._bad: dict[int, RowFailure] | None = {} if keep_bad else None
        self._rows = check_rows(items, self._bad)

    def describe(self) -> str:
        return f"a list of {len(self._rows)} rows"

    def version(self) -> str:
        return _hash(self._rows)

    def layout(self) -> str:
        return "list"

    def paths(self) -> list[str]:
        return []

    def matches(self, path: str) -> bool:  # noqa: ARG002
        return False

    def batches(
        self,
        cursor: Cursor | None = None,
        *,
        columns: Collection[str] | None = None,  # noqa: ARG002
        required: Collection[str] = (),  # noqa: ARG002
    ) -> Iterator[Batch]:
        from airflow_provider_lamini.rows.sources.lists import read_batches

        return read_batches(self._rows, cursor or Cursor(), self._bad or {})


class FileSource(Source):
    """Rows in one or more files.

    :param uri: the path, URI or glob as the user wrote it
    :param store: the store of the files
    :param path: the path or pattern in the store
    :param keep_bad: keep rows that cannot be used (`Batch.bad`) instead of raising an error
    """

    def __init__(self, uri: str, store: Store, path: str, *, keep_bad: bool = False) -> None:
        self._keep_bad = keep_bad
        self._uri = redacted_uri(uri)
        self._store = store
        self._path = path
        self._by_pattern = False
        self._files = self._find()

    @property
    def can_seek(self) -> bool:
        return not any(file.gzipped for file in self._files)

    def describe(self) -> str:
        size = sum(file.info.size for file in self._files) / 1e6
        count = "" if len(self._files) == 1 else f", {len(self._files)} files"
        return f"{self.title or self._uri} ({size:.1f} MB{count})"

    def version(self) -> str:
        return self.identity or _hash([file.info for file in self._find()])

    def layout(self) -> str:
        return _hash([(_format(file.info.path)[0], file.info.size) for file in self._files])

    def paths(self) -> list[str]:
        return [file.info.path for file in self._files]

    def matches(self, path: str) -> bool:
        if path == self._path:
            return True
        return self._by_pattern and _matches(PurePosixPath(path).parts, PurePosixPath(self._path).parts)

    def batches(
        self,
        cursor: Cursor | None = None,
        *,
        columns: Collection[str] | None = None,
        required: Collection[str] = (),
    ) -> Iterator[Batch]:
        place = cursor or Cursor()
        if place.file >= len(self._files):
            raise InputChangedError(
                f"{self._uri} has {len(self._files)} files, but the task should continue with file number {place.file}: "
                "files were removed since the run began."
            )
        for number in range(place.file, len(self._files)):
            if number > place.file:
                place = Cursor(place.row, number)
            for batch in _open(self._files[number], place, columns, required, keep_bad=self._keep_bad):
                yield batch
                place = Cursor(batch.start.row + len(batch), number)

    def _find(self) -> list[InputFile]:
        infos = self._look_up()
        names = [PurePosixPath(info.path).name for info in infos]
        # If files in different folders have the same name, messages show their paths.
        labels = names if len(set(names)) == len(names) else [info.path for info in infos]
        return [
            InputFile(self._store, info, label, gzipped=_format(info.path)[1])
            for info, label in zip(infos, labels, strict=True)
        ]

    def _look_up(self) -> list[FileInfo]:
        if self._store.is_folder(self._path):
            folder = self._uri.rstrip("/")
            raise InputError(
                f"The input {folder} is a folder. Pass its files instead, as in {folder}/*.jsonl."
            )
        try:
            return [self._store.info(self._path)]
        except PermissionError as error:
            message = f"There is no permission to read the input {self._uri}."
            raise InputRefusedError.of(message, error) from None
        except (FileNotFoundError, NotADirectoryError):
            if not GLOB.search(self._path):
                raise InputError(f"The input {self._uri} does not exist.") from None
        self._by_pattern = True
        found = self._store.glob(self._path)
        if not found:
            raise InputError(f"No file matches the input {self._uri}.")
        return found


def open_source(value: object, *, conn_id: str | None = None, keep_bad: bool = False) -> Source:
    """Find the input of a run. Files are looked up, but not read.

    :param value: a list of texts (each becomes a row with the column ``prompt``), a list of mappings, or a path, URI
        or glob of files: JSON Lines (``.jsonl``, ``.ndjson``, ``.json``), CSV and TSV with a header line, each also
        gzipped (``.gz``), or Parquet. The files of a glob are read in the order of their paths.
    :param conn_id: the Airflow connection to the object store
    :param keep_bad: keep rows that cannot be used (`Batch.bad`) instead of raising an error
    :raises InputError: if the input is of another type, a file does not exist, or its format is unknown
    :raises BadRowError: if a row of a list cannot be used
    """
    if isinstance(value, SqlInput):
        return _open_query(value, keep_bad=keep_bad)
    if isinstance(value, str):
        return _open_text(value, conn_id, keep_bad=keep_bad)
    if isinstance(value, Mapping) or not isinstance(value, Sequence) or isinstance(value, (bytes, bytearray)):
        raise InputError(
            f"The input is {kind(value)}. Pass a list of prompts, a list of rows, or the path of a file."
        )
    return ListSource(value, keep_bad=keep_bad)


def _open_query(query: SqlInput, *, keep_bad: bool) -> Source:
    """The rows of a query, in a temporary file that is removed with the source."""
    folder = Path(tempfile.mkdtemp(prefix="airflow-provider-lamini-query-"))
    path, digest = folder / "rows.jsonl", hashlib.blake2b(digest_size=16)
    try:
        with path.open("wb") as file:
            for block in read_lines(query):
                digest.update(block)
                file.write(block)
        source = open_source(str(path), keep_bad=keep_bad)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    weakref.finalize(source, shutil.rmtree, folder, ignore_errors=True)
    source.title, source.identity = str(query), digest.hexdigest()
    return source


def _open_text(text: str, conn_id: str | None, *, keep_bad: bool) -> Source:
    if not text.strip():
        raise InputError("The input is an empty text. Pass a list of prompts, a list of rows, or a path.")
    if not is_path(text):
        # The text may be a prompt, so the message does not repeat it.
        raise InputError(
            "The input is a text, but not the path of an existing file. To send prompts, pass a list of them; if the list "
            "comes from a template, set render_template_as_native_obj=True on the Dag, or pass the upstream task's output "
            f"itself. Supported files: {_KNOWN}."
        )
    store, path = locate(text, conn_id)
    return FileSource(text, store, path, keep_bad=keep_bad)


def is_path(text: str) -> bool:
    """Whether a text looks like a path or URI: it has a scheme or a known suffix, or it exists."""
    if "\n" in text or "\0" in text or len(text) > _LONGEST_PATH:
        return False
    if SCHEME.match(text):
        return True
    if _suffix(text)[0] in {*_JSON_LINES, *_DELIMITERS, _PARQUET}:
        return True
    try:
        store, path = locate(text)
        if store.is_folder(path) or (GLOB.search(path) and "/" in text):
            return True
        store.info(path)
    except (OSError, ValueError):
        return False
    return True


def _matches(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether the components of a path match those of a pattern, where ``**`` stands for any number of folders."""
    if not pattern:
        return not parts
    first, rest = pattern[0], pattern[1:]
    if first == "**":
        return any(_matches(parts[begin:], rest) for begin in range(len(parts) + 1))
    return bool(parts) and fnmatchcase(parts[0], first) and _matches(parts[1:], rest)


def _open(
    file: InputFile,
    start: Cursor,
    columns: Collection[str] | None,
    required: Collection[str],
    *,
    keep_bad: bool,
) -> Iterator[Batch]:
    """Read one file with the reader for its format. Readers are imported only when they are needed."""
    suffix, _ = _format(file.info.path)
    if suffix in _JSON_LINES:
        from airflow_provider_lamini.rows.sources import jsonl

        return jsonl.read_batches(file, start, columns, required, keep_bad=keep_bad)
    if suffix == _PARQUET:
        from airflow_provider_lamini.rows.sources import parquet

        return parquet.read_batches(file, start, columns, keep_bad=keep_bad)
    from airflow_provider_lamini.rows.sources.delimited import DelimitedReader

    return DelimitedReader(file, _DELIMITERS[suffix], keep_bad=keep_bad).read_batches(start, columns)


def _format(path: str) -> tuple[str, bool]:
    """The format of a file according to its name, and whether it is gzipped."""
    suffix, gzipped = _suffix(path)
    name = PurePosixPath(path).name
    if suffix == _PARQUET and gzipped:
        raise InputError(f"{name}: gzipped Parquet is not supported. Parquet files are compressed already.")
    if suffix not in _JSON_LINES and suffix not in _DELIMITERS and suffix != _PARQUET:
        raise InputError(f"{name}: unknown file format. Supported files: {_KNOWN}.")
    return suffix, gzipped


def _suffix(path: str) -> tuple[str, bool]:
    name = PurePosixPath(path.lower())
    gzipped = name.suffix == _GZIP
    return (name.with_suffix("") if gzipped else name).suffix, gzipped


def _hash(value: object) -> str:
    return hashlib.blake2b(msgspec.json.encode(value), digest_size=16).hexdigest()
