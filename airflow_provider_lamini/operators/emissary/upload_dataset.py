"""Uploading datasets to a project."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_lamini.exceptions import InvalidArgumentError
from airflow_provider_lamini.operators.base import JobOperator
from airflow_provider_lamini.operators.emissary.hook import emissary_hook
from airflow_provider_lamini.operators.lineage import reports_lineage
from airflow_provider_lamini.runs.arguments import flag, identifier, optional_name, plain_name
from airflow_provider_lamini.runs.shared_arguments import (
    BAD_ROW_FIELDS,
    INPUT_FIELDS,
    LIMITS,
    pair_input,
    required_input,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_provider_lamini.hooks.emissary import EmissaryHook
    from airflow_provider_lamini.runs.dry_run import DryRun
    from airflow_provider_lamini.runs.submitted_job import SubmittedJob
    from airflow_provider_lamini.runs.task import TaskRun


@reports_lineage("emissary", makes={"dataset_id": "datasets"})
class EmissaryUploadDatasetOperator(JobOperator):
    """Uploads rows from a list or from storage as a dataset, and waits until it can be used.

    Every row is read and checked before anything is sent; an error names invalid rows by number. The API takes files of at
    most 5 MB: a larger dataset is refused before anything is sent. A retry finds the dataset of a try that died: by its
    recorded id, else in the project's list by name. The dataset is deleted if the task is killed while it waits for it
    (``cancel_on_kill``), or if ``timeout`` has passed and no retry follows (``on_timeout``).

    Endpoints: ``POST /v1/projects/{project_id}/datasets``, then ``GET /v1/projects/{project_id}/datasets/{dataset_id}``.

    :param project_id: the project
    :param input: a list of rows (mappings), or a path, URI or glob on object storage: JSON Lines, CSV, or Parquet
        (extra ``parquet``)
    :param prompt: the question: the name of a column, or a template over a row's columns, such as
        ``"Categorize: {subject}"``
    :param answer: the expected answer, likewise
    :param prompt_field: what the question is called in the dataset
    :param answer_field: what the answer is called in the dataset
    :param name: a name for the dataset; default: one that no other dataset has
    :param emissary_conn_id: the connection to the platform
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
    :return: ``job_id`` (for ``EmissaryJobSensor``), ``project_id``, ``dataset_id``, ``rows``, ``bytes`` and
        ``failures`` (rows left out, by reason); the last three are ``None`` without a submission record
    """

    template_fields: Sequence[str] = (
        *JobOperator.template_fields,
        "emissary_conn_id",
        "project_id",
        "input",
        "prompt",
        "answer",
        "prompt_field",
        "answer_field",
        "name",
        *INPUT_FIELDS,
        *BAD_ROW_FIELDS,
        *LIMITS,
        "count_only",
        "input_conn_id",
        "input_sql",
        "sql_parameters",
    )
    template_fields_renderers = {"prompt": "md"}  # noqa: RUF012 - as Airflow declares it

    list_delay: ClassVar[float] = 20.0
    """Seconds until a dataset that was just uploaded is in the platform's list."""

    def __init__(
        self,
        *,
        project_id: str,
        input: str | Sequence[Mapping[str, object]] | None = None,  # noqa: A002 - users expect it
        prompt: str = "input",
        answer: str = "output",
        prompt_field: str = "prompt",
        answer_field: str = "completion",
        name: str | None = None,
        emissary_conn_id: str = "emissary_default",
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
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.project_id = project_id
        self.input = input
        self.prompt = prompt
        self.answer = answer
        self.prompt_field = prompt_field
        self.answer_field = answer_field
        self.name = name
        self.emissary_conn_id = emissary_conn_id
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

    def make_hook(self) -> EmissaryHook:
        """The platform's hook."""
        return emissary_hook(self.emissary_conn_id)

    def work(self, task: TaskRun) -> SubmittedJob[dict[str, object]] | DryRun:
        """Validate the arguments, then return the upload."""
        from airflow_provider_lamini.runs.dry_run import DryRun
        from airflow_provider_lamini.runs.emissary.dataset import DatasetRequest, DatasetUpload, check_size
        from airflow_provider_lamini.runs.submitted_job import SubmittedJob

        options = self.submission_options()
        fields = plain_name("prompt_field", self.prompt_field), plain_name("answer_field", self.answer_field)
        if fields[0] == fields[1]:
            raise InvalidArgumentError(f"prompt_field and answer_field are both {fields[0]!r}.")
        request = DatasetRequest(
            project_id=identifier("project_id", self.project_id),
            name=optional_name("name", self.name),
            pairs=pair_input(self, required_input(self.input, self)),
            fields=fields,
            list_delay=self.list_delay,
        )
        if flag("dry_run", self.count_only):
            return DryRun(request.pairs, self.log, fields=fields, check_size=check_size)
        return SubmittedJob(task, DatasetUpload(task, request), options)
