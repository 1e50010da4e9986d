"""The input of a run: a list, a file or a glob of files, read from any place on, in one fixed order."""

from __future__ import annotations

import hashlib
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import msgspec

from airflow_provider_lamini.rows.columns import joined
from airflow_provider_lamini.rows.errors import InputChangedError, InputError
from airflow_provider_lamini.rows.sources.batch import Cursor, SourceChunk, SourceRow
from airflow_provider_lamini.rows.sources.textfile import InputFile
from airflow_provider_lamini.rows.storage.base import GLOB
from airflow_provider_lamini.rows.storage.local import LocalStore
from airflow_provider_lamini.rows.storage.locate import locate
from airflow_provider_lamini.rows.storage.uris import SCHEME, shown
from airflow_provider_lamini.rows.values import kind

if TYPE_CHECKING:
    from collections.abc import Collection

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

    @property
    def can_seek(self) -> bool:
        """Whether reading can begin at any place without reading what is before it."""
        return True

    @abstractmethod
    def describe(self) -> str:
        """A short text for logs: what is read, without any of it."""

    @abstractmethod
    def stamp(self) -> str:
        """A cheap identity: it changes when the input is written anew. Read anew at each call."""

    @abstractmethod
    def layout(self) -> str:
        """What a `Cursor` depends on: with another layout, the same rows lie at other places."""

    @abstractmethod
    def paths(self) -> list[str]:
        """The files that are read, as paths in their store."""

    @abstractmethod
    def takes(self, path: str) -> bool:
        """Whether a file of this path would belong to the input, were it there.

        :param path: a path in the input's store
        """

    @property
    def stays_open(self) -> bool:
        """Whether the input may be read on after hours: connections to stores do not last as long."""
        return True

    def seal(self, start: Cursor, after: Cursor) -> str | None:  # noqa: ARG002 - for those that have one
        """What stays the same for as long as nobody writes to the files that hold some rows. Ask after reading them.

        :param start: the place before the first of the rows
        :param after: the place after the last of them
        :return: ``None`` where that cannot be told
        """
        return None

    @abstractmethod
    def batches(
        self,
        cursor: Cursor | None = None,
        *,
        columns: Collection[str] | None = None,
        required: Collection[str] = (),
    ) -> Iterator[Batch]:
        """Read in batches, as large as is convenient; memory does not depend on the input's size.

        :param cursor: the place to begin at; ``None`` for the beginning
        :param columns: the columns that are needed; files leave out others. ``None`` for all
        :param required: of these, the columns that need a value in each row, where the reader can tell for
            nothing
        :raises BadRowError: for the first row that cannot be read
        :raises ColumnError: for a file that lacks a column, where the file says which columns it has
        :raises InputError: for a file that cannot be read
        """

    def read(
        self, cursor: Cursor | None = None, *, columns: Collection[str] | None = None
    ) -> Iterator[SourceRow]:
        """Read row by row. Parameters and errors as for `batches`."""
        for batch in self.batches(cursor, columns=columns):
            for offset, row in enumerate(batch.rows):
                yield SourceRow(batch.start.row + offset, row, batch, offset)

    def chunks(
        self, size: int, cursor: Cursor | None = None, *, columns: Collection[str] | None = None
    ) -> Iterator[SourceChunk]:
        """Read in chunks of ``size`` rows, the last one of what is left. All else is as for `batches`."""
        pieces: list[Sequence[Row]] = []
        missing, start = size, None
        for batch in self.batches(cursor, columns=columns):
            begin = 0
            while begin < len(batch):
                if start is None:
                    start = batch.after(begin)
                end = min(begin + missing, len(batch))
                pieces.append(batch.rows[begin:end])
                missing -= end - begin
                begin = end
                if not missing:
                    yield SourceChunk(start, batch.after(end), joined(pieces))
                    pieces, missing, start = [], size, None
        if start is not None:
            yield SourceChunk(start, batch.after(len(batch)), joined(pieces))


