"""Reads the rows of a part, whatever its format."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from airflow_provider_lamini.rows.errors import IncompleteOutputError, RowError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_lamini.rows.storage.folder import OutputFolder

REMEDY = "Restore the file, or repeat the run in another folder with reuse_from, which copies what is intact."
"""What to do about a file of a run that is missing or damaged."""

_LINE = msgspec.json.Decoder(dict[str, Any])


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
    from airflow_provider_lamini.rows.output.vectors import table_rows

    try:
        yield from table_rows(folder.read(name))
    except RowError:
        raise
    except ValueError as error:
        raise IncompleteOutputError(f"{folder.uri(name)} is damaged: {error}. {REMEDY}") from error
