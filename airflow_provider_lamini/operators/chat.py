"""Chat: answering one conversation, or a few."""

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

MAX_CONVERSATIONS = 100
FIELDS = (
    "model_name",
    "output_type",
    "strict_output",
    "fail_on_length",
    "accept_answers",
    "temperature",
    "top_p",
    "seed",
    "stop",
    "max_new_tokens",
    "cache_ttl",
    "extra_body",
)
"""Arguments that say what the model does with each conversation."""


@renders_only_templates
@reports_lineage("lamini", uses={"model_name": "models"})
class LaminiChatOperator(BaseOperator):
    """Answers one message, a conversation, or a list of at most 100 of either, and returns the answers.

    The platform applies the model's chat template. The task holds a worker until all are answered, and fails if one is not;
    a retry sends all of them again. For more messages, or results on storage, use
    :class:`~airflow_provider_lamini.operators.batch_inference.LaminiBatchInferenceOperator` with
    ``endpoint="chat"``.

    Endpoint: ``POST /inf/chat/completions``, one request per conversation.

    :param messages: the user's message, a text; or a conversation, a list of mappings with ``role`` and ``content``; or a
        list of texts and conversations
    :param model_name: base model, tuned model, or a third-party model that the platform serves
    :param system: the system prompt of each conversation
    :param output_type: the shape of each output: field names with ``str``, ``int``, ``float``, ``bool``, ``list[str]``
        or a list of allowed values; or a JSON Schema of an object, or a pydantic model or its dotted path. Default: plain text
    :param strict_output: fail on an answer with anything around the object, or with a value such as ``1.0`` for an integer
    :param check: a callable, or its dotted path, that takes an output and returns ``None`` or true to accept it; false, or
        a text that says why not, fails the task
    :param fail_on_length: whether an output that was cut at ``max_new_tokens`` fails the task
    :param accept_answers: answers that count as outputs although they are none: ``empty``, ``refused``, ``filtered``,
        ``tool_calls``; by default each of them fails its row
    :param temperature: 0 gives the most likely answer; default: the platform's
    :param top_p: sample only from the most likely tokens that together have this probability, above 0 and up to 1
    :param seed: the same seed gives the same answer, as far as the platform can
    :param stop: a text, or a list of texts, at which generation ends
    :param extra_body: other fields of the request's body, such as ``{"frequency_penalty": 0.5}``
    :param max_new_tokens: maximum tokens generated per answer; default: the platform's
    :param cache_ttl: seconds that a third-party model stays loaded; the platform's default is 60
    :param max_in_flight: maximum number of concurrent requests
    :param lamini_conn_id: the connection to the platform
    :param fallback_model: the model that answers if the first is not available: an outage, too many requests or a model that
        still loads after all retries, no such model, or nothing that can do this. It gets all prompts. Not after a request or
        a key that is refused. A list of up to 10 is tried in its order.
    :param fallback_conn_id: the connection that is used then; with the same model unless there is a ``fallback_model``. A
        list is tried in its order, each connection with the model at the same place of ``fallback_model``, or with the only one.
        If neither is given, the connection's own ``fallback_conn_ids``.
    :return: ``model`` (the one that has answered) with ``output`` and ``finish_reason`` for one conversation, with
        ``outputs`` and ``finish_reasons`` in the same order for a list; ``tokens``: prompt_tokens, completion_tokens and
        total_tokens of all answers, if the platform counts them; and ``cost``, if the connection has a price for them. An
        output is a text, or an object if there is an ``output_type``. With a fallback also ``fallback``, whether it has
        answered, and ``conn_id``, the connection that has.
    """

    template_fields: Sequence[str] = (
        "lamini_conn_id",
        "messages",
        "system",
        *FIELDS,
        "max_in_flight",
        "fallback_model",
        "fallback_conn_id",
    )
    template_fields_renderers = {"system": "md", "output_type": "json"}  # noqa: RUF012 - as Airflow declares it
    ui_color = COLOR

    def __init__(
        self,
        *,
        messages: str | Sequence[str | Mapping[str, str] | Sequence[Mapping[str, str]]],
        model_name: str,
        system: str | None = None,
        output_type: OutputTypeArgument = None,
        strict_output: bool | str = False,
        check: Callable[[Json], object] | str | None = None,
        fail_on_length: bool | str = False,
        accept_answers: Sequence[str] | str = (),
        temperature: float | str | None = None,
        top_p: float | str | None = None,
        seed: int | str | None = None,
        stop: str | Sequence[str] | None = None,
        extra_body: Mapping[str, object] | str | None = None,
        max_new_tokens: int | str | None = None,
        cache_ttl: int | str | None = None,
        max_in_flight: int | str = 4,
        lamini_conn_id: str = "lamini_default",
        fallback_model: str | Sequence[str] | None = None,
        fallback_conn_id: str | Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("multiple_outputs", True)  # so that a Dag may write chat.output["output"]
        super().__init__(**kwargs)
        self.messages = messages
        self.model_name = model_name
        self.system = system
        self.output_type = not_called(output_type)
        self.strict_output = strict_output
        self.check = check
        self.fail_on_length = fail_on_length
        self.accept_answers = accept_answers
        self.temperature = temperature
        self.top_p = top_p
        self.seed = seed
        self.stop = stop
        self.extra_body = extra_body
        self.max_new_tokens = max_new_tokens
        self.cache_ttl = cache_ttl
        self.max_in_flight = max_in_flight
        self.lamini_conn_id = lamini_conn_id
        self.fallback_model = fallback_model
        self.fallback_conn_id = fallback_conn_id

    @publishes
    @records_lineage
    def execute(self, context: Context) -> dict[str, object]:  # noqa: ARG002 - Airflow's interface
        """Send all conversations and return the answers."""
        from airflow_provider_lamini.runs.inline import parse_conversations
        from airflow_provider_lamini.runs.lamini.direct_answers import parse_answering

        messages = not_a_file("messages", self.messages, read=False)
        conversations, single = parse_conversations(
            "messages", messages, MAX_CONVERSATIONS, system=not_a_file("system", self.system)
        )
        answering = parse_answering(
            "chat",
            {name: getattr(self, name) for name in FIELDS},
            check=self.check,
            lamini_conn_id=self.lamini_conn_id,
            fallback_model=self.fallback_model,
            fallback_conn_id=self.fallback_conn_id,
            max_in_flight=self.max_in_flight,
            log=self.log,
            counted=partial(setattr, self, "answered"),
        )
        return answering.answer_conversations(conversations, single=single)
