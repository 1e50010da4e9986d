"""Evaluates a tuned model against its base model on held-out rows."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_provider_lamini.exceptions import InvalidArgumentError
from airflow_provider_lamini.links import ReportLink, ResultsLink
from airflow_provider_lamini.operators.batch_inference import (
    ENDPOINTS,
    INFERENCE_FIELDS,
    REQUEST_FIELDS,
    parse_inference_arguments,
)
from airflow_provider_lamini.operators.lineage import reports_lineage
from airflow_provider_lamini.operators.row_operator import RowOperator
from airflow_provider_lamini.runs.arguments import not_called, one_of, optional_name, plain_name, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from airflow.providers.common.compat.sdk import BaseOperatorLink

    from airflow_provider_lamini.api.call import Json
    from airflow_provider_lamini.hooks.lamini import LaminiHook
    from airflow_provider_lamini.operators.batch_inference import OutputTypeArgument
    from airflow_provider_lamini.platforms.lamini.endpoints import Inference
    from airflow_provider_lamini.rows.prompts.template import PromptTemplate
    from airflow_provider_lamini.runs.model_comparison import ModelComparison
    from airflow_provider_lamini.runs.row_run_config import RowRunConfig
    from airflow_provider_lamini.runs.task import TaskRun


@reports_lineage("lamini", uses={"model_name": "models", "base_model_name": "models"})
class LaminiEvaluateOperator(RowOperator):
    """Lets a model, and optionally a second one, answer rows with known answers, and scores the outputs.

    Each model works through the rows as in :class:`~airflow_provider_lamini.operators.batch_inference
    .LaminiBatchInferenceOperator`, one after the other, each with its own ledger: a retry sends only what is not done, and
    a change of metrics or thresholds sends nothing. The output folder contains ``model/`` and ``base/`` (the outputs),
    ``scores.jsonl`` (one line per row) and ``report.md``.

    A failed row scores 0. Arguments that are not listed here, such as ``output_type``, ``endpoint`` and ``chunk_size``,
    are those of :class:`LaminiBatchInferenceOperator`. With ``messages``, the right answer is each conversation's last
    message, which is not sent, unless ``answer`` is given.

    :param input: the held-out rows: a list of mappings, or a path, URI or glob on object storage
    :param model_name: the model to judge, such as the one that ``LaminiTrainOperator`` returned
    :param base_model_name: the model to compare it with; without one, only ``model_name`` is scored
    :param output: folder for outputs, scores and report. Each run needs its own, for example with ``{{ run_id }}`` in it. One
        that another task or run has taken is refused, unless ``on_other_run`` is ``replace``.
    :param prompt: the question: the name of a column, or a template over a row's columns
    :param answer: the right answer, in the same way; default: ``output``, or a conversation's last message
    :param output_field: the field to score if ``output_type`` has several fields; a single field is used by default
    :param max_new_tokens: maximum number of generated tokens per row; default: the platform's
    :param endpoint: ``batch``, ``completions`` or ``chat``
    :param metrics: ``exact_match``, ``token_f1``, or callables, or their dotted paths. A callable takes the right answer
        (a text) and the output, and returns a number; higher is better. The first metric picks the examples of the report.
    :param thresholds: minimum mean score of ``model_name`` by metric
    :param min_gain: by metric, how much higher its mean score must be than that of ``base_model_name``
    :param gate: what to do if a threshold is missed: ``fail`` the task, ``skip`` it (and with it the tasks after it), or
        ``return`` with ``passed`` false, so that a branch can decide
    :param max_failed_rows: how many rows may fail, for each model: a number, a fraction or a percentage; default: any
        number
    :param lamini_conn_id: the connection to the platform
    :return: ``passed``, ``metrics`` (means of ``model`` and ``base``, and ``gain``), ``rows`` (scored),
        ``left_out`` (rows that cannot be sent, which are not scored), ``failed`` (rows by model), ``failures`` (the same by
        reason), ``better`` and ``worse`` (rows by metric), ``missed`` (sentences), ``model_name``, ``base_model_name``,
        ``report`` (Markdown), ``report_html``, ``scores``, ``output``
    """

    operator_extra_links: Sequence[BaseOperatorLink] = (ResultsLink(), ReportLink())

    template_fields: Sequence[str] = (
        *RowOperator.template_fields,
        "lamini_conn_id",
        "model_name",
        "max_new_tokens",
        "endpoint",
        *INFERENCE_FIELDS,
        *REQUEST_FIELDS,
        "base_model_name",
        "answer",
        "output_field",
        "thresholds",
        "min_gain",
        "gate",
    )
    template_fields_renderers = {"prompt": "md", "input_sql": "sql", "output_type": "json"}  # noqa: RUF012 - as Airflow declares it

    def __init__(
        self,
        *,
        output: str,
        model_name: str,
        base_model_name: str | None = None,
        prompt: str = "input",
        answer: str = "output",
        output_type: OutputTypeArgument = None,
        strict_output: bool | str = False,
        check: Callable[[Json], object] | str | None = None,
        fail_on_length: bool | str = False,
        accept_answers: Sequence[str] | str = (),
        output_field: str | None = None,
        max_new_tokens: int | str | None = None,
        endpoint: str = "batch",
        messages: str | None = None,
        last_answer: str = "drop",
        system: str | None = None,
        temperature: float | str | None = None,
        top_p: float | str | None = None,
        seed: int | str | None = None,
        stop: str | Sequence[str] | None = None,
        extra_body: Mapping[str, object] | str | None = None,
        overrides: Mapping[str, str] | str | None = None,
        metrics: Sequence[str | Callable[[str, Json], float]] = ("exact_match", "token_f1"),
        thresholds: Mapping[str, float] | str | None = None,
        min_gain: Mapping[str, float] | str | None = None,
        gate: str = "fail",
        max_failed_rows: float | str | None = None,
        lamini_conn_id: str = "lamini_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(output=output, prompt=prompt, max_failed_rows=max_failed_rows, **kwargs)
        self.model_name = model_name
        self.base_model_name = base_model_name
        self.answer = answer
        self.output_type = not_called(output_type)
        self.strict_output = strict_output
        self.check = check
        self.fail_on_length = fail_on_length
        self.accept_answers = accept_answers
        self.output_field = output_field
        self.max_new_tokens = max_new_tokens
        self.endpoint = endpoint
        self.messages = messages
        self.last_answer = last_answer
        self.system = system
        self.temperature = temperature
        self.top_p = top_p
        self.seed = seed
        self.stop = stop
        self.extra_body = extra_body
        self.overrides = overrides
        self.metrics = metrics
        self.thresholds = thresholds
        self.min_gain = min_gain
        self.gate = gate
        self.lamini_conn_id = lamini_conn_id

    def make_hook(self) -> LaminiHook:
        """The platform's hook."""
        from airflow_provider_lamini.hooks.lamini import LaminiHook

        return LaminiHook(plain_name("lamini_conn_id", self.lamini_conn_id))

    def work(self, task: TaskRun) -> ModelComparison:
        """Validate the arguments, then return the comparison."""
        from airflow_provider_lamini.corpus.pairs import Columns
        from airflow_provider_lamini.runs.evaluation import (
            GATES,
            check_thresholds,
            parse_metrics,
            parse_thresholds,
        )
        from airflow_provider_lamini.runs.model_comparison import ComparisonConfig, ModelComparison

        endpoint = one_of("endpoint", self.endpoint, ENDPOINTS)
        inference, template = parse_inference_arguments(self, endpoint)
        metrics = parse_metrics(self.metrics)
        thresholds = parse_thresholds("thresholds", self.thresholds)
        min_gain = parse_thresholds("min_gain", self.min_gain)
        check_thresholds("thresholds", thresholds, metrics)
        check_thresholds("min_gain", min_gain, metrics)
        if self.base_model_name is None and min_gain:
            raise InvalidArgumentError("min_gain compares two models: pass base_model_name as well.")
        configs = self._run_configs(task, endpoint, inference, template)
        try:
            columns = (
                Columns.parse(self.prompt, self.answer)
                if self.messages is None
                else Columns.of_conversations(self.messages, None if self.answer == "output" else self.answer)
            )
        except ValueError as error:
            raise InvalidArgumentError(str(error)) from error.__cause__
        comparison = ComparisonConfig(
            output=str(self.output_folder),
            columns=columns,
            scored_field=self._scored_field(inference),
            metrics=metrics,
            thresholds=thresholds,
            min_gain=min_gain,
            gate=one_of("gate", self.gate, GATES),
        )
        return ModelComparison(task, comparison, configs)

    def _run_configs(
        self, task: TaskRun, endpoint: str, inference: Inference, template: PromptTemplate
    ) -> dict[str, RowRunConfig]:
        """The settings of each model's run, by its role."""
        from airflow_provider_lamini.runs.lamini.inference import choose_endpoint

        models = {"model": inference.model_name}
        if self.base_model_name is not None:
            models["base"] = plain_name("base_model_name", self.base_model_name)
        configs = {}
        for role, name in models.items():
            model_inference = replace(inference, model_name=name)
            config = self.row_run_config(
                task,
                endpoint=choose_endpoint(endpoint, model_inference, template),
                model=name,
                fingerprint_inputs={"endpoint": endpoint, "inference": model_inference.plain()},
                prompt=template,
                output_required=True,
            )
            if config.only_failed_of is not None:
                raise InvalidArgumentError(
                    "only_failed_of: an evaluation needs the answers to all rows. Remove it; reuse_from copies those that exist."
                )
            earlier = config.reuse_from and f"{config.reuse_from.rstrip('/')}/{role}"
            configs[role] = replace(config, output=f"{config.output.rstrip('/')}/{role}", reuse_from=earlier)
        return configs

    def _scored_field(self, inference: Inference) -> str | None:
        optional_name("output_field", self.output_field)
        shape = inference.answers.shape
        if shape is None:
            if self.output_field is not None:
                raise InvalidArgumentError("output_field is a field of output_type: pass that as well.")
            return None
        fields = shape.fields
        if self.output_field is None:
            return fields[0] if len(fields) == 1 else None
        if self.output_field not in fields:
            raise InvalidArgumentError(
                f"output_field is {shown(self.output_field)}, but output_type has only {', '.join(fields)}."
            )
        return self.output_field
