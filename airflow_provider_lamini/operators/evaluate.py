"""Is a tuned model better than its base model? Both answer held-out rows, and their answers are scored."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_provider_lamini.exceptions import InvalidArgumentError
from airflow_provider_lamini.operators.batch_inference import LaminiBatchInferenceOperator
from airflow_provider_lamini.runs.arguments import one_of, optional_name, plain_name, shown
from airflow_provider_lamini.runs.outcome import Done, WaitFor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_lamini.api.call import Json
    from airflow_provider_lamini.jobs.event import JobEvent
    from airflow_provider_lamini.runs.evaluation_report import RowAnswers

SCORES = "scores.jsonl"
REPORT = "report.md"


class LaminiEvaluateOperator(LaminiBatchInferenceOperator):
    """Has a model, and another one to compare it with, answer rows whose right answers are known.

    Each model works through the rows as in :class:`LaminiBatchInferenceOperator`, one after the other, with a ledger
    each: a retry sends only what is not done, and changing metrics or thresholds sends nothing. The output folder
    holds ``model/`` and ``base/`` (the outputs), ``scores.jsonl`` (one line per row) and ``report.md``.

    A row that failed scores 0. Arguments of :class:`LaminiBatchInferenceOperator` that are not named here, such as
    ``output_type``, ``endpoint`` and ``chunk_size``, mean the same.

    :param input: the held-out rows: a list of mappings, or a path, URI or glob on object storage
    :param model_name: the model to judge, such as the one that ``LaminiTrainOperator`` returned
    :param base_model_name: the model to compare with; none scores ``model_name`` alone
    :param output: a folder for outputs, scores and report. Give each run its own, as with ``{{ run_id }}`` in it.
    :param prompt: what the models are asked: the name of a column, or a template over a row's columns
    :param answer: what is right, likewise
    :param output_field: with an ``output_type`` of several fields: the one that is scored; a single field is taken
        by itself
    :param metrics: ``exact_match``, ``token_f1``, or callables, or their dotted paths. A callable takes the right
        answer (a text) and the output, and returns a number, the more the better. The first one picks the examples of
        the report.
    :param thresholds: by metric, the least mean score of ``model_name``
    :param min_gain: by metric, by how much its mean has to be above that of ``base_model_name`` at least
    :param gate: what to do where a threshold is missed: ``fail`` the task, ``skip`` it (and with it what comes
        after), or ``return`` with ``passed`` false, so that a branch decides
    :param max_failed_rows: rows that may fail, for each model: a number, a share or a percentage; any number of them
        if not given
    :return: ``passed``, ``metrics`` (means of ``model`` and ``base``, and ``gain``), ``rows``, ``failed`` (rows, by
        model), ``better`` and ``worse`` (rows, by metric), ``missed`` (sentences), ``model_name``,
        ``base_model_name``, ``report``, ``scores``, ``output``
    """

    template_fields: Sequence[str] = (
        *LaminiBatchInferenceOperator.template_fields,
        "base_model_name",
        "answer",
        "output_field",
        "thresholds",
        "min_gain",
        "gate",
    )

    def __init__(
        self,
        *,
        base_model_name: str | None = None,
        prompt: str = "input",
        answer: str = "output",
        output_field: str | None = None,
        metrics: Sequence[str | Callable[[str, Json], float]] = ("exact_match", "token_f1"),
        thresholds: Mapping[str, float] | str | None = None,
        min_gain: Mapping[str, float] | str | None = None,
        gate: str = "fail",
        max_failed_rows: float | str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(prompt=prompt, max_failed_rows=max_failed_rows, **kwargs)
        self.base_model_name = base_model_name
        self.answer = answer
        self.output_field = output_field
        self.metrics = metrics
        self.thresholds = thresholds
        self.min_gain = min_gain
        self.gate = gate
        self._role = "model"

    def check(self) -> None:
        """Validate the rendered arguments; see :class:`JobOperator`."""
        from airflow_provider_lamini.corpus.pairs import Columns
        from airflow_provider_lamini.runs.evaluation import (
            GATES,
            check_names,
            parse_metrics,
            parse_thresholds,
        )

        super().check()
        self._gate = one_of("gate", self.gate, GATES)
        self._metrics = parse_metrics(self.metrics)
        self._thresholds = parse_thresholds("thresholds", self.thresholds)
        self._min_gain = parse_thresholds("min_gain", self.min_gain)
        check_names("thresholds", self._thresholds, self._metrics)
        check_names("min_gain", self._min_gain, self._metrics)
        self._models = {"model": self._inference.model_name}
        if self.base_model_name is not None:
            self._models["base"] = plain_name("base_model_name", self.base_model_name)
        elif self._min_gain:
            raise InvalidArgumentError("min_gain compares two models: give base_model_name as well.")
        self._field = self._scored_field()
        try:
            self._columns = Columns.parse(self.prompt, self.answer)
        except ValueError as error:
            raise InvalidArgumentError(str(error)) from error

    def results_folder(self) -> str:
        """See :class:`ChunkedOperator`: each model has a folder of its own."""
        return f"{super().results_folder().rstrip('/')}/{self._role}"

    def _advance(self, context: Context, event: JobEvent | None) -> WaitFor | Done[dict[str, object]]:
        if event is None:
            self._check_rows()
        failed: dict[str, int] = {}
        rows = 0
        for role, name in self._models.items():
            self._role, self._inference = role, replace(self._inference, model_name=name)
            # The jobs of an event may be any model's: those that a ledger does not know are left alone.
            step = super()._advance(context, event)
            if isinstance(step, WaitFor):
                return step
            counts = step.result["counts"]
            assert isinstance(counts, dict)  # noqa: S101 - a manifest has them
            rows, failed[role] = int(counts["rows"]), int(counts["failed"])
        return Done(self._judge(failed, rows))

    def has_begun(self, event: JobEvent | None) -> bool:
        """See :class:`ChunkedOperator`: the second model's run begins when the first one's has ended."""
        return event is not None and self._role == next(iter(self._models))

    def _check_rows(self) -> None:
        """Look at every row, its right answer too, before a model is asked."""
        from airflow_provider_lamini.corpus.pairs import checked
        from airflow_provider_lamini.rows.sources.source import open_source
        from airflow_provider_lamini.rows.storage.folder import OutputFolder

        source = open_source(self.input, conn_id=self.input_conn_id)
        OutputFolder(super().results_folder(), self.output_conn_id).check_apart(source)
        for _ in checked(source, self._columns):
            pass

    def _judge(self, failed: Mapping[str, int], rows: int) -> dict[str, object]:
        from airflow_provider_lamini.rows.sources.source import open_source
        from airflow_provider_lamini.rows.storage.folder import OutputFolder
        from airflow_provider_lamini.runs.evaluation import ThresholdResult, decide
        from airflow_provider_lamini.runs.evaluation_report import Tally, report_of

        folder = OutputFolder(super().results_folder(), self.output_conn_id)
        tally = Tally(self._metrics, compared="base" in self._models)
        folder.write(SCORES, tally.lines(self._answers()))
        if tally.rows != rows:
            raise InvalidArgumentError(
                f"The models answered {rows} rows, but the input has {tally.rows} now: it was changed meanwhile. Bring "
                "the old input back, or evaluate into another output folder."
            )
        verdicts = [
            *(
                ThresholdResult(f"{name} of the model", tally.mean("model", name), least)
                for name, least in self._thresholds.items()
            ),
            *(
                ThresholdResult(f"the gain in {name}", tally.gain(name), least)
                for name, least in self._min_gain.items()
            ),
        ]
        source = open_source(self.input, conn_id=self.input_conn_id).describe()
        folder.write(REPORT, report_of(tally, verdicts, names=self._models, failed=failed, source=source))
        folder.clean(older_than=0)
        report = folder.uri(REPORT)
        for role, means in tally.numbers().items():
            shown = ", ".join(f"{name} {value:.4g}" for name, value in means.items())
            self.log.info("%s: %s", f"{role} {self._models.get(role, '')}".strip(), shown)
        self.log.info("The report on %d rows is in %s.", tally.rows, report)
        return {
            "passed": decide(self._gate, verdicts, report),
            "metrics": tally.numbers(),
            "rows": tally.rows,
            "failed": dict(failed),
            "better": tally.better,
            "worse": tally.worse,
            "missed": [str(verdict) for verdict in verdicts if not verdict.met],
            "model_name": self._models["model"],
            "base_model_name": self._models.get("base"),
            "report": report,
            "scores": folder.uri(SCORES),
            "output": folder.location,
        }

    def _answers(self) -> Iterator[RowAnswers]:
        """The rows with what the models said to them."""
        from itertools import chain, repeat

        from airflow_provider_lamini.corpus.pairs import checked
        from airflow_provider_lamini.rows.sources.source import open_source
        from airflow_provider_lamini.runs.evaluation_report import RowAnswers

        source = open_source(self.input, conn_id=self.input_conn_id)
        pairs = chain.from_iterable(checked(source, self._columns))
        outputs = [
            self._outputs(role) if role in self._models else repeat(None) for role in ("model", "base")
        ]
        for index, (pair, model, base) in enumerate(zip(pairs, *outputs, strict=False)):
            yield RowAnswers(index, pair, model, base)

    def _outputs(self, role: str) -> Iterator[Json]:
        from airflow_provider_lamini.results import read_outputs

        folder = f"{super().results_folder().rstrip('/')}/{role}"
        for row in read_outputs(folder, self.output_conn_id):
            output = row["output"]
            yield output[self._field] if self._field is not None and isinstance(output, dict) else output

    def _scored_field(self) -> str | None:
        optional_name("output_field", self.output_field)
        fields = self._inference.output_type
        if fields is None:
            if self.output_field is not None:
                raise InvalidArgumentError("output_field names a field of output_type: give that as well.")
            return None
        if self.output_field is None:
            return next(iter(fields)) if len(fields) == 1 else None
        if self.output_field not in fields:
            raise InvalidArgumentError(
                f"output_field is {shown(self.output_field)}, but output_type has only {', '.join(fields)}."
            )
        return self.output_field
