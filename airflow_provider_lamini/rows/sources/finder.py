"""Finds the files of an input: single files, patterns, and the parts of earlier runs."""

from __future__ import annotations

import glob
import re
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import compress
from os.path import commonpath
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import msgspec

from airflow_provider_lamini.rows.errors import InputError, InputMissingError, InputRefusedError
from airflow_provider_lamini.rows.formats import (
    MANIFEST_FORMAT,
    SHARDS_FORMAT,
    FormatError,
    UnknownFormatError,
)
from airflow_provider_lamini.rows.sources.forms import AS_ROWS, KNOWN, SUFFIXES, is_manifest, suffix_of
from airflow_provider_lamini.rows.sources.lake_tables import LakeTables
from airflow_provider_lamini.rows.sources.textfile import UTF8_MARK, InputFile
from airflow_provider_lamini.rows.storage.locate import locate
from airflow_provider_lamini.rows.storage.patterns import (
    expand_alternatives,
    fixed_part,
    is_hidden,
    is_pattern,
    literal_pattern,
    partition_columns,
    path_matches,
)
from airflow_provider_lamini.rows.storage.run_files import LEDGER, MANIFEST, SHARDS
from airflow_provider_lamini.rows.storage.uris import is_remote, redacted_uri, short_uri
from airflow_provider_lamini.wording import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from airflow_provider_lamini.rows.formats import FileFormat
    from airflow_provider_lamini.rows.sources.options import InputOptions
    from airflow_provider_lamini.rows.storage.base import FileInfo, Store

_PART = re.compile(r"part-(\d{5,})\.(?:jsonl|parquet)")
_BESIDE_PARTS = re.compile(r"errors-\d{5,}\.jsonl|manifest\.json|shards\.json|report\.(?:md|html)")
_ERRORS = re.compile(r"errors-\d{5,}\.jsonl")
_HEAD = 4096


class _Part(msgspec.Struct):
    name: str


class _Counts(msgspec.Struct):
    failed: int


class _Manifest(msgspec.Struct):
    """What a run as an input needs of its manifest."""

    format: str
    version: int
    parts: list[_Part]
    counts: _Counts
    errors: list[str] = []


class _Shard(msgspec.Struct):
    output: str


class _Shards(msgspec.Struct):
    """What several runs as an input need of the list of their folders."""

    format: str
    version: int
    shards: list[_Shard]


_MANIFEST = msgspec.json.Decoder(_Manifest)
_SHARDS = msgspec.json.Decoder(_Shards)


def is_errors_file(path: str) -> bool:
    """Whether a file has the name of one with the failed rows of a run.

    :param path: its path
    """
    return _ERRORS.fullmatch(PurePosixPath(path).name) is not None


@dataclass(frozen=True, slots=True)
class _Found:
    """A file that was found.

    :param store: its store
    :param info: its path, size and version
    :param of_run: whether it is a part of an earlier run
    """

    store: Store
    info: FileInfo
    of_run: bool = False


@dataclass(frozen=True)
class _Place:
    """A path, URI or pattern.

    :param uri: as the user wrote it
    :param store: its store
    :param path: the path or pattern in the store
    """

    uri: str
    store: Store
    path: str

    @property
    def shown(self) -> str:
        """The URI for messages."""
        return redacted_uri(self.uri)

    @cached_property
    def patterns(self) -> list[str]:
        """The patterns without alternatives, in which existing folders stand for themselves."""
        try:
            alternatives = expand_alternatives(self.path)
        except ValueError as error:
            raise InputError(f"{short_uri(self.uri)} is not a valid file pattern: {error}.") from None
        return [literal_pattern(self.store, pattern) for pattern in alternatives]


def _errors_beside(part: str) -> str:
    """The name of the file with the failed rows of a part."""
    return f"{PurePosixPath(part).stem.replace('part', 'errors')}.jsonl"


