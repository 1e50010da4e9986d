"""Evaluating a classifier on rows whose class is known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_lamini.exceptions import InvalidArgumentError
from airflow_provider_lamini.links import ReportLink, ResultsLink
from airflow_provider_lamini.operators.base import COLOR
from airflow_provider_lamini.operators.lineage import records_lineage, reports_lineage
from airflow_provider_lamini.operators.templates import renders_only_templates
from airflow_provider_lamini.runs.arguments import (
    check_output,
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
from airflow_provider_lamini.wording import counted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_lamini.corpus.pairs import Columns, Pair
    from airflow_provider_lamini.platforms.lamini.api.evaluation import Evaluation
    from airflow_provider_lamini.rows.bad_rows import BadRowPolicy
    from airflow_provider_lamini.runs.evaluation import ThresholdResult

MAX_ROWS = 50_000
"""The platform takes all rows in one request, and answers once it has evaluated them."""

PREDICTIONS = "predictions.jsonl"


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
        there to check that it can.
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
        del context
        paths_to_text(self)
        with as_argument_errors():
            return self._evaluate()

    def _evaluate(self) -> dict[str, object]:
        from dataclasses import replace

        from airflow_provider_lamini.corpus.pairs import Columns
        from airflow_provider_lamini.hooks.lamini import LaminiHook
        from airflow_provider_lamini.platforms.lamini.api import evaluation
        from airflow_provider_lamini.runs.evaluation import (
            GATES,
            ThresholdResult,
            check_names,
            decide,
            parse_thresholds,
        )

        model = identifier("model_id", self.model_id)
        base = None if self.base_model_id is None else identifier("base_model_id", self.base_model_id)
        gate, thresholds = one_of("gate", self.gate, GATES), parse_thresholds("thresholds", self.thresholds)
        fuzzy = flag("fuzzy_comparison", self.fuzzy_comparison)
        timeout = positive_number("request_timeout", self.request_timeout)
        conn_id = plain_name("lamini_conn_id", self.lamini_conn_id)
        policy = bad_row_policy(self)
        optional_name("input_conn_id", self.input_conn_id)
        optional_name("output_conn_id", self.output_conn_id)
        if self.output_folder is not None:
            folder("output", self.output_folder, self.output_conn_id)
        rows, name, failures = self._rows(Columns.parse(self.prompt, self.answer), policy)
        check_output(self.output_folder, self.output_conn_id)
        call = evaluation.run(
            test_model_id=model,
            test_eval_type="classifier",
            base_model_id=base,
            base_eval_type="classifier" if base else None,
            eval_data=[{"input": row.input, "target": row.output} for row in rows],
            eval_data_id=name,
            fuzzy_comparison=fuzzy,
        )
        with LaminiHook(conn_id) as hook:
            evaluated = hook.send(replace(call, timeout=timeout))
        metrics = flatten(evaluated.metrics)
        self.log.info("%s", ", ".join(f"{key} {value:.4g}" for key, value in metrics.items()))
        check_names("thresholds", thresholds, metrics)
        results = [ThresholdResult(key, metrics[key], value) for key, value in thresholds.items()]
        report, predictions = self._write(evaluated, metrics, results, len(rows))
        return {
            "passed": decide(gate, results, report or "the task's log"),
            "metrics": metrics,
            "rows": len(rows),
            "failures": failures,
            "missed": [str(result) for result in results if not result.met],
            "model_id": model,
            "base_model_id": base,
            "eval_job_id": evaluated.eval_job_id,
            "report": report,
            "report_html": report and f"{report.removesuffix('.md')}.html",
            "predictions": predictions,
        }

    def _rows(self, columns: Columns, policy: BadRowPolicy) -> tuple[list[Pair], str, dict[str, int]]:
        """The rows, a name for them, which is the same whenever the rows are the same, and the rows left out by reason."""
        from airflow_provider_lamini.corpus.pairs import PairReader
        from airflow_provider_lamini.rows.sources.source import open_source
        from airflow_provider_lamini.rows.sources.validation import check_input_apart
        from airflow_provider_lamini.rows.storage.folder import OutputFolder
        from airflow_provider_lamini.rows.values import digest

        source = open_source(
            required_input(self.input, self),
            conn_id=self.input_conn_id,
            keep_bad=policy.keep,
            options=input_options(self),
        )
        if self.output_folder is not None:
            check_input_apart(source, OutputFolder(self.output_folder, self.output_conn_id))
        rows: list[Pair] = []
        reader = PairReader(source, columns, policy)
        for pairs in reader.read():
            rows += pairs
            if len(rows) > MAX_ROWS:
                raise InvalidArgumentError(
                    f"{source.describe()} has more than {MAX_ROWS} rows, but the platform takes all rows in one request. "
                    "Evaluate on a sample."
                )
        report = self.log.warning if reader.bad.count else self.log.info
        report("Read %s", reader.describe())
        name = f"airflow-{digest({'input': source.version(), 'columns': columns.texts})[:16]}"
        return rows, name, dict(reader.bad.failures)

    def _write(
        self, evaluated: Evaluation, metrics: Mapping[str, float], results: list[ThresholdResult], rows: int
    ) -> tuple[str | None, str | None]:
        """Write report and predictions, if there is an output folder, and return their URIs."""
        from airflow_provider_lamini.rows.output.groups import Chart
        from airflow_provider_lamini.rows.run_files import REPORT
        from airflow_provider_lamini.rows.storage.folder import OutputFolder
        from airflow_provider_lamini.runs.evaluation_report import threshold_section, verdict
        from airflow_provider_lamini.runs.report import Report, write_reports

        if self.output_folder is None:
            return None, None
        folder = OutputFolder(self.output_folder, self.output_conn_id)
        lines = (f"{row.model_dump_json(exclude_unset=True)}\n".encode() for row in evaluated.predictions)
        folder.write(PREDICTIONS, lines)
        report = Report(
            title=f"Evaluation of classifier {self.model_id}: {verdict(results)}",
            summary=f"{counted(rows, 'row')}; evaluation {evaluated.eval_job_id} of the platform.",
            heads=["metric", "value"],
            rows=[[key, f"{value:.4f}"] for key, value in metrics.items()],
            charts=[Chart("Metrics", [(key, value) for key, value in metrics.items() if value >= 0])],
            sections=threshold_section(results),
        )
        write_reports(folder, report)
        folder.clean(older_than=0)
        return folder.uri(REPORT), folder.uri(PREDICTIONS)


def flatten(metrics: Mapping[str, object], prefix: str = "") -> dict[str, float]:
    """Flatten nested metrics; their names are joined with dots.

    :param metrics: the platform's metrics
    :param prefix: put in front of each name
    """
    found: dict[str, float] = {}
    for name, value in metrics.items():
        if isinstance(value, dict):
            found |= flatten(value, f"{prefix}{name}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[f"{prefix}{name}"] = float(value)
    return found
