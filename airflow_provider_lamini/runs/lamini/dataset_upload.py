"""Uploading a dataset once, whatever happens to the task in between. For tasks that run; imported by none that is parsed."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from airflow.providers.common.compat.sdk import mask_secret

from airflow_provider_lamini.api import azure_blob
from airflow_provider_lamini.corpus.pairs import Columns, kept
from airflow_provider_lamini.platforms.lamini.api import datasets
from airflow_provider_lamini.rows.sources.source import open_source
from airflow_provider_lamini.runs.submission_record import Submission, digest

if TYPE_CHECKING:
    from airflow_provider_lamini.corpus.pairs import Dataset
    from airflow_provider_lamini.hooks.base import PlatformHook
    from airflow_provider_lamini.runs.outcome import Log
    from airflow_provider_lamini.runs.submission_record import RecordStore

RECORD = "dataset"
"""The name of the record of an upload, beside that of a submission."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetRequest:
    """The dataset that a task wants.

    :param given: its rows: a list, or a path, URI or glob
    :param columns: how they become rows of a dataset
    :param is_public: whether others may use it; ``None`` leaves it to the platform
    :param conn_id: the connection for the input's object storage
    """

    given: object
    columns: Columns
    is_public: bool | None = None
    conn_id: str | None = None


@dataclass(frozen=True, slots=True)
class Uploaded:
    """A dataset on the platform.

    :param dataset_id: the platform's id
    :param rows: how many rows it has
    :param size: bytes of its rows as JSON Lines
    :param new: whether this try has uploaded it
    """

    dataset_id: str
    rows: int
    size: int
    new: bool


class DatasetUpload:
    """Makes the dataset that a task wants, or finds the one that an earlier try has made.

    :param wanted: the dataset
    :param hook: leads to the platform
    :param records: keeps what was uploaded
    :param log: the task's log
    :raises RowError: where the input cannot be found
    """

    def __init__(self, wanted: DatasetRequest, *, hook: PlatformHook, records: RecordStore, log: Log) -> None:
        self._wanted = wanted
        self._hook = hook
        self._records = records
        self._log = log
        self._source = open_source(wanted.given, conn_id=wanted.conn_id)

    @property
    def fingerprint(self) -> str:
        """A hash of everything that decides what the dataset holds. The input is not read for it."""
        return digest(
            {
                "platform": self._hook.settings().base_url,
                "input": self._source.stamp(),
                "columns": self._wanted.columns.texts,
                "is_public": self._wanted.is_public,
            }
        )

    def known(self) -> str | None:
        """The id of the dataset, where an earlier try has uploaded it."""
        found = self._records.read()
        return found.job_id if found and found.fingerprint == self.fingerprint else None

    def make(self, *, forced_by: str | None = None) -> Uploaded:
        """Upload the dataset, unless an earlier try has.

        :param forced_by: upload it in any case, once for this request (`step.request_key`)
        :raises RowError: where the input cannot be read, or rows cannot be used; nothing was sent then
        :raises PlatformError: where the platform, or its store, failed or refused
        """
        fingerprint = self.fingerprint
        before = self._records.read()
        wanted = before is not None and (forced_by is None or before.forced_by == forced_by)
        if before and before.fingerprint == fingerprint and wanted:
            if before.job_id is not None:
                rows, size = before.numbers["rows"], before.numbers["bytes"]
                self._log.info("Dataset %s with %d rows was uploaded before.", before.job_id, rows)
                return Uploaded(before.job_id, rows, size, new=False)
            self._log.info("An earlier upload was interrupted; it may have left a dataset that nothing uses.")
        with kept(self._source, self._wanted.columns) as dataset:
            self._log.info("Read %s: %d rows, all fit.", self._source.describe(), dataset.rows)
            now = time.time()
            intent = Submission(fingerprint=fingerprint, mark="", intended_at=now, forced_by=forced_by)
            self._records.write(intent)
            dataset_id = self._send(dataset)
        numbers = {"rows": dataset.rows, "bytes": dataset.size}
        done = replace(intent.submitted(dataset_id, time.time()), numbers=numbers)
        self._records.write(done)
        self._log.info("Uploaded dataset %s: %d rows, %d bytes.", dataset_id, dataset.rows, dataset.size)
        return Uploaded(dataset_id, dataset.rows, dataset.size, new=True)

    def _send(self, dataset: Dataset) -> str:
        place = self._hook.send(datasets.upload_base_path())
        path, is_public = place.upload_base_path, self._wanted.is_public
        if not place.azure:
            call = datasets.upload_file(upload_base_path=path, data=dataset.file, is_public=is_public)
            return self._hook.send(call).dataset_id
        made = self._hook.send(datasets.create(upload_base_path=path, is_public=is_public))
        # The address allows to write for a while: it is a secret.
        mask_secret(made.dataset_location)
        if signature := urlsplit(made.dataset_location).query:
            mask_secret(signature)
        azure_blob.upload(made.dataset_location, dataset.file, self._hook.settings())
        self._hook.send(datasets.count(dataset_id=made.dataset_id, num_datapoints=dataset.rows))
        return made.dataset_id
