"""Inference over the rows of an input with a deployment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_lamini.exceptions import InvalidArgumentError
from airflow_provider_lamini.operators.emissary.hook import emissary_hook
from airflow_provider_lamini.operators.row_operator import RowOperator
from airflow_provider_lamini.runs.arguments import (
    identifier,
    name_list,
    number,
    one_of,
    plain_name,
    seconds,
    share,
    shown,
    text,
    whole_number,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import timedelta

    from airflow_provider_lamini.hooks.emissary import EmissaryHook
    from airflow_provider_lamini.platforms.emissary.endpoints import Generation
    from airflow_provider_lamini.rows.endpoints import DirectEndpoint
    from airflow_provider_lamini.rows.prompt import PromptTemplate
    from airflow_provider_lamini.runs.open_run import RowRunConfig
    from airflow_provider_lamini.runs.task import TaskRun, Work

ENDPOINTS = ("completions", "chat", "classification", "embeddings")
MEASURES = ("cosine", "manhattan", "euclidean")


class EmissaryBatchInferenceOperator(RowOperator):
    """Sends the rows of an input to a deployment, one request per row, and writes one output row for each of them.

    Input, output folder, ledger, retries of rows, ``max_failed_rows`` and resuming are those of
    :class:`~airflow_provider_lamini.operators.batch_inference.LaminiBatchInferenceOperator`. The platform has no batch
    jobs: the task sends the requests itself and holds a worker while it does.

    With ``project_id``, the deployment is looked up first. If it is parked, the task validates the input, wakes the
    deployment and waits in the triggerer (``deferrable``), at most ``wake_timeout``; if it has ended, the task fails before a
    row is sent. The manifest's ``counts.sums`` has ``prompt_tokens``, ``completion_tokens`` and ``total_tokens``.

    Endpoints: ``POST /v1/completions``, ``POST /v1/chat/completions``, ``POST /v1/classification``,
    ``POST /v1/embeddings``; ``GET /v1/projects/{project_id}/deployments``, ``POST .../reactivate``.

    :param model_name: the deployment's name, or a base model that supports inference without a deployment
    :param endpoint: ``completions``: the prompt as it is. ``chat``: one message, with the model's chat template.
        ``classification``: the output has ``class``, ``prob`` or ``logit``, and ``classes``. ``embeddings``: compares two
        texts of each row; the output has the ``measures``.
    :param project_id: the deployment's project; ``None`` does not look the deployment up, as for a base model
    :param engine_id: the engine that the deployment is on; it is woken instead of the deployment
    :param wake_timeout: seconds, or a ``timedelta``, that waking may take; the task's ``timeout`` applies too. The platform
        says that it takes about 8 to 20 minutes.
    :param system: with ``chat``: the system prompt of each row
    :param max_new_tokens: with ``completions`` and ``chat``: maximum tokens generated per row; default: the platform's
    :param temperature: likewise: 0 for the most likely output
    :param top_p: likewise: sample from the most likely tokens that have this probability together
    :param top_k: likewise: sample from this many most likely tokens
    :param data_format: with ``classification``: ``logits`` for raw scores, ``probs`` for probabilities
    :param target: with ``embeddings``: the text to compare with, the name of a column or a template, as ``prompt``
    :param measures: with ``embeddings``: of ``cosine``, ``manhattan`` and ``euclidean``
    :param emissary_conn_id: the connection to the platform
    :return: the manifest: URIs (of the parts only if there are at most 100), counts by outcome, chunks, seconds, model
    """

    template_fields: Sequence[str] = (
        *RowOperator.template_fields,
        "emissary_conn_id",
        "model_name",
        "endpoint",
        "project_id",
        "engine_id",
        "wake_timeout",
        "system",
        "max_new_tokens",
        "temperature",
        "top_p",
        "top_k",
        "data_format",
        "target",
        "measures",
    )
    template_fields_renderers = {"prompt": "md", "system": "md", "target": "md"}  # noqa: RUF012 - as Airflow declares it

    def __init__(
        self,
        *,
        input: str | Sequence[str] | Sequence[Mapping[str, object]],  # noqa: A002 - users expect it
        output: str,
        model_name: str,
        endpoint: str = "completions",
        project_id: str | None = None,
        engine_id: str | None = None,
        wake_timeout: float | str | timedelta = 1800.0,
        system: str | None = None,
        max_new_tokens: int | str | None = None,
        temperature: float | str | None = None,
        top_p: float | str | None = None,
        top_k: int | str | None = None,
        data_format: str = "logits",
        target: str | None = None,
        measures: Sequence[str] = ("cosine",),
        emissary_conn_id: str = "emissary_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(input=input, output=output, **kwargs)
        self.model_name = model_name
        self.endpoint = endpoint
        self.project_id = project_id
        self.engine_id = engine_id
        self.wake_timeout = wake_timeout
        self.system = system
        self.max_new_tokens = max_new_tokens
        self.temperature = temperature
        self.top_p = top_p
        self.top_k = top_k
        self.data_format = data_format
        self.target = target
        self.measures = measures
        self.emissary_conn_id = emissary_conn_id

    def make_hook(self) -> EmissaryHook:
        """The platform's hook."""
        return emissary_hook(self.emissary_conn_id)

    def work(self, task: TaskRun) -> Work[dict[str, object]]:
        """Validate the arguments, then return the run."""
        from airflow_provider_lamini.runs.emissary.inference import WokenRun
        from airflow_provider_lamini.runs.row_run import RowRun

        rows = RowRun(task, self._config())
        project_id = None if self.project_id is None else identifier("project_id", self.project_id)
        engine_id = None if self.engine_id is None else identifier("engine_id", self.engine_id)
        wake_timeout = seconds("wake_timeout", self.wake_timeout)
        if project_id is None and engine_id is None:
            return rows
        return WokenRun(
            task,
            rows,
            model_name=self.model_name,
            project_id=project_id,
            engine_id=engine_id,
            wake_timeout=wake_timeout,
        )

    def _config(self) -> RowRunConfig:
        name = one_of("endpoint", self.endpoint, ENDPOINTS)
        model_name = plain_name("model_name", self.model_name)
        endpoint, options = self._endpoint(name, model_name)
        return self.row_run_config(
            endpoint=endpoint,
            model=model_name,
            fingerprint_inputs={"model_name": model_name, "endpoint": name, **options},
            output_required=True,
            prompt=self._pair() if name == "embeddings" else None,
        )

    def _pair(self) -> PromptTemplate:
        """The template that makes both texts of a row."""
        from airflow_provider_lamini.rows.prompt import PromptTemplate
        from airflow_provider_lamini.rows.text_pair import TextPairTemplate

        try:
            prompt = PromptTemplate.parse(self.prompt)
        except ValueError as error:
            raise InvalidArgumentError(str(error)) from None
        try:
            target = PromptTemplate.parse(self.target)
        except ValueError:
            raise InvalidArgumentError(
                f"target must be the name of a column or a template over columns, not {shown(self.target)}."
            ) from None
        return TextPairTemplate(prompt, target)

    def _endpoint(self, name: str, model_name: str) -> tuple[DirectEndpoint, dict[str, object]]:
        """The endpoint, and its options as plain values."""
        from airflow_provider_lamini.platforms.emissary.endpoints import Chat, Classify, Compare, Completions

        data_format = one_of("data_format", self.data_format, ("logits", "probs"))
        measures = [one_of("measures", item, MEASURES) for item in name_list("measures", self.measures)]
        system = None if self.system is None else text("system", self.system)
        generation, options = self._generation(model_name)
        if name == "classification":
            return Classify(model_name, data_format), {"data_format": data_format}
        if name == "embeddings":
            return Compare(model_name, measures), {"measures": measures}
        if name == "chat":
            return Chat(generation, system), {**options, "system": system}
        if system is not None:
            raise InvalidArgumentError(
                f"system is for endpoint='chat'; with {name} write it into the prompt."
            )
        return Completions(generation), options

    def _generation(self, model_name: str) -> tuple[Generation, dict[str, object]]:
        from airflow_provider_lamini.platforms.emissary.endpoints import Generation

        tokens, temperature, top_p, top_k = self.max_new_tokens, self.temperature, self.top_p, self.top_k
        generation = Generation(
            model_name=model_name,
            max_new_tokens=None if tokens is None else whole_number("max_new_tokens", tokens, minimum=1),
            temperature=None if temperature is None else number("temperature", temperature, minimum=0),
            top_p=None if top_p is None else share("top_p", top_p),
            top_k=None if top_k is None else whole_number("top_k", top_k, minimum=1),
        )
        return generation, {
            "max_new_tokens": generation.max_new_tokens,
            "temperature": generation.temperature,
            "top_p": generation.top_p,
            "top_k": generation.top_k,
        }
