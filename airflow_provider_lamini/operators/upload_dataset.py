"""Uploading datasets for tuning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_lamini.operators.base import COLOR
from airflow_provider_lamini.operators.lineage import records_lineage, reports_lineage
from airflow_provider_lamini.operators.templates import renders_only_templates
from airflow_provider_lamini.runs.arguments import flag, folder, plain_name
from airflow_provider_lamini.runs.outlets import publishes
from airflow_provider_lamini.runs.shared_arguments import (
    BAD_ROW_FIELDS,
    INPUT_FIELDS,
    LIMITS,
    pair_input,
    paths_to_text,
    required_input,
)
from airflow_provider_lamini.runs.task_errors import as_argument_errors

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.providers.common.compat.sdk import Context


@renders_only_templates
@reports_lineage("lamini", makes={"dataset_id": "datasets"})
class LaminiUploadDatasetOperator(BaseOperator):
    """Uploads rows from a list or from storage as a dataset.

    Every row is read and checked before anything is sent; an error names invalid rows by number. The rows are kept in a
    temporary file on the worker, so its disk must have room for them, but memory does not depend on their number. If the
    platform stores datasets itself, they are streamed to it in one request; if it stores them in Azure, they are sent to a
    blob in blocks. A retry does not repeat the upload of an earlier try.

    Endpoints: ``GET /v1/get-upload-base-path``, then ``POST /v1/local-data``, or ``POST /v1/data`` and
    ``POST /v1/data/num-datapoints``.

    :param input: a list of rows (mappings), or a path, URI or glob on object storage: JSON Lines, CSV, or Parquet
        (extra ``parquet``)
    :param prompt: the question: the name of a column, or a template over a row's columns, such as
        ``"Categorize: {subject}"``. The platform adds no chat template: write what the model should see.
    :param answer: the expected answer, likewise
    :param is_public: whether others may use the dataset; default: the platform's
    :param lamini_conn_id: the connection to the platform
    :param columns: names for rows that are sequences of values, such as those of a database
    :param input_format: the format of files whose names do not tell it: ``jsonl``, ``json``, ``csv``, ``tsv``, ``parquet`` or
        ``txt``
    :param csv_options: how CSV files are written: ``delimiter``, ``encoding``, ``escape``, ``quote``, ``null_values`` and
        ``header`` (names for files without a header line)
    :param failed_input_rows: what to do with the failed rows if the input is an earlier run: ``skip`` them, ``fail``, or take
        ``only`` these, with their ``index``
    :param on_bad_row: what to do with a row that cannot be read, or has no question or no answer: ``fail`` the task before
        anything is sent, or leave the row out and say so (``error``)
    :param max_failed_rows: with ``on_bad_row="error"``: how many rows may be left out: a number, a fraction such as ``0.01``,
        or ``"1%"``; if there are more, nothing is sent
    :param limit_rows: send only the first rows, this many; those after them are not checked
    :param max_rows: how many rows the input may have; if it has more, nothing is sent
    :param max_input_chars: how many characters all questions and answers may have; if they have more, nothing is sent
    :param dry_run: only read, check and count the rows; send nothing. The result then has ``dry_run``, ``rows``
        (including those that cannot be used), ``characters``, ``bytes``, ``failures`` and ``input``.
    :param input_conn_id: the connection for the input's object storage
    :param input_sql: a query that returns the rows, instead of ``input``; needs ``ORDER BY``, and ``input_conn_id``, the
        connection to the database
    :param sql_parameters: the values of the query's placeholders, a mapping or a list
    :param state_path: folder for the record of the upload, a path or URI; default: Airflow's task state store (3.3 and
        newer), else the connection's ``state_path``, else ``[lamini] state_path``
    :param force_new: upload again what this run has already uploaded; once for each run and each clear of the task
    :return: ``dataset_id``, ``rows``, ``bytes`` (of the rows as JSON Lines), ``new`` (whether this try uploaded it) and
        ``failures`` (rows left out, by reason)
    """

    template_fields: Sequence[str] = (
        "lamini_conn_id",
        "input",
        "prompt",
        "answer",
        "is_public",
        *INPUT_FIELDS,
        *BAD_ROW_FIELDS,
        *LIMITS,
        "count_only",
        "input_conn_id",
        "input_sql",
        "sql_parameters",
        "state_path",
        "force_new",
    )
    template_fields_renderers = {"prompt": "md"}  # noqa: RUF012 - as Airflow declares it
    ui_color = COLOR

    def __init__(
        self,
        *,
        input: str | Sequence[Mapping[str, object]] | None = None,  # noqa: A002 - users expect it
        prompt: str = "input",
        answer: str = "output",
        is_public: bool | str | None = None,
        lamini_conn_id: str = "lamini_default",
        columns: Sequence[str] | None = None,
        input_format: str | None = None,
        csv_options: Mapping[str, Any] | str | None = None,
        failed_input_rows: str = "skip",
        on_bad_row: str = "fail",
        max_failed_rows: float | str | None = 0,
        limit_rows: int | str | None = None,
        max_rows: int | str | None = None,
        max_input_chars: int | str | None = None,
        dry_run: bool | str = False,
        input_conn_id: str | None = None,
        input_sql: str | None = None,
        sql_parameters: Mapping[str, object] | Sequence[object] | None = None,
        state_path: str | None = None,
        force_new: bool | str = False,
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("multiple_outputs", True)  # so that a Dag may write upload.output["dataset_id"]
        super().__init__(**kwargs)
        self.input = input
        self.prompt = prompt
        self.answer = answer
        self.is_public = is_public
        self.lamini_conn_id = lamini_conn_id
        self.columns = columns
        self.input_format = input_format
        self.csv_options = csv_options
        self.failed_input_rows = failed_input_rows
        self.on_bad_row = on_bad_row
        self.max_failed_rows = max_failed_rows
        self.limit_rows = limit_rows
        self.max_rows = max_rows
        self.max_input_chars = max_input_chars
        self.count_only = dry_run  # Airflow's operators have a method ``dry_run``
        self.input_conn_id = input_conn_id
        self.input_sql = input_sql
        self.sql_parameters = sql_parameters
        self.state_path = state_path
        self.force_new = force_new

    @publishes
    @records_lineage
    def execute(self, context: Context) -> dict[str, object]:
        """Check the rows, upload them, return the dataset."""
        from airflow_provider_lamini.hooks.lamini import LaminiHook
        from airflow_provider_lamini.runs.dry_run import DryRun
        from airflow_provider_lamini.runs.lamini.dataset_upload import DatasetRequest, DatasetUpload
        from airflow_provider_lamini.runs.task import TaskRun

        paths_to_text(self)
        is_public = None if self.is_public is None else flag("is_public", self.is_public)
        force_new = flag("force_new", self.force_new)
        if self.state_path is not None:
            folder("state_path", self.state_path)
        hook = LaminiHook(plain_name("lamini_conn_id", self.lamini_conn_id))
        with (
            TaskRun(context, hook=hook, log=self.log) as task,
            as_argument_errors(lambda: task.begun),
        ):
            pairs = pair_input(self, required_input(self.input, self))
            if flag("dry_run", self.count_only):
                return DryRun(pairs, self.log).advance().result
            request = DatasetRequest(pairs=pairs, is_public=is_public)
            upload = DatasetUpload(task, request, self.state_path)
            upload.warn_without_record()
            dataset = upload.upload(forced_by=task.identity.request_key if force_new else None)
        return {
            "dataset_id": dataset.dataset_id,
            "rows": dataset.rows,
            "bytes": dataset.size,
            "new": dataset.new,
            "failures": dataset.failures,
        }
