"""Reads the output folders of operators over rows, and combines those of mapped tasks. Part of the public API.

A task's result names its output folder::

    for row in read_outputs(manifest["output"]):
        ...

If a task is mapped over files, each mapped task has its own folder. `merge_shards` combines them in one order, and
`read_shards` reads them as one.
"""

from __future__ import annotations

import sys
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_provider_lamini.compat import collects_lineage, report_hook_lineage
from airflow_provider_lamini.rows.counts import Counts
from airflow_provider_lamini.rows.errors import IncompleteOutputError, OutputError
from airflow_provider_lamini.rows.output.manifest import read_manifest
from airflow_provider_lamini.rows.output.reading import REMEDY, part_rows
from airflow_provider_lamini.rows.output.shards import Shard, Shards, load_shards
from airflow_provider_lamini.rows.sources.forms import folder_of_run
from airflow_provider_lamini.rows.storage.data_names import file_data
from airflow_provider_lamini.rows.storage.folder import OutputFolder
from airflow_provider_lamini.rows.storage.run_files import SHARDS
from airflow_provider_lamini.wording import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from airflow_provider_lamini.api.call import Json
    from airflow_provider_lamini.rows.output.manifest import Part

__all__ = ["SHARDS", "merge_shards", "part_groups", "read_outputs", "read_shards"]

_XCOM_SHARDS = 100


def read_outputs(folder: str, conn_id: str | None = None) -> Iterator[dict[str, Any]]:
    """Read the results of a finished run, row by row in the order of the input. Memory use is constant.

    Each row has ``index``, the passthrough columns, ``output``, ``finish_reason`` and ``error``. Rows with vectors have
    ``embedding`` and ``error`` instead of the last three.

    :param folder: path or URI of the run's output folder
    :param conn_id: the Airflow connection to the object store
    :return: the rows
    :raises IncompleteOutputError: if the run has not ended, or a row is missing or damaged
    """
    output = OutputFolder(folder, conn_id)
    manifest = read_manifest(output)
    _report(output, reads=[output])
    for part in manifest.parts:
        yield from _read_part(output, part, has_gaps=bool(manifest.only_failed_of))


