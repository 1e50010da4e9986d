"""The manifest of a finished run, and the way back from a folder to its rows."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol, TypeVar

import msgspec

from airflow_provider_lamini.rows.counts import Counts  # noqa: TC001 - msgspec reads the annotation
from airflow_provider_lamini.rows.errors import IncompleteOutputError
from airflow_provider_lamini.rows.run_files import MANIFEST, errors_name, part_name, remove_stages

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_lamini.api.call import Json
    from airflow_provider_lamini.rows.ledger.ledger import Ledger
    from airflow_provider_lamini.rows.storage.folder import OutputFolder

_FORMAT = "lamini-rows"
_VERSION = 1
_XCOM_PARTS = 100


class VersionedDocument(Protocol):
    """What every such file says of itself."""

    @property
    def format(self) -> str:
        """Whose it is."""

    @property
    def version(self) -> int:
        """Of which version."""


D = TypeVar("D", bound=VersionedDocument)


class Part(msgspec.Struct, frozen=True):
    """One file of results.

    :param name: its name in the folder
    :param first_row: index of its first row
    :param rows: how many rows it has
    """

    name: str
    first_row: int
    rows: int


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a run left in its folder. The file ``manifest.json`` is written last: where it is, all is there.

    :param output: the folder
    :param parts: its files of results, in the order of the rows
    :param errors: its files of failed rows
    :param counts: the rows by outcome
    :param model: the model that answered
    :param input: what was read, for a person
    :param seconds: from the beginning of the run to its end, over all tries
    """

    format: str = _FORMAT
    version: int = _VERSION
    output: str
    parts: list[Part]
    errors: list[str]
    counts: Counts
    model: str
    input: str
    seconds: float

    def for_xcom(self, max_parts: int = _XCOM_PARTS) -> dict[str, Json]:
        """The manifest as a task returns it: plain values, and the parts' URIs only where they are few.

        :param max_parts: up to how many parts are named
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
        }


def write_manifest(
    folder: OutputFolder,
    ledger: Ledger,
    *,
    model: str,
    source: str,
    suffix: str = "jsonl",
    clock: Callable[[], float] = time.time,
) -> Manifest:
    """End a run: see that all parts are there, write the manifest, remove what only the run needed.

    A run that has a manifest keeps it as it is.

    :param folder: the output folder
    :param ledger: its ledger, finished
    :param model: the model that answered
    :param source: what was read, for a person (`source.Source.describe`)
    :param suffix: how the names of its parts end (`parts.PartWriter.suffix`)
    :param clock: gives the time, in seconds since 1970
    :raises IncompleteOutputError: where the run is not finished, or a part is gone
    """
    if not ledger.finished:
        raise IncompleteOutputError(f"The run in {folder} is not finished.")
    header = ledger.header
    parts = [
        Part(part_name(number, suffix), first, min(header.chunk_size, header.total - first))
        for number, first in enumerate(range(0, header.total, header.chunk_size))
    ]
    there = set(folder.names())
    gone = [part.name for part in parts if part.name not in there]
    if gone:
        raise IncompleteOutputError(
            f"{len(gone)} of {len(parts)} parts of {folder} are gone, the first is {gone[0]}. Somebody has "
            f"removed them."
        )
    ledger.check()
    if MANIFEST in there:
        manifest = read_manifest(folder)
    else:
        errors = (errors_name(number) for number in range(len(parts)))
        manifest = Manifest(
            output=folder.location,
            parts=parts,
            errors=[name for name in errors if name in there],
            counts=ledger.totals,
            model=model,
            input=source,
            seconds=round(max(0.0, clock() - header.created_at), 3),
        )
        folder.write(MANIFEST, msgspec.json.format(msgspec.json.encode(manifest), indent=1))
    remove_stages(folder)
    folder.clean(older_than=0)
    folder.close_work()
    return manifest


def read_manifest(folder: OutputFolder) -> Manifest:
    """The manifest of a folder.

    :raises IncompleteOutputError: where there is none, or none of ours
    """
    missing = f"{folder} has no {MANIFEST}: the run that writes there has not ended, or it is another folder."
    return read_document(folder, MANIFEST, Manifest, (_FORMAT, _VERSION), missing)


def read_document(
    folder: OutputFolder, name: str, shape: type[D], expected: tuple[str, int], missing: str
) -> D:
    """One of the files that say what lies in a folder.

    :param folder: the folder
    :param name: the file
    :param shape: what it holds
    :param expected: its format and version
    :param missing: what to say where there is none
    :raises IncompleteOutputError: where there is none, or none of ours
    """
    try:
        document = msgspec.json.decode(folder.read(name), type=shape)
    except FileNotFoundError:
        raise IncompleteOutputError(missing) from None
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise IncompleteOutputError(f"{folder.uri(name)} is damaged or not ours.") from None
    if (document.format, document.version) != expected:
        raise IncompleteOutputError(
            f"{folder.uri(name)} is not ours, or of a newer version of airflow-provider-lamini."
        )
    return document
