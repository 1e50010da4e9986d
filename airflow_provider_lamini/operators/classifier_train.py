"""Training a classifier from descriptions of its classes and examples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_lamini.exceptions import InvalidArgumentError
from airflow_provider_lamini.operators.base import JobOperator
from airflow_provider_lamini.operators.lineage import reports_lineage
from airflow_provider_lamini.runs.arguments import json_object, one_of, optional_name, plain_name
from airflow_provider_lamini.runs.shared_arguments import (
    BAD_ROW_FIELDS,
    INPUT_FIELDS,
    bad_row_policy,
    input_options,
    optional_input,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_provider_lamini.hooks.lamini import LaminiHook
    from airflow_provider_lamini.runs.submitted_job import SubmittedJob
    from airflow_provider_lamini.runs.task import TaskRun


@reports_lineage("lamini", uses={"model_name": "models"}, makes={"model_id": "classifiers"})
class LaminiClassifierTrainOperator(JobOperator):
    """Creates a classifier project, or extends it with more examples, and waits for the trained model.

    If the platform has no project of this name, it is created from ``classes`` and ``examples``
    (``POST /v2/classifier/initialize``; allow about a minute per class). If it has one, ``examples`` are added to the
    project as a dataset (``POST /v2/classifier/add``), and the classifier is trained again on everything that the project
    holds (``POST /v2/classifier/train``). The platform cannot change the classes of a project: for that, use another name.

    A dataset is added once: if the project already has one of this name, it is left as it is. By default the name is
    derived from the examples' content, so that the next run does not add the same examples again.

    A retry attaches to the job of an earlier try, or finds it in the project's list if its id was lost.

    Other endpoints: ``GET /v2/classifier/projects``, ``.../{project}/datasets``, ``.../{project}/jobs``,
    ``.../{project}/models``, ``.../{job}/status``, ``POST /v2/classifier/update_job`` to cancel.

    :param project: name of the project
    :param model_name: the model that reads the descriptions; required to create a project
    :param classes: class to its description, a mapping or JSON text; required to create a project
    :param examples: class to a list of texts; or a list of rows; or a path, URI or glob on object storage: JSON Lines,
        CSV, or Parquet (extra ``parquet``). All examples are sent in one request and are held in memory.
    :param prompt: if ``examples`` are rows: the text, the name of a column or a template over columns, such as
        ``"{subject}: {body}"``
    :param answer: if ``examples`` are rows: the right class, likewise
    :param dataset_name: name of the dataset for examples of an existing project
    :param on_existing: what to do if the project exists: ``extend`` it, or ``fail``
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
    :param input_conn_id: the connection for the examples' object storage
    :param input_sql: a query that returns the rows, instead of ``examples``; needs ``ORDER BY``, and ``input_conn_id``, the
        connection to the database
    :param sql_parameters: the values of the query's placeholders, a mapping or a list
    :return: ``project``, ``job_id``, ``model_id``, ``status`` (the platform's word), and, if there is a submission
        record, the numbers of ``classes`` and ``examples`` that were sent, ``created`` (1 or 0)
        and ``failures`` (examples left out, by reason)
    """

    template_fields: Sequence[str] = (
        *JobOperator.template_fields,
        "lamini_conn_id",
        "project",
        "model_name",
        "classes",
        "examples",
        "prompt",
        "answer",
        "dataset_name",
        "on_existing",
        *INPUT_FIELDS,
        *BAD_ROW_FIELDS,
        "input_conn_id",
        "input_sql",
        "sql_parameters",
    )
    template_fields_renderers = {"classes": "json"}  # noqa: RUF012 - as Airflow declares it

    list_delay: ClassVar[float] = 10.0
    """Seconds until a job that was just submitted is in the project's list."""

    def __init__(
        self,
        *,
        project: str,
        model_name: str | None = None,
        classes: Mapping[str, str] | str | None = None,
        examples: Mapping[str, Sequence[str]] | Sequence[Mapping[str, object]] | str | None = None,
        prompt: str = "text",
        answer: str = "class",
        dataset_name: str | None = None,
        on_existing: str = "extend",
        lamini_conn_id: str = "lamini_default",
        columns: Sequence[str] | None = None,
        input_format: str | None = None,
        csv_options: Mapping[str, Any] | str | None = None,
        failed_input_rows: str = "skip",
        on_bad_row: str = "fail",
        max_failed_rows: float | str | None = 0,
        input_conn_id: str | None = None,
        input_sql: str | None = None,
        sql_parameters: Mapping[str, object] | Sequence[object] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.project = project
        self.model_name = model_name
        self.classes = classes
        self.examples = examples
        self.prompt = prompt
        self.answer = answer
        self.dataset_name = dataset_name
        self.on_existing = on_existing
        self.lamini_conn_id = lamini_conn_id
        self.columns = columns
        self.input_format = input_format
        self.csv_options = csv_options
        self.failed_input_rows = failed_input_rows
        self.on_bad_row = on_bad_row
        self.max_failed_rows = max_failed_rows
        self.input_conn_id = input_conn_id
        self.input_sql = input_sql
        self.sql_parameters = sql_parameters

    def make_hook(self) -> LaminiHook:
        """The platform's hook."""
        from airflow_provider_lamini.hooks.lamini import LaminiHook

        return LaminiHook(plain_name("lamini_conn_id", self.lamini_conn_id))

    def work(self, task: TaskRun) -> SubmittedJob[dict[str, object]]:
        """Validate the arguments, then return the job."""
        from airflow_provider_lamini.corpus.pairs import Columns
        from airflow_provider_lamini.runs.lamini.classifier import ClassifierRequest, ClassifierTraining
        from airflow_provider_lamini.runs.submitted_job import SubmittedJob

        options = self.submission_options()
        project = plain_name("project", self.project)
        try:
            columns = Columns.parse(self.prompt, self.answer)
        except ValueError as error:
            raise InvalidArgumentError(str(error)) from error.__cause__
        request = ClassifierRequest(
            project=project,
            model_name=optional_name("model_name", self.model_name),
            dataset_name=optional_name("dataset_name", self.dataset_name),
            input_conn_id=optional_name("input_conn_id", self.input_conn_id),
            input_options=input_options(self),
            policy=bad_row_policy(self),
            on_existing=one_of("on_existing", self.on_existing, ("extend", "fail")),
            classes=self._described_classes(),
            examples=optional_input("examples", self.examples, self),
            columns=columns,
            list_delay=self.list_delay,
        )
        if request.classes is None and request.on_existing == "fail":
            raise InvalidArgumentError(
                "classes is required: on_existing='fail' means that the project is created."
            )
        return SubmittedJob(task, ClassifierTraining(task, request), options)

    def _described_classes(self) -> dict[str, str] | None:
        """The classes, each with a description."""
        classes = json_object("classes", self.classes)
        if classes is None:
            return None
        described = {
            name: value for name, value in classes.items() if isinstance(value, str) and value.strip()
        }
        if len(described) < len(classes) or not all(name.strip() for name in described):
            raise InvalidArgumentError("classes must give each class a name and a description, both texts.")
        if len({name.strip() for name in described}) < len(described):
            raise InvalidArgumentError("classes has two names that differ only in blanks.")
        if not described:
            raise InvalidArgumentError("classes is empty. Give each class a description.")
        return described