@dataclass
class FileFinder:
    """Finds the files of an input, again and again in the same order.

    :param uris: paths, URIs or patterns, as the user wrote them
    :param conn_id: the Airflow connection to the object store
    :param options: how to read the files
    :param remark: takes what was found out, for the log: a remark and the name of a file or folder
    :param keep_bad: keep rows that cannot be used, instead of raising an error
    """

    uris: Sequence[str]
    conn_id: str | None
    options: InputOptions
    remark: Callable[[str, str], None]
    keep_bad: bool = False
    _sniffed: dict[tuple[str, str], str | None] = field(default_factory=dict)
    _runs: dict[str, _Manifest | None] = field(default_factory=dict)
    _headers: list[Sequence[str]] = field(default_factory=list)

    @cached_property
    def _tables(self) -> LakeTables:
        return LakeTables(self._shown)

    @cached_property
    def _places(self) -> list[_Place]:
        return [_Place(uri, *locate(uri, self.conn_id)) for uri in self.uris]

    def find(self) -> list[InputFile]:
        """Find the files. They are not read, except for the first bytes of those whose names do not tell their format.

        :raises InputError: if there is none, or the format of one is unknown
        """
        unique: dict[tuple[str, str], _Found] = {}
        total = 0
        for place in self._places:
            scheme = place.uri.partition("://")[0] if is_remote(place.uri) else ""
            for found in self._look_up(place):
                total += 1
                unique.setdefault((scheme, found.info.path), found)
        if total > len(unique):
            self.remark("named more than once, read once", counted(total - len(unique), "file"))
        if len(self.uris) > 1:  # such as all keys of a table
            infos = [found.info for found in unique.values() if not found.of_run]
            self._tables.refuse_delta(None, {info.path for info in infos}, {info.path for info in infos})
        visible = self._without_hidden(list(unique.values()))
        if len(self.uris) > 1:  # such as the result of a pattern that somebody else has looked up
            kept = set(self._without_run_files(found.info.path for found in visible))
            visible = [found for found in visible if found.of_run or found.info.path in kept]
        visible = self._recognize_parts(visible)
        names = [PurePosixPath(found.info.path).name for found in visible]
        # If files in different folders have the same name, messages show their paths.
        labels = names if len(set(names)) == len(names) else [found.info.path for found in visible]
        files = [self._input_file(found, label) for found, label in zip(visible, labels, strict=True)]
        return self._without_empty(files)

    def matches(self, path: str) -> bool:
        """Whether a file with this path would belong to the input if it existed.

        :param path: path in the input's store
        """
        for place in self._places:
            if path == place.path:
                return True
            if is_pattern(place.path) and any(
                path_matches(path, pattern) and not is_hidden(path, fixed_part(pattern), pattern)
                for pattern in place.patterns
            ):
                return True
        return False

    def folder_of(self, file: InputFile) -> str:
        """The folder of a file as a path or URI, for messages."""
        return self._shown(PurePosixPath(file.info.path).parent)

    def _shown(self, folder: PurePosixPath | str) -> str:
        place = self._places[0]
        scheme = place.uri.partition("://")[0]
        return f"{scheme}://{str(folder).lstrip('/')}" if is_remote(place.uri) else str(folder)

    def _look_up(self, place: _Place) -> list[_Found]:
        store, path = place.store, place.path
        known = suffix_of(path)[0] in SUFFIXES
        # A file of a known format is looked up with one request, as there may be thousands in a list.
        if not (known and is_remote(place.uri)) and store.is_folder(path):
            return self._of_folder(place)
        try:
            info = store.info(path)
        except PermissionError as error:
            message = (
                f"There is no permission to read the input {place.shown}. Check the permissions, and the connection to the "
                "store."
            )
            raise InputRefusedError.of(message, error) from None
        except (FileNotFoundError, NotADirectoryError):
            if store.is_folder(path):
                return self._of_folder(place)
            if not is_pattern(path):
                raise InputMissingError(f"The input {place.shown} does not exist: check its path.") from None
            return self._of_pattern(place)
        if not info.size and store.is_folder(path):
            return self._of_folder(place)
        if is_manifest(path):
            folder, _, name = place.uri.rpartition("/")
            parts = self._of_run(_Place(folder, store, path.rpartition("/")[0]), name)
            if parts is not None:
                return parts
        return [_Found(store, info)]

    def _of_folder(self, place: _Place) -> list[_Found]:
        folder, names = place.shown.rstrip("/"), place.store.names(place.path)
        for name in (SHARDS, MANIFEST):
            if name in names and (parts := self._of_run(place, name)) is not None:
                return parts
        if LEDGER in names:
            raise InputError(
                f"The run in {folder} has not ended: it has no {MANIFEST} yet. Wait for its task."
            )
        self._tables.refuse_folder(place.store, place.path, names, folder)
        suffix = next((found for found, _ in map(suffix_of, names) if found in SUFFIXES), None)
        if suffix is None and names:
            raise InputError(
                f"The input {folder} is a folder, and the names of its files do not tell their format. Pass its files as "
                f"{folder}/*, with input_format, such as 'jsonl'."
            )
        raise InputError(
            f"The input {folder} is a folder. Pass its files instead, as in {folder}/*{suffix or '.jsonl'}."
        )

    def _of_run(self, place: _Place, name: str) -> list[_Found] | None:
        """The parts of an earlier run, or of several; ``None`` if the file is not one of this package."""
        path = f"{place.path.rstrip('/')}/{name}"
        file_format: FileFormat = SHARDS_FORMAT if name == SHARDS else MANIFEST_FORMAT
        try:
            content = place.store.read(path)
            if name == SHARDS:
                return list(
                    self._of_shards(place, file_format.decode(content, _SHARDS, f"{place.shown}/{name}"))
                )
            manifest = file_format.decode(content, _MANIFEST, f"{place.shown}/{name}")
        except UnknownFormatError:
            return None
        except FormatError as error:
            raise InputError(str(error)) from error
        failed = self.options.failed_rows == "only"
        names = manifest.errors if failed else [part.name for part in manifest.parts]
        if not failed:
            self._check_failures(place, manifest.counts.failed)
        pattern = f"{glob.escape(place.path.rstrip('/'))}/{'errors' if failed else 'part'}-*"
        infos = {PurePosixPath(info.path).name: info for info in place.store.glob(pattern)}
        missing = [name for name in names if name not in infos]
        if missing:
            raise InputError(
                f"{place.shown} has no {missing[0]}, which its {name} lists. Somebody has removed it."
            )
        return [_Found(place.store, infos[each], of_run=not failed) for each in names]

    def _of_shards(self, place: _Place, shards: _Shards) -> Iterator[_Found]:
        for shard in shards.shards:
            inside = not shard.output.startswith("/") and "://" not in shard.output
            uri = f"{place.uri.rstrip('/')}/{shard.output}" if inside else shard.output
            yield from self._look_up(_Place(uri, *locate(uri, self.conn_id)))

    def _check_failures(self, place: _Place, failed: int) -> None:
        if failed:
            self._note_failures(place.shown, failed)

    def _note_failures(self, folder: str, failed: int | None) -> None:
        """Decide about the failed rows of a run.

        :param folder: its folder
        :param failed: their number; ``None`` if only some parts are read
        """
        rows = "failed rows" if failed is None else counted(failed, "failed row")
        if self.options.failed_rows == "fail":
            raise InputError(
                f"{folder} has {rows}, and failed_input_rows='fail'. Repeat that run, or pass failed_input_rows='skip'."
            )
        self.remark(f"skipped {rows}", folder)

    def _of_pattern(self, place: _Place) -> list[_Found]:
        found: dict[str, FileInfo] = {}
        hidden: set[str] = set()
        for pattern in place.patterns:
            for info in place.store.glob(pattern):
                if info.path.endswith("/") or is_hidden(info.path, fixed_part(pattern), pattern):
                    hidden.add(info.path)
                else:
                    found[info.path] = info
        hidden -= found.keys()
        self._tables.refuse_delta(place.store, found.keys(), hidden)
        self._tables.refuse_iceberg(place.store, found.keys())
        if hidden:
            self._remark_hidden(hidden)
        if not found:
            raise InputMissingError(
                f"No file matches the input {place.shown}: {self._why_none(place, len(hidden))}."
            )
        return [_Found(place.store, found[path]) for path in sorted(self._without_run_files(found))]

    @staticmethod
    def _why_none(place: _Place, hidden: int) -> str:
        """Why no file matches a pattern."""
        if hidden:
            return f"{hidden} hidden files, whose names or folders begin with '.' or '_', do not count"
        folder = str(fixed_part(place.path))
        if is_remote(place.uri) or place.store.is_folder(folder):
            return "check its path"
        why = f"the folder {short_uri(folder)} does not exist on this machine"
        return why if suffix_of(place.path)[0] in SUFFIXES else f"{why}. {AS_ROWS.rstrip('.')}"

    def _recognize_parts(self, files: list[_Found]) -> list[_Found]:
        """Mark those that are parts of an earlier run, as its manifest says: their failed rows are left out."""
        listed: dict[str, set[str]] = {}
        read: dict[str, list[str]] = {}
        recognized = []
        for found in files:
            folder, _, name = found.info.path.rpartition("/")
            of_run = found.of_run
            if not of_run and _PART.fullmatch(name):
                if folder not in listed:
                    manifest = self._manifest_in(found.store, folder)
                    listed[folder] = set() if manifest is None else {part.name for part in manifest.parts}
                of_run = name in listed[folder]
                if of_run:
                    read.setdefault(folder, []).append(name)
            recognized.append(replace(found, of_run=of_run))
        for folder, names in read.items():
            manifest = self._runs[folder]
            failed = {_errors_beside(name) for name in names}.intersection(
                manifest.errors if manifest else ()
            )
            if manifest is not None and failed:
                self._note_failures(
                    self._shown(folder), manifest.counts.failed if len(names) == len(listed[folder]) else None
                )
        return recognized

    def _manifest_in(self, store: Store, folder: str) -> _Manifest | None:
        """The manifest in a folder, which is read once; ``None`` if it has none of this package."""
        if folder not in self._runs:
            try:
                content = store.read(f"{folder}/{MANIFEST}")
                manifest = MANIFEST_FORMAT.decode(content, _MANIFEST, f"{self._shown(folder)}/{MANIFEST}")
            except (
                FileNotFoundError,
                PermissionError,
                UnknownFormatError,
            ):  # S3 may forbid what does not exist
                manifest = None
            except FormatError as error:
                raise InputError(str(error)) from error
            self._runs[folder] = manifest
        return self._runs[folder]

    def _without_run_files(self, paths: Iterable[str]) -> list[str]:
        """Leave out the files that repeat or describe the parts of a run, where a pattern or a list has both."""
        by_folder: dict[str, list[str]] = {}
        for path in paths:
            by_folder.setdefault(str(PurePosixPath(path).parent), []).append(path)
        kept: list[str] = []
        for folder, files in by_folder.items():
            names = {PurePosixPath(path).name: path for path in files}
            beside = [name for name in names if _BESIDE_PARTS.fullmatch(name)]
            if beside and any(map(_PART.fullmatch, names)):
                self.remark(f"skipped {counted(len(beside), 'file')} beside the parts", folder)
                names = {name: path for name, path in names.items() if name not in beside}
            kept += names.values()
        return kept

    def _without_hidden(self, found: list[_Found]) -> list[_Found]:
        """Leave out hidden files of a list, and the marker of a finished job that is passed alone."""
        if len(self.uris) == 1:
            marker = len(found) == 1 and not found[0].info.size and not suffix_of(found[0].info.path)[0]
            if not marker or not is_hidden(found[0].info.path, PurePosixPath(found[0].info.path).parent):
                return found
            self._remark_hidden([found[0].info.path])
            return []
        parents = [str(PurePosixPath(item.info.path).parent) for item in found]
        absolute = len({parent.startswith("/") for parent in parents}) == 1
        below = PurePosixPath(commonpath(parents)) if parents and absolute else PurePosixPath()
        if below == PurePosixPath():
            return found
        visible = [item for item in found if item.of_run or not is_hidden(item.info.path, below)]
        if len(visible) < len(found):
            self._remark_hidden([item.info.path for item in found if item not in visible])
        if found and not visible:
            raise InputError(
                f"All {len(found)} files of the input are hidden: their names or folders begin with '.' or '_'. Rename them, or "
                "pass each as an input of its own."
            )
        return visible

    def _without_empty(self, files: list[InputFile]) -> list[InputFile]:
        """Leave out CSV files without even a header beside others, as some programs write for no rows."""
        empty = [not file.info.size and file.format in ("csv", "tsv") for file in files]
        if all(empty):
            return files
        for file in compress(files, empty):
            self.remark("skipped as empty", file.name)
        return [file for file, is_empty in zip(files, empty, strict=True) if not is_empty]

    def _remark_hidden(self, paths: Iterable[str]) -> None:
        for path in paths:
            self.remark("skipped as hidden", path)

    def _input_file(self, found: _Found, label: str) -> InputFile:
        info, remark = found.info, partial(self._remark_file, label)
        suffix, compression = suffix_of(info.path)
        file_format = self.options.format or SUFFIXES.get(suffix)
        if file_format is None and (not suffix or not suffix[1:2].isalpha()):
            file_format = self._sniff(found, label, compression)
        if file_format is None:
            raise InputError(
                f"{label}: unknown file format. Supported files: {KNOWN}. For other names, pass input_format, such as 'csv'."
            )
        if file_format == "parquet" and compression is not None:
            raise InputError(
                f"{label}: Parquet in {compression} is not supported. Parquet files are compressed already."
            )
        partitions = partition_columns(info.path)
        if partitions:
            remark(f"partition columns {', '.join(partitions)}")
        return InputFile(
            store=found.store,
            info=info,
            name=label,
            format="jsonl" if file_format == "json" else file_format,
            compression=compression,
            csv=self.options.csv,
            partitions=partitions,
            of_run=found.of_run,
            keep_bad=self.keep_bad,
            remark=remark,
            headers=self._headers,
        )

    def _remark_file(self, label: str, text: str) -> None:
        self.remark(text, label)

    def _sniff(self, found: _Found, label: str, compression: str | None) -> str | None:
        """The format of a file whose name does not tell it, if its first bytes do."""
        key = (found.info.path, found.info.version)
        if key not in self._sniffed:
            file = InputFile(found.store, found.info, label, compression=compression)
            with file.open_text(may_be_other=True) as stream:
                head = stream.read(_HEAD).removeprefix(UTF8_MARK).lstrip()
            if head.startswith(b"PAR1"):
                self._sniffed[key] = "parquet"
            else:
                # Nothing but JSON begins like this and has no name for its format; an empty file has no rows in any.
                self._sniffed[key] = "jsonl" if head[:1] in (b"{", b"[", b"") else None
        known = self._sniffed[key]
        if known is not None:
            self.remark(f"recognized as {known}", label)
        return known