class ListSource(Source):
    """Rows that stand in the task's arguments.

    :param items: texts or mappings
    """

    def __init__(self, items: Sequence[object]) -> None:
        from airflow_provider_lamini.rows.sources.lists import check_rows

        self._rows = check_rows(items)

    def describe(self) -> str:
        """See `Source.describe`."""
        return f"a list of {len(self._rows)} rows"

    def stamp(self) -> str:
        """See `Source.stamp`: a hash of the rows."""
        return _hash(self._rows)

    def layout(self) -> str:
        """See `Source.layout`."""
        return "list"

    def paths(self) -> list[str]:
        """See `Source.paths`: none."""
        return []

    def takes(self, path: str) -> bool:  # noqa: ARG002
        """See `Source.takes`: no file does."""
        return False

    def batches(
        self,
        cursor: Cursor | None = None,
        *,
        columns: Collection[str] | None = None,  # noqa: ARG002
        required: Collection[str] = (),  # noqa: ARG002
    ) -> Iterator[Batch]:
        """See `Source.batches`. Rows keep all their columns: they are in memory anyway."""
        from airflow_provider_lamini.rows.sources.lists import read_batches

        return read_batches(self._rows, cursor or Cursor())


class FileSource(Source):
    """Rows of one or more files.

    :param uri: what the user wrote
    :param store: where the files lie
    :param path: the path, or the pattern, in the store
    """

    def __init__(self, uri: str, store: Store, path: str) -> None:
        self._uri = shown(uri)
        self._store = store
        self._path = path
        self._by_pattern = False
        self._found_at = time.time()
        self._files = self._find()

    @property
    def can_seek(self) -> bool:
        """See `Source.can_seek`."""
        return not any(file.gzipped for file in self._files)

    def describe(self) -> str:
        """See `Source.describe`."""
        size = sum(file.info.size for file in self._files) / 1e6
        count = "" if len(self._files) == 1 else f", {len(self._files)} files"
        return f"{self._uri} ({size:.1f} MB{count})"

    def stamp(self) -> str:
        """See `Source.stamp`: a hash of names, sizes and versions."""
        return _hash([file.info for file in self._find()])

    def layout(self) -> str:
        """See `Source.layout`: the size of each file."""
        return _hash([(_format(file.info.path)[0], file.info.size) for file in self._files])

    def paths(self) -> list[str]:
        """See `Source.paths`."""
        return [file.info.path for file in self._files]

    def takes(self, path: str) -> bool:
        """See `Source.takes`."""
        if path == self._path:
            return True
        return self._by_pattern and _matches(PurePosixPath(path).parts, PurePosixPath(self._path).parts)

    @property
    def stays_open(self) -> bool:
        """See `Source.stays_open`."""
        return isinstance(self._store, LocalStore)

    def seal(self, start: Cursor, after: Cursor) -> str | None:
        """See `Source.seal`."""
        seals = []
        for file in self._files[start.file : after.file + 1]:
            seal = self._store.seal(file.info, self._found_at)
            if seal is None:
                return None
            seals.append(seal)
        return " ".join(seals)

    def batches(
        self,
        cursor: Cursor | None = None,
        *,
        columns: Collection[str] | None = None,
        required: Collection[str] = (),
    ) -> Iterator[Batch]:
        """See `Source.batches`."""
        place = cursor or Cursor()
        if place.file >= len(self._files):
            raise InputChangedError(
                f"{self._uri} has {len(self._files)} files, but reading should go on in file number "
                f"{place.file}. "
                "Files were removed since the run began."
            )
        for number in range(place.file, len(self._files)):
            if number > place.file:
                place = Cursor(place.row, number)
            for batch in _open(self._files[number], place, columns, required):
                yield batch
                place = Cursor(batch.start.row + len(batch), number)

    def _find(self) -> list[InputFile]:
        infos = self._look_up()
        names = [PurePosixPath(info.path).name for info in infos]
        # Files of the same name in several folders are told apart by their paths.
        labels = names if len(set(names)) == len(names) else [info.path for info in infos]
        return [
            InputFile(self._store, info, label, gzipped=_format(info.path)[1])
            for info, label in zip(infos, labels, strict=True)
        ]

    def _look_up(self) -> list[FileInfo]:
        if self._store.is_folder(self._path):
            folder = self._uri.rstrip("/")
            raise InputError(f"The input {folder} is a folder. Name its files, as in {folder}/*.jsonl.")
        try:
            return [self._store.info(self._path)]
        except PermissionError:
            raise InputError(f"The input {self._uri} may not be read.") from None
        except (FileNotFoundError, NotADirectoryError):
            if not GLOB.search(self._path):
                raise InputError(f"The input {self._uri} does not exist.") from None
        self._by_pattern = True
        found = self._store.glob(self._path)
        if not found:
            raise InputError(f"No file matches the input {self._uri}.")
        return found


