"""The manifest: the file that completes an output folder and lists its parts and counts."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec

from airflow_provider_lamini.rows.counts import Counts  # noqa: TC001 - msgspec reads the annotation
from airflow_provider_lamini.rows.errors import IncompleteOutputError
from airflow_provider_lamini.rows.formats import MANIFEST_FORMAT, FormatError
from airflow_provider_lamini.rows.storage.run_files import (
    MANIFEST,
    REPORT,
    REPORT_HTML,
    SHARDS,
    errors_name,
    part_name,
    remove_work_files,
)
from airflow_provider_lamini.wording import counted

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_lamini.api.call import Json
    from airflow_provider_lamini.rows.ledger.ledger import Ledger
    from airflow_provider_lamini.rows.storage.folder import OutputFolder

FORMAT = MANIFEST_FORMAT
_XCOM_PARTS = 100


class Part(msgspec.Struct, frozen=True):
    """One file of results.

    :param name: its name in the folder
    :param first_row: index of its first row
    :param rows: number of its rows
    """

    name: str
    first_row: int
    rows: int


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """The content of ``manifest.json``. It is written last: if it exists, all parts exist.

    :param output: the folder
    :param parts: its files of results, in the order of the rows
    :param errors: its files of failed rows
    :param counts: the rows by outcome
    :param model: the model that answered
    :param input: the input's path or URI; a description where it has none
    :param seconds: duration of the run over all tries
    :param settings: hash of the platform, the model and the parameters, for runs that reuse the results
    :param only_failed_of: the folder of the run whose failed rows these are; their indices have gaps
    :param reports: its files for people
    """

    format: str = FORMAT.name
    version: int = FORMAT.version
    output: str
    parts: list[Part]
    errors: list[str]
    counts: Counts
    model: str
    input: str
    seconds: float
    settings: str = ""
    only_failed_of: str | msgspec.UnsetType = msgspec.UNSET
    reports: list[str] = []

    def for_xcom(self, max_parts: int = _XCOM_PARTS) -> dict[str, Json]:
        """The manifest as a task returns it: plain values, with the URIs of the parts only if they are few.

        :param max_parts: maximum number of parts whose URIs are listed
        """
        folder = self.output.rstrip("/")
        counts: dict[str, Json] = msgspec.to_builtins(self.counts)
        few = len(self.parts) <= max_parts
        return {
            "output": self.output,
            "manifest": f"{folder}/{MANIFEST}",
            "parts": [f"{folder}/{part.name}" for part in self.parts] if few else None,
            "errors": [f"{folder}/{name}" for name in self.errors] if len(self.errors) <= max_parts else None,
            "chunks": len(self.parts),
            "counts": counts,
            "model": self.model,
            "input": self.input,
            "seconds": self.seconds,
            "report": f"{folder}/{REPORT}" if REPORT in self.reports else None,
            "report_html": f"{folder}/{REPORT_HTML}" if REPORT_HTML in self.reports else None,
        }


_MANIFEST = msgspec.json.Decoder(Manifest)


def write_manifest(
    folder: OutputFolder,
    ledger: Ledger,
    *,
    model: str,
    source: str,
    suffix: str = "jsonl",
    settings: str = "",
    only_failed_of: str | None = None,
    index: Callable[[int], int] = int,
    write_reports: Callable[[Manifest], list[str]] | None = None,
    clock: Callable[[], float] = time.time,
) -> Manifest:
    """End a run: check that all parts exist, write reports, then the manifest, and remove the work files.

    A manifest that exists already stays as it is.

    :param folder: the output folder
    :param ledger: its ledger, finished
    :param model: the model that answered
    :param source: the input (`Source.name`)
    :param suffix: file name suffix of the parts (`PartWriter.suffix`)
    :param settings: hash of the platform, the model and the parameters
    :param only_failed_of: as in `Manifest`
    :param index: returns the index of a row, given the number of rows before it
    :param write_reports: writes files for people about what the manifest is going to say, and returns their names. A process that
        dies before the manifest is written leaves them to the next one, which replaces them.
    :param clock: returns the current Unix timestamp
    :raises IncompleteOutputError: if the run is not finished, or a part is missing
    """
    if not ledger.finished:
        raise IncompleteOutputError(
            f"The run in {folder} is not finished: wait for its task to succeed, or clear it."
        )
    header = ledger.header
    parts = [
        Part(part_name(number, suffix), index(first), rows)
        for number, (first, rows) in enumerate(ledger.document.parts())
    ]
    owned = folder.start(ledger.check_acquired)
    names = set(folder.names())
    missing = [part.name for part in parts if part.name not in names]
    if missing and folder.remote:  # a store that fails may answer once that nothing exists
        names = set(folder.names())
        missing = [part.name for part in parts if part.name not in names]
    if missing:
        raise IncompleteOutputError(
            f"{folder} lacks {len(missing)} of its {counted(len(parts), 'part')}: somebody has removed "
            f"{', '.join(missing[:3])}{' and others' if len(missing) > 3 else ''}."  # noqa: PLR2004 - enough to look for
        )
    owned()
    if MANIFEST in names:
        manifest = read_manifest(folder)
    else:
        errors = (errors_name(number) for number in range(len(parts)))
        manifest = Manifest(
            output=folder.location,
            parts=parts,
            errors=[name for name in errors if name in names],
            counts=ledger.totals,
            model=model,
            input=source,
            seconds=round(max(0.0, clock() - header.created_at), 3),
            settings=settings,
            only_failed_of=only_failed_of or msgspec.UNSET,
        )
        if write_reports is not None:
            manifest = msgspec.structs.replace(manifest, reports=write_reports(manifest))
        folder.write(MANIFEST, msgspec.json.format(msgspec.json.encode(manifest), indent=1))
    remove_work_files(folder, keep_claims=ledger.document.keep_claims is True)
    folder.clean(older_than=0)
    folder.close_work()
    return manifest


def read_manifest(folder: OutputFolder) -> Manifest:
    """Read the manifest of a folder.

    :raises IncompleteOutputError: if there is none, or this release cannot read it
    """
    try:
        return FORMAT.decode(folder.read(MANIFEST), _MANIFEST, folder.uri(MANIFEST))
    except (FileNotFoundError, NotADirectoryError):
        if folder.exists(SHARDS):
            raise IncompleteOutputError(
                f"Pass the folder of one run: {folder} lists those of several, in {SHARDS}."
            ) from None
        raise IncompleteOutputError(
            f"{folder} has no {MANIFEST}: the run that writes there has not ended, or it is another folder."
        ) from None
    except FormatError as error:
        raise IncompleteOutputError(str(error)) from error
