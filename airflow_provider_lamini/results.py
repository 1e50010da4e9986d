"""Several finished runs as one: what mapped tasks left in their folders, in one order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from airflow_provider_lamini.rows.counts import Counts
from airflow_provider_lamini.rows.errors import IncompleteOutputError, OutputError
from airflow_provider_lamini.rows.output.manifest import Part, read_document, read_manifest
from airflow_provider_lamini.rows.storage.folder import OutputFolder

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from airflow_provider_lamini.api.call import Json
from airflow_provider_lamini.rows.errors import RowError


def read_outputs(folder: OutputFolder | str, conn_id: str | None = None) -> Iterator[dict[str, Any]]:
    """The results of a finished run, row by row in the order of the input, with constant memory.

    Each is a dictionary with ``index``, the columns that were passed through, ``output``,
    ``finish_reason`` and ``error``; with vectors, ``embedding`` and ``error``.

    :param folder: the output folder of the run
    :param conn_id: the Airflow connection to the object store
    :raises IncompleteOutputError: where a row is not there, not in its place, or cannot be read
    """
    place = OutputFolder(folder, conn_id) if isinstance(folder, str) else folder
    for part in read_manifest(place).parts:
        yield from _read_part(place, part)


def _read_part(folder: OutputFolder, part: Part) -> Iterator[dict[str, Any]]:
    expected = part.first_row
    end = part.first_row + part.rows
    try:
        for row in _rows_of(folder, part.name):
            if row.get("index") != expected or expected == end:
                raise IncompleteOutputError(
                    f"{folder.uri(part.name)}: row {expected} is not where it should be."
                )
            expected += 1
            yield row
    except FileNotFoundError:
        raise IncompleteOutputError(f"{folder.uri(part.name)} is gone.") from None
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise IncompleteOutputError(f"{folder.uri(part.name)}: row {expected} is damaged.") from None
    if expected != end:
        raise IncompleteOutputError(
            f"{folder.uri(part.name)} has {expected - part.first_row} of {part.rows} rows."
        )


def _rows_of(folder: OutputFolder, name: str) -> Iterator[dict[str, Any]]:
    if name.endswith(".parquet"):
        from airflow_provider_lamini.rows.output.vectors import table_rows

        try:
            yield from table_rows(folder.read(name))
        except RowError:
            raise
        except ValueError as error:
            raise IncompleteOutputError(f"{folder.uri(name)} is damaged: {error}.") from error
        return
    yield from map(msgspec.json.Decoder(dict[str, Any]).decode, folder.lines(name))


SHARDS = "shards.json"
"""The file that names the shards of a run."""

_FORMAT = "lamini-shards"
_VERSION = 1
_XCOM_SHARDS = 100


class Shard(msgspec.Struct, frozen=True):
    """The output folder of one of the runs.

    :param output: the folder: its URI, or its name where it lies in the folder of the whole
    :param first_row: index of its first row among all
    :param rows: how many rows it has
    """

    output: str
    first_row: int
    rows: int


class Shards(msgspec.Struct, frozen=True, kw_only=True):
    """What ``shards.json`` holds.

    :param shards: the runs, in the order of their rows
    :param counts: the rows of all by outcome
    :param models: the models that answered
    """

    format: str = _FORMAT
    version: int = _VERSION
    shards: list[Shard]
    counts: Counts
    models: list[str]


def merge_shards(
    outputs: Iterable[str | Mapping[str, Any]], into: str, conn_id: str | None = None
) -> dict[str, Json]:
    """Write down that several finished runs are one. No row is copied; doing it again does no harm.

    :param outputs: the runs in the order that their rows shall have: their output folders, or what their tasks returned
    :param into: the folder for ``shards.json``, a path or URI; best the one that holds the runs' folders
    :param conn_id: the Airflow connection to the object store of all these folders
    :return: ``output``, ``manifest``, ``counts``, ``models``, ``shards`` (how many) and, up to 100 of them, ``outputs``
    :raises IncompleteOutputError: where a run has not ended
    :raises OutputError: where a folder is given twice
    """
    place = OutputFolder(into, conn_id)
    inside = f"{place.location.rstrip('/')}/"
    shards: dict[str, Shard] = {}
    counts = Counts()
    models: dict[str, None] = {}
    for output in outputs:
        folder = OutputFolder(output if isinstance(output, str) else str(output["output"]), conn_id)
        if folder.location in shards:
            raise OutputError(f"{folder} is given twice: each shard needs a folder of its own.")
        manifest = read_manifest(folder)
        name = folder.location.removeprefix(inside)
        shards[folder.location] = Shard(name, counts.rows, manifest.counts.rows)
        counts += manifest.counts
        models[manifest.model] = None
    merged = Shards(shards=list(shards.values()), counts=counts, models=list(models))
    place.write(SHARDS, msgspec.json.format(msgspec.json.encode(merged), indent=1))
    return {
        "output": place.location,
        "manifest": place.uri(SHARDS),
        "counts": msgspec.to_builtins(counts),
        "models": [*models],
        "shards": len(shards),
        "outputs": [*shards] if len(shards) <= _XCOM_SHARDS else None,
    }


def read_shards(folder: str, conn_id: str | None = None) -> Iterator[dict[str, Any]]:
    """The results of all shards, row by row, with constant memory.

    Rows are as `manifest.read_outputs` gives them, but for ``index``, which counts through all shards.

    :param folder: the folder that holds ``shards.json``
    :param conn_id: the Airflow connection to the object store
    :raises IncompleteOutputError: where the folder has no such file, or a row is not there
    """
    place = OutputFolder(folder, conn_id)
    for shard in _read(place).shards:
        is_inside = not shard.output.startswith("/") and "://" not in shard.output
        output = f"{place.location.rstrip('/')}/{shard.output}" if is_inside else shard.output
        rows = 0
        for row in read_outputs(output, conn_id):
            rows += 1
            yield row | {"index": shard.first_row + row["index"]}
        if rows != shard.rows:
            raise IncompleteOutputError(
                f"{output} has {rows} rows, and had {shard.rows} when the shards were merged. Merge them again."
            )


def _read(place: OutputFolder) -> Shards:
    missing = f"{place} has no {SHARDS}: its shards have not been merged."
    return read_document(place, SHARDS, Shards, (_FORMAT, _VERSION), missing)