def open_source(given: object, *, conn_id: str | None = None) -> Source:
    """Find the input of a run. Files are looked up, not read.

    :param given: a list of texts (each becomes a row with the column ``prompt``), a list of mappings, or a
        path, URI or glob of files: JSON Lines (``.jsonl``, ``.ndjson``, ``.json``), CSV and TSV with a
        header line, each also gzipped (``.gz``), or Parquet. The files of a glob are read in the order of
        their paths.
    :param conn_id: the Airflow connection to the object store
    :raises InputError: for an input of another kind, for files that are not there, or of an unknown format
    :raises BadRowError: for a row of a list that cannot be used
    """
    if isinstance(given, str):
        return _open_text(given, conn_id)
    if isinstance(given, Mapping) or not isinstance(given, Sequence) or isinstance(given, (bytes, bytearray)):
        raise InputError(
            f"The input is {kind(given)}. Give a list of prompts, a list of rows, or the path of a file."
        )
    return ListSource(given)


def _open_text(text: str, conn_id: str | None) -> Source:
    if not text.strip():
        raise InputError("The input is an empty text. Give a list of prompts, a list of rows, or a path.")
    if not is_path(text):
        # The text may be a prompt, so it is not repeated here.
        raise InputError(
            "The input is a text, but not the path of a file that is there. If prompts are meant, give a "
            "list of them; if the list comes out of a template, set render_template_as_native_obj=True on "
            f"the Dag or pass the upstream task's output itself. Files may be: {_KNOWN}."
        )
    store, path = locate(text, conn_id)
    return FileSource(text, store, path)


def is_path(text: str) -> bool:
    """Whether a text is meant as a path or URI: it has a scheme, ends like one of ours, or lies there."""
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
    """Whether the parts of a path fit those of a pattern, of which ``**`` stands for any number of folders."""
    if not pattern:
        return not parts
    first, rest = pattern[0], pattern[1:]
    if first == "**":
        return any(_matches(parts[begin:], rest) for begin in range(len(parts) + 1))
    return bool(parts) and fnmatchcase(parts[0], first) and _matches(parts[1:], rest)


def _open(
    file: InputFile, start: Cursor, columns: Collection[str] | None, required: Collection[str]
) -> Iterator[Batch]:
    """Read one file with the reader of its format. The readers are imported only when one is needed."""
    suffix, _ = _format(file.info.path)
    if suffix in _JSON_LINES:
        from airflow_provider_lamini.rows.sources import jsonl

        return jsonl.read_batches(file, start, columns, required)
    if suffix == _PARQUET:
        from airflow_provider_lamini.rows.sources import parquet

        return parquet.read_batches(file, start, columns)
    from airflow_provider_lamini.rows.sources.delimited import DelimitedReader

    return DelimitedReader(file, _DELIMITERS[suffix]).read_batches(start, columns)


def _format(path: str) -> tuple[str, bool]:
    """The format of a file by its name, and whether it is gzipped."""
    suffix, gzipped = _suffix(path)
    name = PurePosixPath(path).name
    if suffix == _PARQUET and gzipped:
        raise InputError(f"{name}: a Parquet file is compressed within; gzip around it cannot be read.")
    if suffix not in _JSON_LINES and suffix not in _DELIMITERS and suffix != _PARQUET:
        raise InputError(f"{name}: the format cannot be told from the name. Files may be: {_KNOWN}.")
    return suffix, gzipped


def _suffix(path: str) -> tuple[str, bool]:
    name = PurePosixPath(path.lower())
    gzipped = name.suffix == _GZIP
    return (name.with_suffix("") if gzipped else name).suffix, gzipped


def _hash(value: object) -> str:
    return hashlib.blake2b(msgspec.json.encode(value), digest_size=16).hexdigest()
