"""Uploading a dataset once, whatever happens to the task in between."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from airflow.providers.common.compat.sdk import mask_secret

from airflow_provider_lamini.api import azure_blob
from airflow_provider_lamini.api.errors import UnsupportedError
from airflow_provider_lamini.corpus.pairs import dataset_file
from airflow_provider_lamini.exceptions import UnreadableRecordError
from airflow_provider_lamini.platforms.lamini.api import datasets
from airflow_provider_lamini.rows.bad_rows import failure_numbers, recorded_failures
from airflow_provider_lamini.rows.errors import RowError
from airflow_provider_lamini.rows.hashes import digest
from airflow_provider_lamini.runs.submission_record import (
    NoRecord,
    Submission,
    left_job_id,
    record_job_id,
    record_store,
)
from airflow_provider_lamini.wording import counted

if TYPE_CHECKING:
    from airflow_provider_lamini.corpus.pairs import DatasetFile, PairInput
    from airflow_provider_lamini.platforms.lamini.api.datasets import UploadBasePath
    from airflow_provider_lamini.runs.task import TaskRun

RECORD = "dataset"
"""The name of the record of an upload. A tuning task also keeps that of its job."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetRequest:
    """The dataset that a task needs.

    :param pairs: its rows
    :param is_public: whether others may use it; ``None`` for the platform's default
    """

    pairs: PairInput
    is_public: bool | None = None


@dataclass(frozen=True, slots=True)
class UploadedDataset:
    """A dataset on the platform.

    :param dataset_id: the platform's id
    :param rows: number of rows
    :param size: bytes of its rows as JSON Lines
    :param failures: number of rows of the input that were left out, by reason
    :param new: whether this try uploaded it
    """

    dataset_id: str
    rows: int
    size: int
    failures: dict[str, int]
    new: bool


def check_tuning(target: UploadBasePath) -> None:
    """Check that a platform does not say that it cannot tune.

    :param target: the platform's answer
    :raises UnsupportedError: if it does
    """
    if target.tuning_unavailable:
        raise UnsupportedError(
            f"{target.tuning_unavailable} Nothing was sent.", detail=target.tuning_unavailable
        )


def dataset_left_behind(task: TaskRun, state_path: str | None) -> str:
    """Say which dataset this task has uploaded, in this try or an earlier one, if its job has failed. Lineage names it, too.

    :param task: this try of the task
    :param state_path: folder for the record of the upload; ``None`` for the default
    :return: a sentence; empty if there is no dataset, or no trace of it: its record is lost, or there is none, and an
        earlier process has uploaded it
    """
    record = None
    try:
        record = record_store(task, state_path, RECORD).read()
    except (UnreadableRecordError, RowError, OSError) as error:  # the error about the job is more important
        task.log.warning("Could not read whether this task has uploaded a dataset: %s", error)
    again = "pass it as dataset_id to use it again"
    if record is not None and record.job_id is not None:
        task.made["dataset_id"] = record.job_id
        again = "a retry uses it again, and another task can, as its dataset_id"
    dataset_id = task.made.get("dataset_id")
    if dataset_id is None:
        return ""
    return f"Dataset {dataset_id}, which this task has uploaded, stays on the platform: {again}."


