"""Completing one prompt, or a few."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_lamini.operators.base import COLOR
from airflow_provider_lamini.operators.lineage import records_lineage, reports_lineage
from airflow_provider_lamini.operators.templates import renders_only_templates
from airflow_provider_lamini.runs.arguments import not_a_file, not_called
from airflow_provider_lamini.runs.outlets import publishes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_lamini.api.call import Json
    from airflow_provider_lamini.operators.batch_inference import OutputTypeArgument

MAX_PROMPTS = 100
FIELDS = (
    "model_name",
    "output_type",
    "strict_output",
    "fail_on_length",
    "accept_answers",
    "max_new_tokens",
    "extra_body",
    "system",
    "temperature",
    "top_p",
    "seed",
    "stop",
)
"""Arguments that say what the model does with each prompt."""


@renders_only_templates
@reports_lineage("lamini", uses={"model_name": "models"})
class LaminiCompletionOperator(BaseOperator):
    """Completes one prompt, or a list of at most 100, and returns the outputs.

    The task holds a worker until all prompts are completed, and fails if one is not; a retry sends all of them again. For
    more prompts, or results on storage, use
    :class:`~airflow_provider_lamini.operators.batch_inference.LaminiBatchInferenceOperator`.

    Endpoint: ``POST /v2/completions``, one request per prompt.

    :param prompt: a prompt, or a list of prompts, sent unchanged, without a chat template
    :param model_name: base model or tuned model
    :param output_type: the shape of each output: field names with ``str``, ``int``, ``float``, ``bool`` or a list of
        allowed values; or a JSON Schema or a pydantic model that says no more than that. Default: plain text
    :param strict_output: fail on an answer that has anything around the object, or a value such as ``1.0`` for an integer
    :param check: a callable, or its dotted path, that takes an output and returns ``None`` or true to accept it; false, or
        a text that says why not, fails the task
    :param fail_on_length: whether an output that was cut at ``max_new_tokens`` fails the task
    :param accept_answers: answers that count as outputs although they are none: ``empty``, ``refused``, ``filtered``,
        ``tool_calls``; by default each of them fails its row
    :param max_new_tokens: maximum tokens generated per prompt; default: the platform's
    :param extra_body: other fields of the request's body: ``max_tokens``, ``reservation_id``
    :param system: refused, as ``temperature``, ``top_p``, ``seed`` and ``stop``: this endpoint takes none of them. Use
        :class:`~airflow_provider_lamini.operators.chat.LaminiChatOperator`.
    :param max_in_flight: maximum number of concurrent requests
    :param lamini_conn_id: the connection to the platform
    :param fallback_model: the model that answers if the first is not available: an outage, too many requests or a model that
        still loads after all retries, no such model, or nothing that can do this. It gets all prompts. Not after a request or
        a key that is refused. A list of up to 10 is tried in its order.
    :param fallback_conn_id: the connection that is used then; with the same model unless there is a ``fallback_model``. A
        list is tried in its order, each connection with the model at the same place of ``fallback_model``, or with the only one.
        If neither is given, the connection's own ``fallback_conn_ids``.
    :return: ``model`` (the one that has answered) with ``output`` and ``finish_reason`` for one prompt, with ``outputs``
        and ``finish_reasons`` in the order of the prompts for a list. An output is a text, or an object if there is an
        ``output_type``. With a fallback also ``fallback``, whether it has answered, and ``conn_id``, the connection
        that has.
    """

    template_fields: Sequence[str] = (
        "lamini_conn_id",
        "prompt",
        *FIELDS,
        "max_in_flight",
        "fallback_model",
        "fallback_conn_id",
    )
    template_fields_renderers = {"prompt": "md", "input_sql": "sql", "output_type": "json"}  # noqa: RUF012 - as Airflow declares it
    ui_color = COLOR

    def __init__(
        self,
        *,
        prompt: str | Sequence[str],
        model_name: str,
        output_type: OutputTypeArgument = None,
        strict_output: bool | str = False,
        check: Callable[[Json], object] | str | None = None,
        fail_on_length: bool | str = False,
        accept_answers: Sequence[str] | str = (),
        max_new_tokens: int | str | None = None,
        extra_body: Mapping[str, object] | str | None = None,
        system: str | None = None,
        temperature: float | str | None = None,
        top_p: float | str | None = None,
        seed: int | str | None = None,
        stop: str | Sequence[str] | None = None,
        max_in_flight: int | str = 4,
        lamini_conn_id: str = "lamini_default",
        fallback_model: str | Sequence[str] | None = None,
        fallback_conn_id: str | Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("multiple_outputs", True)  # so that a Dag may write complete.output["output"]
        super().__init__(**kwargs)
        self.prompt = prompt
        self.model_name = model_name
        self.output_type = not_called(output_type)
        self.strict_output = strict_output
        self.check = check
        self.fail_on_length = fail_on_length
        self.accept_answers = accept_answers
        self.max_new_tokens = max_new_tokens
        self.extra_body = extra_body
        self.system = system
        self.temperature = temperature
        self.top_p = top_p
        self.seed = seed
        self.stop = stop
        self.max_in_flight = max_in_flight
        self.lamini_conn_id = lamini_conn_id
        self.fallback_model = fallback_model
        self.fallback_conn_id = fallback_conn_id

    def prompts(self, context: Context) -> object:  # noqa: ARG002 - for overrides
        """The prompt or prompts. The decorator overrides this: there, a function returns them.

        :param context: Airflow's context
        """
        return self.prompt

    @publishes
    @records_lineage
    def execute(self, context: Context) -> dict[str, object]:
        """Send all prompts and return the outputs."""
        from airflow_provider_lamini.runs.inline import parse_texts
        from airflow_provider_lamini.runs.lamini.direct_answers import parse_answering

        prompts, single = parse_texts("prompt", not_a_file("prompt", self.prompts(context)), MAX_PROMPTS)
        answering = parse_answering(
            "completions",
            {name: getattr(self, name) for name in FIELDS},
            check=self.check,
            lamini_conn_id=self.lamini_conn_id,
            fallback_model=self.fallback_model,
            fallback_conn_id=self.fallback_conn_id,
            max_in_flight=self.max_in_flight,
            log=self.log,
            counted=partial(setattr, self, "answered"),
        )
        return answering.answer_prompts(prompts, single=single)
