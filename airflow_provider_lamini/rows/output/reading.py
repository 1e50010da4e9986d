"""Reads the rows of a run's files: all rows of a part, or the first ones of files that may be large."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_provider_lamini.rows.errors import IncompleteOutputError, RowError
from airflow_provider_lamini.rows.ledger.document import LedgerDocument, load
from airflow_provider_lamini.rows.output.manifest import Manifest, read_manifest
from airflow_provider_lamini.rows.output.vectors import require_pyarrow, table_rows
from airflow_provider_lamini.rows.storage.run_files import LEDGER, MANIFEST, errors_name, part_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import BinaryIO

    from airflow_provider_lamini.rows.storage.folder import OutputFolder

REMEDY = "Restore the file, or repeat the run in another folder with reuse_from, which copies what is intact."
"""What to do about a file of a run that is missing or damaged."""
MAX_FILE = 32_000_000
"""Maximum bytes of a ledger or manifest that a preview reads."""
MAX_FILES = 20
"""Maximum number of parts that are looked for while the run has not ended."""
MAX_READ = 2_000_000
"""Maximum bytes that a preview reads of a file with rows in JSON Lines."""
_VECTORS = ("embedding",)
"""Columns that a preview leaves out."""
_LINE = msgspec.json.Decoder(dict[str, Any])


@dataclass(frozen=True, slots=True)
class RunFiles:
    """What a run has written so far.

    :param ledger: its ledger; ``None`` if the folder has none
    :param manifest: its manifest, once the run has ended
    :param parts: names of files with results, in the order of the rows
    :param errors: names of files with failed rows, likewise
    """

    ledger: LedgerDocument | None
    manifest: Manifest | None = None
    parts: Sequence[str] = field(default_factory=list)
    errors: Sequence[str] = field(default_factory=list)


def read_run_files(folder: OutputFolder) -> RunFiles:
    """Read the ledger and the manifest of a folder.

    :raises IncompleteOutputError: if one is too large
    :raises UnreadableLedgerError: if this release cannot read the ledger
    """
    for name in (LEDGER, MANIFEST):
        with suppress(FileNotFoundError, NotADirectoryError):
            if folder.size(name) > MAX_FILE:
                raise IncompleteOutputError(f"{folder.uri(name)} is too large to be shown.")
    ledger = load(folder)
    if ledger is None:
        return RunFiles(None)
    if folder.exists(MANIFEST):
        manifest = read_manifest(folder)
        return RunFiles(ledger, manifest, [part.name for part in manifest.parts], manifest.errors)
    unfinished = {chunk.number for chunk in ledger.open}
    done = list(islice((number for number in range(ledger.planned) if number not in unfinished), MAX_FILES))
    suffix = "parquet" if done and _exists(folder, part_name(done[0], "parquet")) else "jsonl"
    parts, errors = [part_name(number, suffix) for number in done], map(errors_name, done)
    return RunFiles(ledger, None, parts, [name for name in errors if _exists(folder, name)])


def _exists(folder: OutputFolder, name: str) -> bool:
    """Whether a file exists, without reading it."""
    try:
        folder.size(name)
    except FileNotFoundError:
        return False
    return True


def first_rows(folder: OutputFolder, names: Sequence[str], count: int) -> list[dict[str, Any]]:
    """Read the first rows of several files. Of each file only its beginning is read.

    A row that is longer than `MAX_READ` bytes ends the preview. Vectors are left out.

    :param folder: the output folder
    :param names: the files, in JSON Lines or Parquet
    :param count: maximum number of rows
    :raises IncompleteOutputError: if a file is missing or damaged
    :raises MissingExtraError: if a file is in Parquet and pyarrow is not installed
    """
    found: list[dict[str, Any]] = []
    for name in names:
        if len(found) >= count:
            break
        read = _parquet_rows if name.endswith(".parquet") else _json_rows
        try:
            with folder.open(name) as stream:
                for row in read(stream, count - len(found)):
                    found.append({key: value for key, value in row.items() if key not in _VECTORS})
                    if len(found) == count:
                        break
        except FileNotFoundError:
            raise IncompleteOutputError(f"{folder.uri(name)} is missing.") from None
        except (msgspec.MsgspecError, UnicodeDecodeError, ValueError):
            raise IncompleteOutputError(f"{folder.uri(name)} is damaged.") from None
    return found


def _json_rows(stream: BinaryIO, count: int) -> Iterator[dict[str, Any]]:
    block = stream.read(MAX_READ)
    lines = block.split(b"\n", count)
    if len(block) == MAX_READ and len(lines) <= count:
        lines = lines[:-1]  # the last one may go on behind the block
    yield from map(_LINE.decode, filter(None, lines[:count]))


def _parquet_rows(stream: BinaryIO, count: int) -> Iterator[dict[str, Any]]:
    require_pyarrow()
    from pyarrow import ArrowException, parquet

    try:
        # Pages are read as they are needed; a row group may be as large as the whole file.
        file = parquet.ParquetFile(stream, pre_buffer=False, buffer_size=1 << 16)
        columns = [name for name in file.schema_arrow.names if name not in _VECTORS]
        for batch in file.iter_batches(batch_size=count, columns=columns):
            yield from batch.to_pylist()
            return
    except (ArrowException, OSError) as error:
        raise ValueError("it is not a complete Parquet file") from error


def part_rows(folder: OutputFolder, name: str) -> Iterator[dict[str, Any]]:
    """Read the rows of a part.

    :param folder: the output folder
    :param name: name of the part
    :raises FileNotFoundError: if there is no such file
    :raises IncompleteOutputError: if a part in Parquet is damaged
    :raises msgspec.MsgspecError: if a line of a part in JSON Lines is damaged
    """
    if not name.endswith(".parquet"):
        yield from map(_LINE.decode, folder.lines(name))
        return
    try:
        yield from table_rows(folder.read(name))
    except RowError:
        raise
    except ValueError as error:
        raise IncompleteOutputError(f"{folder.uri(name)} is damaged: {error}. {REMEDY}") from error