class DatasetUpload:
    """Uploads the dataset that a task needs, or finds the one that an earlier try uploaded.

    :param task: this try of the task
    :param request: the dataset
    :param state_path: folder for the record of the upload; ``None`` for the default
    :raises RowError: if the input cannot be found
    """

    def __init__(self, task: TaskRun, request: DatasetRequest, state_path: str | None) -> None:
        self._task = task
        self._request = request
        self._records = record_store(task, state_path, RECORD)
        self._source = request.pairs.open()

    @property
    def fingerprint(self) -> str:
        """A hash of everything that decides the dataset's content, computed without reading the input."""
        return digest(
            {
                "platform": self._task.settings.base_url,
                "is_public": self._request.is_public,
                **self._request.pairs.fingerprint_inputs(self._source),
            }
        )

    def uploaded_id(self) -> str | None:
        """The id of the dataset, if an earlier try has uploaded it."""
        record = self._records.read()
        return record.job_id if record and record.fingerprint == self.fingerprint else None

    def warn_without_record(self) -> None:
        """Log it if a retry would upload again, because there is no place for a record."""
        if isinstance(self._records, NoRecord):
            self._records.warn(self._task.log)

    def upload(self, *, forced_by: str | None = None, to_tune: bool = False) -> UploadedDataset:
        """Upload the dataset, unless an earlier try has.

        :param forced_by: upload it again, once for this request (`TaskIdentity.request_key`)
        :param to_tune: whether this task tunes a model on it; then a platform that cannot do that gets no dataset
        :raises RowError: if the input cannot be read, or has invalid rows; nothing was sent
        :raises PlatformError: if the platform, or its store, failed or refused
        :raises UnsupportedError: with ``to_tune``, if the platform cannot tune; nothing was uploaded
        """
        log, fingerprint = self._task.log, self.fingerprint
        record = self._records.read()
        usable = record is not None and (forced_by is None or record.forced_by == forced_by)
        if record and usable and record.fingerprint == fingerprint:
            dataset_id = record.job_id or left_job_id(self._task, fingerprint)
            if dataset_id is not None:
                rows, size = record.numbers["rows"], record.numbers["bytes"]
                self._task.made["dataset_id"] = dataset_id
                log.info("An earlier try has uploaded dataset %s with %s.", dataset_id, counted(rows, "row"))
                return UploadedDataset(dataset_id, rows, size, recorded_failures(record.numbers), new=False)
            log.info(
                "An earlier upload was interrupted. It may have left an unused dataset; uploading again."
            )
        with dataset_file(self._request.pairs.reader(self._source)) as dataset:
            failures = dict(dataset.bad.failures)
            report = log.warning if failures else log.info
            report("Read %s", dataset.found)
            target = self._task.hook.send(datasets.upload_base_path())
            if to_tune:
                check_tuning(target)
            elif target.tuning_unavailable:
                log.warning(
                    "%s The dataset is uploaded nevertheless.",
                    target.tuning_unavailable,
                )
            intent = Submission(
                fingerprint=fingerprint,
                mark="",
                intended_at=time.time(),
                numbers={"rows": dataset.rows, "bytes": dataset.size, **failure_numbers(failures)},
                forced_by=forced_by,
            )
            self._records.write(intent)
            self._task.begun = True
            dataset_id = self._send(dataset, target)
        self._task.made["dataset_id"] = dataset_id
        uploaded = intent.submitted(dataset_id, time.time())
        record_job_id(self._task, dataset_id, "dataset", fingerprint, lambda: self._records.write(uploaded))
        log.info("Uploaded dataset %s: %s, %d bytes.", dataset_id, counted(dataset.rows, "row"), dataset.size)
        return UploadedDataset(dataset_id, dataset.rows, dataset.size, failures, new=True)

    def _send(self, dataset: DatasetFile, target: UploadBasePath) -> str:
        send = self._task.hook.send
        path, is_public = target.upload_base_path, self._request.is_public
        if not target.azure:
            call = datasets.upload_file(upload_base_path=path, data=dataset.file, is_public=is_public)
            return send(call).dataset_id
        created = send(datasets.create(upload_base_path=path, is_public=is_public))
        # Whoever knows the address can write to the blob for a while.
        mask_secret(created.dataset_location)
        if signature := urlsplit(created.dataset_location).query:
            mask_secret(signature)
        azure_blob.upload(created.dataset_location, dataset.file, self._task.settings)
        send(datasets.count(dataset_id=created.dataset_id, num_datapoints=dataset.rows))
        return created.dataset_id
