"""Inference over the rows of an input with a deployment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_lamini.exceptions import InvalidArgumentError
from airflow_provider_lamini.operators.emissary.hook import emissary_hook
from airflow_provider_lamini.operators.lineage import reports_lineage
from airflow_provider_lamini.operators.row_operator import RowOperator
from airflow_provider_lamini.runs.arguments import (
    identifier,
    name_list,
    not_called,
    one_of,
    plain_name,
    seconds,
    shown,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import timedelta

    from airflow_provider_lamini.api.call import Json
    from airflow_provider_lamini.hooks.emissary import EmissaryHook
    from airflow_provider_lamini.rows.endpoints import DirectEndpoint
    from airflow_provider_lamini.rows.prompts.template import PromptTemplate
    from airflow_provider_lamini.runs.row_run_config import RowRunConfig
    from airflow_provider_lamini.runs.task import TaskRun, Work

ENDPOINTS = ("completions", "chat", "classification", "embeddings")
TEXT_ENDPOINTS = ("completions", "chat")
GENERATION_FIELDS = (
    "system",
    "max_new_tokens",
    "temperature",
    "top_p",
    "top_k",
    "output_type",
    "strict_output",
    "fail_on_length",
    "accept_answers",
    "reasoning",
)
"""Arguments that say what a model generates for each row, apart from its name and ``check``."""

REQUEST_FIELDS = ("messages", "last_answer", "overrides")
"""Arguments that say how a row becomes a request, apart from ``prompt`` and ``system``."""

MEASURES = ("cosine", "manhattan", "euclidean")


@reports_lineage("emissary", uses={"model_name": "deployments", "engine_id": "engines"})
class EmissaryBatchInferenceOperator(RowOperator):
    """Sends the rows of an input to a deployment, one request per row, and writes one output row for each of them.

    Input, output folder, ledger, retries of rows, ``max_failed_rows`` and resuming are those of
    :class:`~airflow_provider_lamini.operators.batch_inference.LaminiBatchInferenceOperator`. The platform has no batch
    jobs: the task sends the requests itself and holds a worker while it does.

    With ``project_id``, the deployment is looked up first. If it is parked, the task validates the input, wakes the
    deployment and waits in the triggerer (``deferrable``), at most ``wake_timeout``; if it has ended, the task fails before a
    row is sent. If it is parked or ends while rows are sent, the task fails too, and no row counts as failed for that; a
    retry continues. The manifest's ``counts.sums`` has ``prompt_tokens``, ``completion_tokens`` and ``total_tokens``.

    Endpoints: ``POST /v1/completions``, ``POST /v1/chat/completions``, ``POST /v1/classification``,
    ``POST /v1/embeddings``; ``GET /v1/projects/{project_id}/deployments``, ``POST .../reactivate``.

    :param model_name: the deployment's name, or a base model that supports inference without a deployment
    :param endpoint: ``completions``: the prompt as it is. ``chat``: one message, with the model's chat template.
        ``classification``: the output has ``class``, ``prob`` or ``logit``, and ``classes``. ``embeddings``: compares two
        texts of each row; the output has the ``measures``.
    :param output: folder for the results, a path or URI. Each run needs its own, for example with ``{{ run_id }}`` in it.
    :param project_id: the deployment's project; ``None`` does not look the deployment up, as for a base model
    :param engine_id: the engine that the deployment is on; it is woken instead of the deployment
    :param wake_timeout: seconds, or a ``timedelta``, that waking may take; the task's ``timeout`` applies too. The platform
        says that it takes about 8 to 20 minutes.
    :param messages: with ``chat``: the column with a conversation, instead of ``prompt``: a list of messages with ``role``
        (``system``, ``user`` or ``assistant``) and ``content``, the body of a line of an OpenAI batch file, or the JSON text
        of either. A conversation with anything that the platform does not take, such as ``seed`` or ``tools``, is a bad row.
    :param last_answer: what becomes of a conversation's last message if it is the model's: ``drop`` it, so that the model
        answers instead, or ``send`` it, so that the model continues it
    :param system: with ``chat``: the system prompt of conversations that have none; may have columns in braces, as
        ``prompt``
    :param max_new_tokens: with ``completions`` and ``chat``: maximum tokens generated per row; default: the platform's
    :param temperature: likewise: 0 for the most likely output
    :param top_p: likewise: sample only from the most likely tokens that together have this probability, above 0 and up to 1
    :param top_k: likewise: sample from this many most likely tokens
    :param overrides: likewise: parameters that a row may set itself, with their columns, such as ``{"temperature": "heat"}``:
        ``temperature``, ``top_p``, ``top_k``, ``max_new_tokens``, ``model_name`` and, for a chat, ``system``. A row without a
        value has the operator's. Only the deployment ``model_name`` of the operator is woken before rows are sent.
    :param output_type: likewise: the shape of each output: field names with types, a JSON Schema of an object, or a pydantic
        model or its dotted path. The platform has no option for it: the prompt must ask for the JSON object, and an answer
        that does not hold one fails its row. Default: plain text
    :param strict_output: fail a row whose answer has anything around the object, or a value such as ``1.0`` for an integer
    :param check: with ``completions`` and ``chat``: a callable, or its dotted path, that takes an output and returns ``None``
        or true to accept it; false, or a text that says why not, makes the row a failed one. Only its name decides whether a
        retry continues.
    :param fail_on_length: whether a row fails whose output was cut at ``max_new_tokens``
    :param accept_answers: answers that count as outputs although they are none: ``empty``, ``refused``, ``filtered``,
        ``tool_calls``; by default each of them fails its row
    :param reasoning: with ``completions`` and ``chat``: what becomes of what a reasoning model thinks: ``drop`` it, or ``keep``
        it in a column of its own, ``reasoning``
    :param row_usage: write the tokens of each row beside its output, in the columns ``prompt_tokens``, ``completion_tokens`` and
        ``total_tokens``, and the ``model`` that it was sent to. Not for ``embeddings``.
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
        *GENERATION_FIELDS,
        "row_usage",
        *REQUEST_FIELDS,
        "data_format",
        "target",
        "measures",
    )
    template_fields_renderers = {  # noqa: RUF012 - as Airflow declares it
        "prompt": "md",
        "input_sql": "sql",
        "system": "md",
        "target": "md",
        "output_type": "json",
    }

    def __init__(
        self,
        *,
        output: str,
        model_name: str,
        endpoint: str = "completions",
        project_id: str | None = None,
        engine_id: str | None = None,
        wake_timeout: float | str | timedelta = 1800.0,
        messages: str | None = None,
        last_answer: str = "drop",
        system: str | None = None,
        max_new_tokens: int | str | None = None,
        temperature: float | str | None = None,
        top_p: float | str | None = None,
        top_k: int | str | None = None,
        overrides: Mapping[str, str] | str | None = None,
        output_type: Mapping[str, object] | type | str | None = None,
        strict_output: bool | str = False,
        check: Callable[[Json], object] | str | None = None,
        fail_on_length: bool | str = False,
        accept_answers: Sequence[str] | str = (),
        reasoning: str = "drop",
        row_usage: bool | str = False,
        data_format: str = "logits",
        target: str | None = None,
        measures: Sequence[str] = ("cosine",),
        emissary_conn_id: str = "emissary_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(output=output, **kwargs)
        self.model_name = model_name
        self.endpoint = endpoint
        self.project_id = project_id
        self.engine_id = engine_id
        self.wake_timeout = wake_timeout
        self.messages = messages
        self.last_answer = last_answer
        self.system = system
        self.max_new_tokens = max_new_tokens
        self.temperature = temperature
        self.top_p = top_p
        self.top_k = top_k
        self.overrides = overrides
        self.output_type = not_called(output_type)
        self.strict_output = strict_output
        self.check = check
        self.fail_on_length = fail_on_length
        self.accept_answers = accept_answers
        self.reasoning = reasoning
        self.row_usage = row_usage
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

        project_id = None if self.project_id is None else identifier("project_id", self.project_id)
        engine_id = None if self.engine_id is None else identifier("engine_id", self.engine_id)
        wake_timeout = seconds("wake_timeout", self.wake_timeout)
        rows = RowRun(task, self._config(task, project_id, engine_id))
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

    def _config(self, task: TaskRun, project_id: str | None, engine_id: str | None) -> RowRunConfig:
        from airflow_provider_lamini.platforms.emissary.endpoints import Deployed
        from airflow_provider_lamini.runs.answer_policy import parse_writer

        name = one_of("endpoint", self.endpoint, ENDPOINTS)
        model_name = plain_name("model_name", self.model_name)
        data_format = one_of("data_format", self.data_format, ("logits", "probs"))
        measures = [one_of("measures", item, MEASURES) for item in name_list("measures", self.measures)]
        endpoint, template, options = (
            self._texts(name, model_name)
            if name in TEXT_ENDPOINTS
            else self._scores(name, model_name, data_format, measures)
        )
        if project_id is not None or engine_id is not None:
            endpoint = Deployed(endpoint, model_name, project_id=project_id, engine_id=engine_id)
        return self.row_run_config(
            task,
            endpoint=endpoint,
            model=model_name,
            fingerprint_inputs={"endpoint": name, **options},
            output_required=True,
            prompt=template,
            writer=parse_writer(
                endpoint,
                reasoning=name in TEXT_ENDPOINTS and self.reasoning == "keep",
                row_usage=self.row_usage,
            ),
        )

    def _texts(self, name: str, model_name: str) -> tuple[DirectEndpoint, PromptTemplate, dict[str, object]]:
        """The endpoint that generates texts, what makes its prompts or requests, and its options as plain values."""
        from airflow_provider_lamini.platforms.emissary.endpoints import Chat, Completions
        from airflow_provider_lamini.rows.prompts.row_request import RequestTemplate
        from airflow_provider_lamini.runs.emissary.arguments import FORMS, parse_generation
        from airflow_provider_lamini.runs.row_requests import parse_requests

        if name != "chat" and self.system is not None:
            raise InvalidArgumentError(
                f"system is for endpoint='chat'; with {name} write it into the prompt."
            )
        options = parse_generation(
            model_name=model_name,
            check=self.check,
            **{field: getattr(self, field) for field in GENERATION_FIELDS},
        )
        template = parse_requests(
            FORMS[name],
            prompt=self.prompt,
            system=self.system,
            typed=options.answers.shape is not None,
            **{field: getattr(self, field) for field in REQUEST_FIELDS},
        )
        requests = isinstance(template, RequestTemplate)
        endpoint = Chat if name == "chat" else Completions
        return endpoint(options, requests=requests), template, {"generation": options.plain()}

    def _scores(
        self, name: str, model_name: str, data_format: str, measures: Sequence[str]
    ) -> tuple[DirectEndpoint, PromptTemplate | None, dict[str, object]]:
        """The endpoint that scores texts, what makes them, and its options as plain values."""
        from airflow_provider_lamini.platforms.emissary.endpoints import Classify, Compare

        for field in (*GENERATION_FIELDS, *REQUEST_FIELDS, "check"):
            if getattr(self, field) not in (None, False, (), "drop"):
                raise InvalidArgumentError(
                    f"{field} needs endpoint='completions' or 'chat': /v1/{name} generates no text."
                )
        if name == "classification":
            options: dict[str, object] = {"model_name": model_name, "data_format": data_format}
            return Classify(model_name, data_format), None, options
        return Compare(model_name, measures), self._pair(), {"model_name": model_name, "measures": measures}

    def _pair(self) -> PromptTemplate:
        """The template that makes both texts of a row."""
        from airflow_provider_lamini.rows.prompts.row_request import TextPairTemplate
        from airflow_provider_lamini.rows.prompts.template import PromptTemplate

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
