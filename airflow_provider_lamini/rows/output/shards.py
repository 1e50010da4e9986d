"""The list of the folders of several runs whose results are combined: ``shards.json``, which `merge_shards` writes."""

from __future__ import annotations

import msgspec

from airflow_provider_lamini.rows.counts import Counts  # noqa: TC001 - msgspec needs it
from airflow_provider_lamini.rows.errors import IncompleteOutputError
from airflow_provider_lamini.rows.formats import SHARDS_FORMAT, FormatError
from airflow_provider_lamini.rows.storage.folder import OutputFolder
from airflow_provider_lamini.rows.storage.run_files import SHARDS


class Shard(msgspec.Struct, frozen=True):
    """The output folder of one of several runs.

    :param output: its URI, or its name if it is a subfolder of the folder with ``shards.json``
    :param first_row: index of its first row in the combined results
    :param rows: number of its rows
    """

    output: str
    first_row: int
    rows: int

    def location(self, target: OutputFolder) -> str:
        """The path or URI of the output folder.

        :param target: the folder with ``shards.json``
        """
        is_subfolder = not self.output.startswith("/") and "://" not in self.output
        return f"{target.location.rstrip('/')}/{self.output}" if is_subfolder else self.output


class Shards(msgspec.Struct, frozen=True, kw_only=True):
    """The content of ``shards.json``.

    :param shards: the shards, in the order of their rows
    :param counts: the rows of all shards by outcome
    :param models: the models that answered
    """

    format: str = SHARDS_FORMAT.name
    version: int = SHARDS_FORMAT.version
    shards: list[Shard]
    counts: Counts
    models: list[str]


_SHARDS = msgspec.json.Decoder(Shards)


def load_shards(folder: OutputFolder) -> Shards:
    """Read the list of shards in a folder.

    :param folder: the folder with ``shards.json``
    :raises IncompleteOutputError: if there is none that this release can read
    """
    try:
        return SHARDS_FORMAT.decode(folder.read(SHARDS), _SHARDS, folder.uri(SHARDS))
    except FileNotFoundError:
        raise IncompleteOutputError(
            f"{folder} has no {SHARDS}: its shards have not been merged. Merge them with merge_shards."
        ) from None
    except FormatError as error:
        raise IncompleteOutputError(str(error)) from error


def run_folders(location: str, conn_id: str | None) -> list[OutputFolder]:
    """The output folders of the runs in a folder: those of its shards, or itself.

    :param location: path or URI of the folder
    :param conn_id: the Airflow connection to the object store of all these folders
    :raises IncompleteOutputError: if the list of shards cannot be read
    """
    folder = OutputFolder(location, conn_id)
    if not folder.exists(SHARDS):
        return [folder]
    return [OutputFolder(shard.location(folder), conn_id) for shard in load_shards(folder).shards]
