"""Completing one prompt, or a few."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_lamini.operators.base import COLOR
from airflow_provider_lamini.operators.templates import renders_only_templates
from airflow_provider_lamini.runs.arguments import parse_output_type, plain_name, whole_number

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.providers.common.compat.sdk import Context

MAX_PROMPTS = 100


@renders_only_templates
class LaminiCompletionOperator(BaseOperator):
    """Completes one prompt, or a list of at most 100, and returns the outputs.

    The task holds a worker until all prompts are completed, and fails if one is not; a retry sends all of them again. For
    more prompts, or results on storage, use
    :class:`~airflow_provider_lamini.operators.batch_inference.LaminiBatchInferenceOperator`.

    Endpoint: ``POST /v2/completions``, one request per prompt.

    :param prompt: a prompt, or a list of prompts, sent unchanged, without a chat template
    :param model_name: base model or tuned model
    :param output_type: field name to ``str``, ``int``, ``float``, ``bool`` or a list of allowed values; default: plain
        text
    :param max_new_tokens: maximum tokens generated per prompt; default: the platform's
    :param max_in_flight: maximum number of concurrent requests
    :param lamini_conn_id: the connection to the platform
    :return: ``model`` with ``output`` and ``finish_reason`` for one prompt, with ``outputs`` and ``finish_reasons``
        in the order of the prompts for a list. An output is a text, or an object if there is an ``output_type``.
    """

    template_fields: Sequence[str] = (
        "lamini_conn_id",
        "prompt",
        "model_name",
        "output_type",
        "max_new_tokens",
        "max_in_flight",
    )
    template_fields_renderers = {"prompt": "md", "output_type": "json"}  # noqa: RUF012 - as Airflow declares it
    ui_color = COLOR

    def __init__(
        self,
        *,
        prompt: str | Sequence[str],
        model_name: str,
        output_type: Mapping[str, str | list[str] | list[int]] | str | None = None,
        max_new_tokens: int | str | None = None,
        max_in_flight: int | str = 4,
        lamini_conn_id: str = "lamini_default",
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("multiple_outputs", True)  # so that a Dag may write complete.output["output"]
        super().__init__(**kwargs)
        self.prompt = prompt
        self.model_name = model_name
        self.output_type = output_type
        self.max_new_tokens = max_new_tokens
        self.max_in_flight = max_in_flight
        self.lamini_conn_id = lamini_conn_id

    def execute(self, context: Context) -> dict[str, object]:  # noqa: ARG002 - Airflow's interface
        """Send all prompts and return the outputs."""
        from airflow_provider_lamini.hooks.lamini import LaminiHook
        from airflow_provider_lamini.platforms.lamini.endpoints import DirectCompletions, Inference
        from airflow_provider_lamini.runs.inline import output_value, parse_texts, require_outputs, send_all

        prompts, single = parse_texts("prompt", self.prompt, MAX_PROMPTS)
        tokens = self.max_new_tokens
        inference = Inference(
            model_name=plain_name("model_name", self.model_name),
            output_type=parse_output_type(self.output_type),
            max_new_tokens=None if tokens is None else whole_number("max_new_tokens", tokens, minimum=1),
        )
        endpoint = DirectCompletions(inference)
        responses = send_all(
            LaminiHook(plain_name("lamini_conn_id", self.lamini_conn_id)).settings(),
            [endpoint.ask([prompt]) for prompt in prompts],
            at_once=whole_number("max_in_flight", self.max_in_flight, minimum=1),
            log=self.log,
        )
        rows = require_outputs([row for response in responses for row in response])
        return {"model": inference.model_name, **output_value(rows, single=single)}
