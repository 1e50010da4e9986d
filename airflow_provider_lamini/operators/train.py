"""Tuning: training a model on a dataset."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_lamini.exceptions import InvalidArgumentError
from airflow_provider_lamini.links import JobLink, ResultsLink
from airflow_provider_lamini.operators.base import JobOperator
from airflow_provider_lamini.operators.lineage import reports_lineage
from airflow_provider_lamini.runs.arguments import (
    flag,
    folder,
    json_object,
    optional_name,
    plain_name,
    whole_number,
)
from airflow_provider_lamini.runs.shared_arguments import (
    BAD_ROW_FIELDS,
    INPUT_FIELDS,
    LIMITS,
    optional_input,
    pair_input,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_provider_lamini.api.call import Json
    from airflow_provider_lamini.hooks.lamini import LaminiHook
    from airflow_provider_lamini.runs.dry_run import DryRun
    from airflow_provider_lamini.runs.submitted_job import SubmittedJob
    from airflow_provider_lamini.runs.task import TaskRun


@reports_lineage(
    "lamini",
    uses={"model_name": "models", "dataset_id": "datasets"},
    makes={"model_name": "models", "dataset_id": "datasets"},
)
class LaminiTrainOperator(JobOperator):
    """Tunes a model on a dataset, waits, and returns the name of the tuned model.

    While the task waits, the log shows step, loss, learning rate and the time left. A job that failed or timed out is
    resumed from its checkpoint, up to ``max_resumes`` times; after that, a retry trains again from the start. A retry
    finds the job of a try that died: by its recorded id, else in the platform's list by dataset and
    ``custom_model_name``.

    Endpoint: ``POST /v1/train``; the job's status from ``GET /v1/train/jobs`` and ``GET /v1/train/jobs/{job_id}``.

    :param model_name: the base model. A tuned model cannot be tuned again.
    :param dataset_id: the dataset, as :class:`LaminiUploadDatasetOperator` returned it
    :param input: instead of ``dataset_id``, the rows: a list of mappings, or a path, URI or glob on object storage. They
        are checked and uploaded as by :class:`LaminiUploadDatasetOperator`.
    :param prompt: with ``input``: the question, the name of a column or a template over columns
    :param answer: with ``input``: the expected answer, likewise
    :param finetune_args: how to tune, such as ``{"max_steps": 200, "learning_rate": 3e-4}``. Known arguments are checked
        against their bounds; unknown ones are passed on, and the log names them.
    :param gpu_config: ``{"gpus": 2, "nodes": 1}``; the job is queued until they are free
    :param custom_model_name: a name for the tuned model. If other tasks use the same ``dataset_id``, this name is the only
        way to tell this task's job from theirs after a lost answer: give each run its own name, for example with
        ``{{ ts_nodash }}`` in it.
    :param train_type: ``memory_tuning`` (the platform's default), ``memory_rag`` or ``mome_mini``
    :param is_public: whether others may use the dataset
    :param max_resumes: how often a job that failed or timed out is resumed, over all tries of the task. Without a place
        for the submission record (see ``state_path``), it is not resumed.
    :param accept_partial: accept a job that ended as ``PARTIALLY COMPLETED``. Otherwise the task fails and keeps the job:
        clear it with ``accept_partial=True`` to take its model, or with ``force_new=True`` to train again.
    :param output: a folder for ``loss_history.jsonl``, one line per step of the job. Before the submission, the task
        writes a small file there to check that it can. With ``wait=False`` nothing is written. A folder that another task
        has taken is refused: choose another one, or remove its ``_reserved-*.json`` if the Dag or the task was renamed or
        moved into a TaskGroup.
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
    :param output_conn_id: the connection for the output's object storage
    :return: ``job_id``, ``status``, ``model_name`` (of the tuned model), ``custom_model_name``, ``dataset_id``,
        ``steps``, ``final_loss``, ``history`` (the file), ``base_model``, ``resumes``, and with ``input``
        ``rows`` and ``bytes`` (of the dataset), and ``failures`` (rows left out, by reason). With ``wait=False`` only
        ``job_id`` and ``base_model``: see ``LaminiJobSensor``.
    """

    template_fields: Sequence[str] = (
        *JobOperator.template_fields,
        "lamini_conn_id",
        "model_name",
        "dataset_id",
        "input",
        "prompt",
        "answer",
        "finetune_args",
        "gpu_config",
        "custom_model_name",
        "train_type",
        "is_public",
        "max_resumes",
        "accept_partial",
        "output_folder",
        *INPUT_FIELDS,
        *BAD_ROW_FIELDS,
        *LIMITS,
        "count_only",
        "input_conn_id",
        "input_sql",
        "sql_parameters",
        "output_conn_id",
    )
    template_fields_renderers = {"finetune_args": "json", "gpu_config": "json", "prompt": "md"}  # noqa: RUF012 - as Airflow declares it
    operator_extra_links = (JobLink(), ResultsLink())

    list_delay: ClassVar[float] = 20.0
    """Seconds until a job that was just submitted is in the platform's list."""

    def __init__(
        self,
        *,
        model_name: str,
        dataset_id: str | None = None,
        input: str | Sequence[Mapping[str, object]] | None = None,  # noqa: A002 - users expect it
        prompt: str = "input",
        answer: str = "output",
        finetune_args: Mapping[str, Json] | str | None = None,
        gpu_config: Mapping[str, Json] | str | None = None,
        custom_model_name: str | None = None,
        train_type: str | None = None,
        is_public: bool | str | None = None,
        max_resumes: int | str = 1,
        accept_partial: bool | str = False,
        output: str | None = None,
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
        output_conn_id: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.model_name = model_name
        self.dataset_id = dataset_id
        self.input = input
        self.prompt = prompt
        self.answer = answer
        self.finetune_args = finetune_args
        self.gpu_config = gpu_config
        self.custom_model_name = custom_model_name
        self.train_type = train_type
        self.is_public = is_public
        self.max_resumes = max_resumes
        self.accept_partial = accept_partial
        self.output_folder = output  # an operator's own ``output`` is its XCom
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
        self.output_conn_id = output_conn_id

    def make_hook(self) -> LaminiHook:
        """The platform's hook."""
        from airflow_provider_lamini.hooks.lamini import LaminiHook

        return LaminiHook(plain_name("lamini_conn_id", self.lamini_conn_id))

    def work(self, task: TaskRun) -> SubmittedJob[dict[str, object]] | DryRun:
        """Validate the arguments, then return the job."""
        from airflow_provider_lamini.platforms.lamini.api import training
        from airflow_provider_lamini.runs.dry_run import DryRun
        from airflow_provider_lamini.runs.lamini.dataset_upload import DatasetRequest
        from airflow_provider_lamini.runs.lamini.tuning import Training, TuningRequest
        from airflow_provider_lamini.runs.submitted_job import SubmittedJob

        options = self.submission_options()
        max_resumes = whole_number("max_resumes", self.max_resumes, minimum=0)
        accept_partial = flag("accept_partial", self.accept_partial)
        given = optional_input("input", self.input, self)
        if (self.dataset_id is None) == (given is None):
            raise InvalidArgumentError("Give exactly one of dataset_id and input.")
        counts_only = flag("dry_run", self.count_only)
        if given is None and (counts_only or any(getattr(self, name) is not None for name in LIMITS)):
            raise InvalidArgumentError(
                "limit_rows, max_rows, max_input_chars and dry_run need input, the rows."
            )
        optional_name("input_conn_id", self.input_conn_id)
        optional_name("output_conn_id", self.output_conn_id)
        if self.output_folder is not None:
            folder("output", self.output_folder, self.output_conn_id)
        arguments: dict[str, Any] = {
            "model_name": plain_name("model_name", self.model_name),
            "finetune_args": json_object("finetune_args", self.finetune_args),
            "gpu_config": json_object("gpu_config", self.gpu_config),
            "custom_model_name": optional_name("custom_model_name", self.custom_model_name),
            "train_type": optional_name("train_type", self.train_type),
            "is_public": None if self.is_public is None else flag("is_public", self.is_public),
        }
        dataset_id = optional_name("dataset_id", self.dataset_id)
        try:
            training.train(**arguments)
            pairs = None if given is None else pair_input(self, given)
        except ValueError as error:
            raise InvalidArgumentError(str(error)) from error.__cause__
        if pairs is not None and counts_only:
            return DryRun(pairs, self.log)
        request = TuningRequest(
            arguments=arguments,
            dataset_id=dataset_id,
            rows=None if pairs is None else DatasetRequest(pairs=pairs, is_public=arguments["is_public"]),
            state_path=options.state_path,
            output=self.output_folder if options.wait else None,
            output_conn_id=self.output_conn_id,
            max_resumes=max_resumes,
            accept_partial=accept_partial,
            list_delay=self.list_delay,
        )
        return SubmittedJob(task, Training(task, request), options)
