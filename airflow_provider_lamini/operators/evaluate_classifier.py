"""Evaluating a classifier on rows whose class is known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_lamini.links import ReportLink, ResultsLink
from airflow_provider_lamini.operators.base import COLOR
from airflow_provider_lamini.operators.lineage import records_lineage, reports_lineage
from airflow_provider_lamini.operators.templates import renders_only_templates
from airflow_provider_lamini.runs.arguments import (
    flag,
    folder,
    identifier,
    one_of,
    optional_name,
    plain_name,
    positive_number,
)
from airflow_provider_lamini.runs.outlets import publishes
from airflow_provider_lamini.runs.shared_arguments import (
    BAD_ROW_FIELDS,
    INPUT_FIELDS,
    bad_row_policy,
    input_options,
    paths_to_text,
    required_input,
)
from airflow_provider_lamini.runs.task_errors import as_argument_errors

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_lamini.runs.lamini.classifier_evaluation import ClassifierEvaluation


@renders_only_templates
@reports_lineage("lamini", uses={"model_id": "classifiers", "base_model_id": "classifiers"})
class LaminiEvaluateClassifierOperator(BaseOperator):
    """Has the platform evaluate a classifier on rows whose class is known, optionally compared with another classifier.

    All rows, at most 50,000, are sent in one request and are held in memory. The task holds a worker until the platform
    answers, and a retry evaluates again. For more rows, use a sample, or classify from storage to storage and compare there.

    Endpoint: ``POST /v1/eval/run``.

    :param model_id: the classifier's model id (a UUID)
    :param base_model_id: a classifier to compare with
    :param input: the rows: a list of mappings, or a path, URI or glob on object storage
    :param prompt: the text to classify: the name of a column, or a template over a row's columns
    :param answer: the right class, likewise
    :param thresholds: minimum value by metric of the platform, such as ``{"accuracy": 0.9}``; the names of nested metrics
        are joined with dots
    :param gate: what to do if a threshold is missed: ``fail`` the task, ``skip`` it (and with it the tasks that depend on
        it), or ``return`` with ``passed`` false, so that a branch decides
    :param fuzzy_comparison: also count answers as right that differ slightly
    :param output: a folder for ``predictions.jsonl``, ``report.md`` and ``report.html``. At first, the task writes a small file
        there to check that it can. A folder that another task has taken is refused: choose another one, or remove its
        ``_reserved-*.json`` if the Dag or the task was renamed or moved into a TaskGroup.
    :param request_timeout: seconds to wait for the answer
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
    :param input_conn_id: the connection for the input's object storage
    :param input_sql: a query that returns the rows, instead of ``input``; needs ``ORDER BY``, and ``input_conn_id``, the
        connection to the database
    :param sql_parameters: the values of the query's placeholders, a mapping or a list
    :param output_conn_id: the connection for the output's object storage
    :return: ``passed``, ``metrics`` (the platform's, flattened), ``rows``, ``failures`` (rows left out, by reason),
        ``missed`` (sentences),
        ``model_id``, ``base_model_id``, ``eval_job_id``, ``report``, ``report_html``, ``predictions``
    """

    operator_extra_links = (ResultsLink(), ReportLink())

    template_fields: Sequence[str] = (
        "lamini_conn_id",
        "model_id",
        "base_model_id",
        "input",
        "prompt",
        "answer",
        "thresholds",
        "gate",
        "fuzzy_comparison",
        "output_folder",
        "request_timeout",
        *INPUT_FIELDS,
        *BAD_ROW_FIELDS,
        "input_conn_id",
        "input_sql",
        "sql_parameters",
        "output_conn_id",
    )
    template_fields_renderers = {"prompt": "md", "thresholds": "json"}  # noqa: RUF012 - as Airflow declares it
    ui_color = COLOR

    def __init__(
        self,
        *,
        model_id: str,
        input: str | Sequence[Mapping[str, object]] | None = None,  # noqa: A002 - users expect it
        base_model_id: str | None = None,
        prompt: str = "input",
        answer: str = "output",
        thresholds: Mapping[str, float] | str | None = None,
        gate: str = "fail",
        fuzzy_comparison: bool | str = False,
        output: str | None = None,
        request_timeout: float | str = 1800.0,
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
        output_conn_id: str | None = None,
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("multiple_outputs", True)  # so that a Dag may write evaluate.output["passed"]
        super().__init__(**kwargs)
        self.model_id = model_id
        self.base_model_id = base_model_id
        self.input = input
        self.prompt = prompt
        self.answer = answer
        self.thresholds = thresholds
        self.gate = gate
        self.fuzzy_comparison = fuzzy_comparison
        self.output_folder = output  # an operator's own ``output`` is its XCom
        self.request_timeout = request_timeout
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
        self.output_conn_id = output_conn_id

    @publishes
    @records_lineage
    def execute(self, context: Context) -> dict[str, object]:
        """Check the rows, have the classifier evaluated, compare the metrics with the thresholds."""
        from airflow_provider_lamini.hooks.lamini import LaminiHook
        from airflow_provider_lamini.runs.lamini.classifier_evaluation import evaluate_classifier
        from airflow_provider_lamini.runs.task import TaskIdentity

        task = TaskIdentity.of(context["ti"], in_loop=context.get("loop") is not None)
        paths_to_text(self)
        with as_argument_errors():
            wanted = self._evaluation()
            hook = LaminiHook(plain_name("lamini_conn_id", self.lamini_conn_id))
            return evaluate_classifier(hook, wanted, task, self.log)

    def _evaluation(self) -> ClassifierEvaluation:
        """Validate the arguments."""
        from airflow_provider_lamini.corpus.pairs import Columns
        from airflow_provider_lamini.runs.evaluation import GATES, parse_thresholds
        from airflow_provider_lamini.runs.lamini.classifier_evaluation import ClassifierEvaluation

        base = self.base_model_id
        wanted = ClassifierEvaluation(
            model_id=identifier("model_id", self.model_id),
            base_model_id=None if base is None else identifier("base_model_id", base),
            rows=required_input(self.input, self),
            columns=Columns.parse(self.prompt, self.answer),
            options=input_options(self),
            policy=bad_row_policy(self),
            conn_id=optional_name("input_conn_id", self.input_conn_id),
            thresholds=parse_thresholds("thresholds", self.thresholds),
            gate=one_of("gate", self.gate, GATES),
            fuzzy_comparison=flag("fuzzy_comparison", self.fuzzy_comparison),
            timeout=positive_number("request_timeout", self.request_timeout),
            output=self.output_folder,
            output_conn_id=optional_name("output_conn_id", self.output_conn_id),
        )
        if wanted.output is not None:
            folder("output", wanted.output, wanted.output_conn_id)
        return wanted
