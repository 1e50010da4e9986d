"""A dry run of a task that sends a dataset: its rows are read, validated and counted, and nothing is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_lamini.corpus.pairs import dataset_file
from airflow_provider_lamini.runs.outcome import Done

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_lamini.corpus.pairs import PairInput
    from airflow_provider_lamini.jobs.event import JobEvent
    from airflow_provider_lamini.rows.sources.source import Source
    from airflow_provider_lamini.runs.outcome import Log


class DryRun:
    """Work that counts the rows of a dataset.

    :param pairs: the rows
    :param log: the task's log
    :param fields: what question and answer are called in the dataset
    :param check_size: raises an error if a dataset with so many bytes is too large
    """

    def __init__(
        self,
        pairs: PairInput,
        log: Log,
        *,
        fields: tuple[str, str] = ("input", "output"),
        check_size: Callable[[int, Source], None] = lambda size, source: None,  # noqa: ARG005
    ) -> None:
        self._pairs = pairs
        self._log = log
        self._fields = fields
        self._check_size = check_size

    def advance(self, event: JobEvent | None = None) -> Done[dict[str, object]]:
        """Read and count the rows.

        :param event: none; nothing waits
        :raises RowError: if they cannot be used, or are more than may be
        """
        del event
        source = self._pairs.open()
        reader = self._pairs.reader(source)
        with dataset_file(reader, self._fields) as dataset:
            self._check_size(dataset.size, source)
            self._log.info("Dry run: read %s Nothing was sent.", dataset.found)
            counts = {"dry_run": True, **reader.counts(), "bytes": dataset.size}
        return Done({**counts, "input": source.name()})

    def on_deadline(self, event: JobEvent) -> str:
        """Nothing runs."""
        del event
        return "Nothing was sent."

    def close(self) -> None:
        """Nothing is open."""
