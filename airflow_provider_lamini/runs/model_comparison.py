"""Comparison of two models: both answer rows with known answers, and their outputs are scored."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import chain, repeat
from typing import TYPE_CHECKING

from airflow_provider_lamini.corpus.pairs import AnsweredPrompt, PairReader
from airflow_provider_lamini.exceptions import InvalidArgumentError
from airflow_provider_lamini.results import read_outputs
from airflow_provider_lamini.rows.bad_rows import BadRowPolicy
from airflow_provider_lamini.rows.errors import RowError
from airflow_provider_lamini.rows.sources.options import InputOptions
from airflow_provider_lamini.rows.sources.source import open_source
from airflow_provider_lamini.rows.sources.validation import check_input_apart
from airflow_provider_lamini.rows.storage.folder import OutputFolder
from airflow_provider_lamini.rows.storage.run_files import REPORT, REPORT_HTML, ROLES, kept_rows_files
from airflow_provider_lamini.runs.evaluation import ThresholdResult, decide
from airflow_provider_lamini.runs.evaluation_report import RowAnswers, Tally, report_of
from airflow_provider_lamini.runs.kept_rows import open_shared_rows
from airflow_provider_lamini.runs.outcome import Done, WaitFor
from airflow_provider_lamini.runs.output_reservation import check_reservation, reserve
from airflow_provider_lamini.runs.report import write_reports
from airflow_provider_lamini.runs.row_run import RowRun, jobs_kept
from airflow_provider_lamini.wording import counted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from airflow_provider_lamini.api.call import Json
    from airflow_provider_lamini.corpus.pairs import Columns
    from airflow_provider_lamini.jobs.event import JobEvent
    from airflow_provider_lamini.rows.sources.source import Source
    from airflow_provider_lamini.runs.evaluation import Metric
    from airflow_provider_lamini.runs.row_run_config import RowRunConfig
    from airflow_provider_lamini.runs.task import TaskRun

SCORES = "scores.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonConfig:
    """The settings of a comparison.

    :param output: path or URI of the folder for scores and report
    :param columns: make the question and the right answer of a row
    :param scored_field: the field of each output that is scored; ``None`` for the whole output
    :param metrics: the metrics by name
    :param thresholds: minimum mean score of the model by metric
    :param min_gain: minimum gain over the base model by metric
    :param gate: what to do if a threshold is missed: ``fail``, ``skip`` or ``return``
    """

    output: str
    columns: Columns
    scored_field: str | None
    metrics: Mapping[str, Metric]
    thresholds: Mapping[str, float]
    min_gain: Mapping[str, float]
    gate: str


class ModelComparison:
    """Lets each model answer the rows, one after the other, then scores their outputs.

    :param task: this try of the task
    :param config: the settings
    :param runs: the settings of each model's run, by its role
    """

    def __init__(self, task: TaskRun, config: ComparisonConfig, runs: Mapping[str, RowRunConfig]) -> None:
        self._task = task
        self._config = config
        first = runs[ROLES[0]]
        self._policy = BadRowPolicy(first.keep_bad_rows, first.failure_limit)
        if self._policy.keep:  # otherwise a row without an answer is an error
            runs = {
                role: replace(run, prompt=AnsweredPrompt(run.prompt, config.columns.answer))
                for role, run in runs.items()
            }
        self._run_configs = runs
        self._left_out = 0
        self._models = {role: run.model for role, run in runs.items()}
        self._runs: dict[str, RowRun] = {}
        self._input = runs[ROLES[0]]
        self._opened: Source | None = None

    def advance(self, event: JobEvent | None) -> WaitFor | Done[dict[str, object]]:
        """Continue the run of the first model that is not done; once all are, write scores and report.

        :param event: what happened to the jobs; ``None`` at the start of a try
        :raises ThresholdMissedError: if a threshold is missed and the gate is ``fail``
        """
        if event is None:
            self._check_reservation()
        self._open_runs()
        if event is None:
            self._check_rows()
        failed: dict[str, dict[str, int]] = {}
        rows = 0
        for role, run in self._runs.items():
            # The jobs of an event may be those of any model: a run ignores jobs that its ledger does not contain.
            outcome = run.advance(event)
            if isinstance(outcome, WaitFor) or self._input.dry_run:
                return outcome
            counts = outcome.result["counts"]
            assert isinstance(counts, dict)  # noqa: S101 - a manifest has them
            rows, failed[role] = int(counts["rows"]), dict(counts["failures"])
        return Done(self._evaluate(failed, rows))

    def on_deadline(self, event: JobEvent) -> str:
        """Leave the jobs running: a retry attaches to them."""
        return jobs_kept(event)

    def close(self) -> None:
        """Close the runs."""
        for run in self._runs.values():
            run.close()

    def _open_runs(self) -> None:
        """Prepare the run of each model. If the input is read once, all of them read the same rows."""
        if self._runs:
            return
        run_configs = dict(self._run_configs)
        if self._input.read_once is not None:
            conn_id = self._input.output_conn_id
            self._opened = open_shared_rows(
                self._input.read_once,
                self._folder(),
                conn_id=conn_id,
                keep_bad=self._input.reads_bad_rows,
                log=self._task.log,
            )
            rows = self._folder().uri(self._kept_rows_files()[0])
            run_configs = {
                role: replace(
                    run,
                    input=rows,
                    input_title=str(self._input.input),
                    input_conn_id=conn_id,
                    input_options=InputOptions(),
                )
                for role, run in run_configs.items()
            }
        for role, config in run_configs.items():
            self._runs[role] = RowRun(self._task, config, follows_another=role != ROLES[0])

    def _kept_rows_files(self) -> list[str]:
        given = self._input.read_once
        return [] if given is None else kept_rows_files(self._folder(), given.fingerprint)

    def _source(self) -> Source:
        if self._opened is not None:
            return self._opened
        run = self._input
        return open_source(
            run.read_once or run.input,
            conn_id=run.input_conn_id,
            keep_bad=run.reads_bad_rows,
            options=run.input_options,
        )

    def _reader(self, source: Source) -> PairReader:
        return PairReader(source, self._config.columns, self._policy, limit_rows=self._input.limit_rows)

    def _folder(self) -> OutputFolder:
        return OutputFolder(self._config.output, self._input.output_conn_id)

    def _check_rows(self) -> None:
        """Check each row, with its right answer, before a model is asked."""
        source = self._source()
        check_input_apart(source, self._folder())
        try:
            for _ in self._reader(source).read_all():
                pass
        except RowError:
            self._forget_rows()  # so that the next try reads corrected ones
            raise

    def _check_reservation(self) -> None:
        if not (self._input.replace_other_run or self._input.dry_run):
            check_reservation(self._folder(), REPORT, self._task.identity)

    def _forget_rows(self) -> None:
        for name in self._kept_rows_files():
            self._folder().delete(name)

    def _evaluate(self, failures: Mapping[str, dict[str, int]], rows: int) -> dict[str, object]:
        """Write scores and report, and apply the thresholds.

        :param failures: number of failed rows by role and reason
        :param rows: number of rows that the models have answered
        """
        folder, log = self._folder(), self._task.log
        failed = {role: sum(reasons.values()) for role, reasons in failures.items()}
        self._left_out = 0
        tally = Tally(self._config.metrics, compared="base" in self._runs)
        reserve(folder, REPORT, self._task.identity)
        folder.write(SCORES, tally.lines(self._answers()))
        found = tally.rows + self._left_out
        if found != rows:
            raise InvalidArgumentError(
                f"The models answered {rows} rows, but the input now has {found}: it was changed meanwhile. Restore "
                "the old input, or evaluate with another output folder."
            )
        results = self._threshold_results(tally)
        found_report = report_of(
            tally, results, names=self._models, failed=failed, source=self._source().describe()
        )
        report = folder.uri(REPORT)
        write_reports(folder, found_report)
        folder.clean(older_than=0)
        self._forget_rows()
        for role, means in tally.numbers().items():
            scores = ", ".join(f"{name} {value:.4g}" for name, value in means.items())
            log.info("%s: %s", f"{role} {self._models.get(role, '')}".strip(), scores)
        log.info("Wrote the report on %s to %s.", counted(tally.rows, "row"), report)
        return {
            "passed": decide(self._config.gate, results, report),
            "metrics": tally.numbers(),
            "rows": tally.rows,
            "failed": failed,
            "failures": dict(failures),
            "left_out": self._left_out,
            "better": tally.better,
            "worse": tally.worse,
            "missed": [str(result) for result in results if not result.met],
            "model_name": self._models["model"],
            "base_model_name": self._models.get("base"),
            "report": report,
            "report_html": folder.uri(REPORT_HTML),
            "scores": folder.uri(SCORES),
            "output": folder.location,
        }

    def _threshold_results(self, tally: Tally) -> list[ThresholdResult]:
        return [
            *(
                ThresholdResult(f"{name} of the model", tally.mean("model", name), minimum)
                for name, minimum in self._config.thresholds.items()
            ),
            *(
                ThresholdResult(f"the gain in {name}", tally.gain(name), minimum)
                for name, minimum in self._config.min_gain.items()
            ),
        ]

    def _answers(self) -> Iterator[RowAnswers]:
        """The rows with the outputs of the models."""
        pairs = chain.from_iterable(self._reader(self._source()).read_all())
        outputs = [self._outputs(role) if role in self._runs else repeat(None) for role in ROLES]
        for index, (pair, model, base) in enumerate(zip(pairs, *outputs, strict=False)):
            if pair is None:
                self._left_out += 1
            else:
                yield RowAnswers(index, pair, model, base)

    def _outputs(self, role: str) -> Iterator[Json]:
        field, run = self._config.scored_field, self._run_configs[role]
        for row in read_outputs(run.output, run.output_conn_id):
            output = row["output"]
            yield output[field] if field is not None and isinstance(output, dict) else output