def part_groups(
    output: str | Mapping[str, Any], max_groups: int = 100, conn_id: str | None = None
) -> list[list[str]]:
    """Group the parts of a finished run, of any size, for mapped tasks: ``.expand(input=part_groups(...))``.

    Each group is a list of files, as operators take it for ``input``.

    :param output: the run's output folder, its manifest, or what its task returned
    :param max_groups: maximum number of groups; Airflow's ``[core] max_map_length`` is 1024 by default
    :param conn_id: the Airflow connection to the object store
    :return: URIs of the parts in the order of the rows, in groups of nearly the same size
    :raises IncompleteOutputError: if the run has not ended
    """
    folder = OutputFolder(str(folder_of_run(output)), conn_id)
    uris = [folder.uri(part.name) for part in read_manifest(folder).parts]
    count = min(max_groups, len(uris))
    bounds = [len(uris) * number // count for number in range(count + 1)] if count else []
    return [uris[begin:end] for begin, end in pairwise(bounds)]


def merge_shards(
    outputs: Iterable[str | Mapping[str, Any]], into: str, conn_id: str | None = None
) -> dict[str, Json]:
    """Combine the results of finished runs. This writes ``shards.json`` and copies no rows; it may be repeated.

    :param outputs: the runs in the order of their rows: output folders, or what their tasks returned
    :param into: path or URI of the folder for ``shards.json``, ideally the one that contains the runs' folders
    :param conn_id: the Airflow connection to the object store of all these folders
    :return: ``output``, ``manifest``, ``counts``, ``models``, ``shards`` (their number) and, for up to 100 shards,
        ``outputs``
    :raises IncompleteOutputError: if a run has not ended
    :raises OutputError: if a folder occurs twice, or has only the failed rows of another run
    """
    target = OutputFolder(into, conn_id)
    prefix = f"{target.location.rstrip('/')}/"
    shards: dict[str, Shard] = {}
    counts = Counts()
    models: dict[str, None] = {}
    for output in outputs:
        folder = OutputFolder(output if isinstance(output, str) else str(output["output"]), conn_id)
        if folder.location in shards:
            raise OutputError(f"{folder} occurs twice: each shard needs its own folder.")
        manifest = read_manifest(folder)
        if manifest.only_failed_of:
            raise OutputError(
                f"{folder} has only rows that failed in {manifest.only_failed_of}, with their indices there. Read it with "
                "read_outputs, and replace these rows."
            )
        name = folder.location.removeprefix(prefix)
        shards[folder.location] = Shard(name, counts.rows, manifest.counts.rows)
        counts += manifest.counts
        models[manifest.model] = None
    merged = Shards(shards=list(shards.values()), counts=counts, models=list(models))
    target.write(SHARDS, msgspec.json.format(msgspec.json.encode(merged), indent=1))
    _report(target, writes=[target])
    return {
        "output": target.location,
        "manifest": target.uri(SHARDS),
        "counts": msgspec.to_builtins(counts),
        "models": [*models],
        "shards": len(shards),
        "outputs": [*shards] if len(shards) <= _XCOM_SHARDS else None,
    }


def read_shards(folder: str, conn_id: str | None = None) -> Iterator[dict[str, Any]]:
    """Read the results of all shards, row by row. Memory use is constant.

    Rows are as in `read_outputs`, except that ``index`` numbers the rows of all shards.

    :param folder: path or URI of the folder with ``shards.json``
    :param conn_id: the Airflow connection to the object store
    :return: the rows
    :raises IncompleteOutputError: if the shards have not been merged, or a row is missing or damaged
    """
    target = OutputFolder(folder, conn_id)
    for shard in load_shards(target).shards:
        output, rows = shard.location(target), 0
        for row in read_outputs(output, conn_id):
            rows += 1
            yield row | {"index": shard.first_row + row["index"]}
        if rows != shard.rows:
            raise IncompleteOutputError(
                f"{output} has {counted(rows, 'row')}, but had {shard.rows} when the shards were merged. Merge them again."
            )


def _report(
    context: OutputFolder, *, reads: Sequence[OutputFolder] = (), writes: Sequence[OutputFolder] = ()
) -> None:
    """Report folders to Airflow's hook lineage, if this process is one of Airflow."""
    if "airflow" in sys.modules and collects_lineage():
        report_hook_lineage(
            context,
            reads=[file_data(folder.location).uri for folder in reads],
            writes=[file_data(folder.location).uri for folder in writes],
        )


def _read_part(folder: OutputFolder, part: Part, *, has_gaps: bool) -> Iterator[dict[str, Any]]:
    expected, end = part.first_row, part.first_row + part.rows
    try:
        for row in part_rows(folder, part.name):
            index = row.get("index")
            if index != expected or expected == end:
                # After its first row, a part with gaps may continue with any later row.
                gap = index - expected if isinstance(index, int) else 0
                if not (has_gaps and gap > 0 and part.first_row < expected < end):
                    raise IncompleteOutputError(
                        f"{folder.uri(part.name)}: row {expected} is missing or in the wrong position. {REMEDY}"
                    )
                expected, end = expected + gap, end + gap
            expected += 1
            yield row
    except FileNotFoundError:
        raise IncompleteOutputError(f"{folder.uri(part.name)} is missing. {REMEDY}") from None
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise IncompleteOutputError(f"{folder.uri(part.name)}: row {expected} is damaged. {REMEDY}") from None
    if expected != end:
        done = part.rows - (end - expected)
        raise IncompleteOutputError(f"{folder.uri(part.name)} has {done} of {part.rows} rows. {REMEDY}")
