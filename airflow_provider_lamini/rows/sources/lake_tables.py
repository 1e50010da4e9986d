"""Recognizes tables whose own metadata say which of their files count, so that deleted rows are not read as an input."""

from __future__ import annotations

import glob
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from airflow_provider_lamini.rows.errors import InputError
from airflow_provider_lamini.rows.sources.forms import suffix_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from airflow_provider_lamini.rows.storage.base import Store

_DELTA_LOG = "_delta_log"


@dataclass
class LakeTables:
    """Looks for Delta and Iceberg tables, in each folder once.

    :param shown: what messages call a folder
    """

    shown: Callable[[PurePosixPath], str]
    _known: dict[str, bool] = field(default_factory=dict)

    def refuse_folder(self, store: Store, path: str, names: Collection[str], shown: str) -> None:
        """Make sure that a folder is not a table.

        :param store: its store
        :param path: its path there
        :param names: the names of its files
        :param shown: what messages call it
        :raises InputError: if it is one
        """
        if store.is_folder(f"{path.rstrip('/')}/{_DELTA_LOG}"):
            raise _is_delta(shown)
        if store.is_folder(f"{path.rstrip('/')}/metadata") and not names:
            raise _is_iceberg(shown)

    def refuse_delta(self, store: Store | None, paths: Collection[str], listed: Collection[str]) -> None:
        """Make sure that files are not all those of a Delta table, of which its log has removed some.

        :param store: where to look for a log that was not listed; ``None`` not to look
        :param paths: the files
        :param listed: these and others beside them
        :raises InputError: if a file belongs to such a table
        """
        logs = {path.partition(f"/{_DELTA_LOG}/")[0] for path in listed if f"/{_DELTA_LOG}/" in path}
        for folder in _folders_of_tables(paths):
            # A table may spread its files over folders with random names.
            for root in (folder, folder.parent):
                if str(root) not in logs and store is not None and str(root) not in self._known:
                    self._known[str(root)] = store.is_folder(str(root / _DELTA_LOG))
                if str(root) in logs or self._known.get(str(root)):
                    raise _is_delta(self.shown(root))

    def refuse_iceberg(self, store: Store, paths: Collection[str]) -> None:
        """The same for Iceberg tables, whose files are in a folder ``data`` beside ``metadata``.

        :param store: where to look
        :param paths: the files
        :raises InputError: if a file belongs to such a table
        """
        for folder in _folders_of_tables(paths):
            metadata = folder.parent / "metadata"
            if folder.name != "data" or self._known.get(str(metadata)) is False:
                continue
            pattern = f"{glob.escape(str(metadata))}/*.metadata.json"
            self._known[str(metadata)] = store.is_folder(str(metadata)) and bool(store.glob(pattern))
            if self._known[str(metadata)]:
                raise _is_iceberg(self.shown(folder.parent))


def _is_delta(folder: str) -> InputError:
    return InputError(
        f"{folder} is a Delta table, whose log says which files count. Pass the list that DeltaTable(...).file_uris() gives, "
        "or its rows as an Arrow table."
    )


def _is_iceberg(folder: str) -> InputError:
    return InputError(
        f"{folder} looks like an Iceberg table, whose metadata say which files count. Pass its rows as an Arrow table: "
        "table.scan().to_arrow()."
    )


def _folders_of_tables(paths: Iterable[str]) -> dict[PurePosixPath, None]:
    """The folders of Parquet files, without those of partitions: one that may be the root of a table for each file."""
    parents = dict.fromkeys(PurePosixPath(path).parent for path in paths if suffix_of(path)[0] == ".parquet")
    return dict.fromkeys(map(_without_partitions, parents))


def _without_partitions(folder: PurePosixPath) -> PurePosixPath:
    while "=" in folder.name:
        folder = folder.parent
    return folder
