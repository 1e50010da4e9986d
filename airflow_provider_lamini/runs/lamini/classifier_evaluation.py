"""Having the platform evaluate a classifier on rows whose class is known."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from airflow_provider_lamini.corpus.pairs import PairReader
from airflow_provider_lamini.exceptions import InvalidArgumentError
from airflow_provider_lamini.platforms.lamini.api import evaluation
from airflow_provider_lamini.rows.hashes import digest
from airflow_provider_lamini.rows.output.groups import Chart
from airflow_provider_lamini.rows.sources.source import open_source
from airflow_provider_lamini.rows.sources.validation import check_input_apart
from airflow_provider_lamini.rows.storage.folder import OutputFolder
from airflow_provider_lamini.rows.storage.run_files import REPORT
from airflow_provider_lamini.runs.evaluation import ThresholdResult, check_thresholds, decide
from airflow_provider_lamini.runs.evaluation_report import threshold_section, verdict
from airflow_provider_lamini.runs.output_reservation import check_output_free, reserve_output
from airflow_provider_lamini.runs.report import Report, write_reports
from airflow_provider_lamini.wording import counted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_lamini.corpus.pairs import Columns, Pair
    from airflow_provider_lamini.hooks.lamini import LaminiHook
    from airflow_provider_lamini.platforms.lamini.api.evaluation import Evaluation
    from airflow_provider_lamini.rows.bad_rows import BadRowPolicy
    from airflow_provider_lamini.rows.sources.options import InputOptions
    from airflow_provider_lamini.runs.outcome import Log
    from airflow_provider_lamini.runs.task import TaskIdentity

MAX_ROWS = 50_000
"""The platform takes all rows in one request, and answers once it has evaluated them."""

PREDICTIONS = "predictions.jsonl"
"""The file of the output folder with the answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassifierEvaluation:
    """An evaluation of a classifier, perhaps compared with another one.

    :param model_id: the classifier
    :param base_model_id: the classifier to compare with; ``None`` for none
    :param rows: the rows, as `open_source` takes them
    :param columns: which columns make the text and the right class
    :param options: how to read the rows
    :param policy: what becomes of rows that cannot be used
    :param conn_id: the connection for the rows' object storage
    :param thresholds: minimum value by metric
    :param gate: what to do if a threshold is missed
    :param fuzzy_comparison: also count answers as right that differ slightly
    :param timeout: seconds to wait for the platform's answer
    :param output: the folder for report and predictions; ``None`` for none
    :param output_conn_id: the connection for that folder
    """

    model_id: str
    base_model_id: str | None
    rows: object
    columns: Columns
    options: InputOptions
    policy: BadRowPolicy
    conn_id: str | None
    thresholds: Mapping[str, float]
    gate: str
    fuzzy_comparison: bool
    timeout: float
    output: str | None
    output_conn_id: str | None


def evaluate_classifier(
    hook: LaminiHook, wanted: ClassifierEvaluation, task: TaskIdentity, log: Log
) -> dict[str, object]:
    """Check the rows, have the classifier evaluated, and compare the metrics with the thresholds.

    :param hook: the hook; it is opened once the rows are known to be usable
    :param wanted: the evaluation
    :param task: the task, whose files are in the output folder
    :param log: the task's log
    :return: metrics, thresholds that were missed, ids and files
    :raises InvalidArgumentError: if the rows cannot be evaluated; nothing has been sent
    :raises ThresholdMissedError: if a threshold is missed, and the gate is ``fail``
    """
    rows, name, failures = _read_rows(wanted, log)
    written = (wanted.output, wanted.output_conn_id, REPORT, task)
    check_output_free(*written)
    call = evaluation.run(
        test_model_id=wanted.model_id,
        test_eval_type="classifier",
        base_model_id=wanted.base_model_id,
        base_eval_type="classifier" if wanted.base_model_id else None,
        eval_data=[{"input": row.input, "target": row.output} for row in rows],
        eval_data_id=name,
        fuzzy_comparison=wanted.fuzzy_comparison,
    )
    with hook:
        hook.client()  # before the folder is taken, in case the connection cannot be used
        reserve_output(*written)
        evaluated = hook.send(replace(call, timeout=wanted.timeout))
    metrics = flatten(evaluated.metrics)
    log.info("%s", ", ".join(f"{key} {value:.4g}" for key, value in metrics.items()))
    check_thresholds("thresholds", wanted.thresholds, metrics)
    results = [ThresholdResult(key, metrics[key], value) for key, value in wanted.thresholds.items()]
    report, predictions = _write(wanted, evaluated, metrics, results, len(rows))
    return {
        "passed": decide(wanted.gate, results, report or "the task's log"),
        "metrics": metrics,
        "rows": len(rows),
        "failures": failures,
        "missed": [str(result) for result in results if not result.met],
        "model_id": wanted.model_id,
        "base_model_id": wanted.base_model_id,
        "eval_job_id": evaluated.eval_job_id,
        "report": report,
        "report_html": report and f"{report.removesuffix('.md')}.html",
        "predictions": predictions,
    }


def _read_rows(wanted: ClassifierEvaluation, log: Log) -> tuple[list[Pair], str, dict[str, int]]:
    """The rows, a name for them, which is the same whenever the rows are the same, and the rows left out by reason."""
    source = open_source(
        wanted.rows, conn_id=wanted.conn_id, keep_bad=wanted.policy.keep, options=wanted.options
    )
    if wanted.output is not None:
        check_input_apart(source, OutputFolder(wanted.output, wanted.output_conn_id))
    rows: list[Pair] = []
    reader = PairReader(source, wanted.columns, wanted.policy)
    for pairs in reader.read():
        rows += pairs
        if len(rows) > MAX_ROWS:
            raise InvalidArgumentError(
                f"{source.describe()} has more than {MAX_ROWS} rows, but the platform takes all rows in one request. "
                "Evaluate on a sample."
            )
    report = log.warning if reader.bad.count else log.info
    report("Read %s", reader.describe())
    name = f"airflow-{digest({'input': source.version(), 'columns': wanted.columns.texts})[:16]}"
    return rows, name, dict(reader.bad.failures)


def _write(
    wanted: ClassifierEvaluation,
    evaluated: Evaluation,
    metrics: Mapping[str, float],
    results: list[ThresholdResult],
    rows: int,
) -> tuple[str | None, str | None]:
    """Write report and predictions, if there is an output folder, and return their URIs."""
    if wanted.output is None:
        return None, None
    folder = OutputFolder(wanted.output, wanted.output_conn_id)
    lines = (f"{row.model_dump_json(exclude_unset=True)}\n".encode() for row in evaluated.predictions)
    folder.write(PREDICTIONS, lines)
    report = Report(
        title=f"Evaluation of classifier {wanted.model_id}: {verdict(results)}",
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
