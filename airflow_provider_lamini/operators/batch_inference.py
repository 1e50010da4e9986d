"""Batch inference: one output for each row of an input."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from airflow_provider_lamini.operators.lineage import reports_lineage
from airflow_provider_lamini.operators.row_operator import RowOperator
from airflow_provider_lamini.runs.arguments import not_called, one_of, plain_name

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow_provider_lamini.api.call import Json
    from airflow_provider_lamini.hooks.lamini import LaminiHook
    from airflow_provider_lamini.platforms.lamini.endpoints import Inference
    from airflow_provider_lamini.rows.prompts.template import PromptTemplate
    from airflow_provider_lamini.runs.row_run import RowRun
    from airflow_provider_lamini.runs.task import TaskRun

ENDPOINTS = ("batch", "completions", "chat")

INFERENCE_FIELDS = (
    "output_type",
    "strict_output",
    "fail_on_length",
    "accept_answers",
    "system",
    "temperature",
    "top_p",
    "seed",
    "stop",
    "extra_body",
)
"""Arguments that say what a model does with each row, apart from its name, ``max_new_tokens`` and ``check``."""

REQUEST_FIELDS = ("messages", "last_answer", "overrides")
"""Arguments that say how a row becomes a request, apart from ``prompt`` and ``system``."""

OutputTypeArgument = Mapping[str, object] | type | str | None
"""Field names with types, a JSON Schema, a pydantic model, or the JSON text or dotted path of one."""


@reports_lineage("lamini", uses={"model_name": "models"})
class LaminiBatchInferenceOperator(RowOperator):
    """Sends rows to a model and writes one output row for each of them to a folder, in order.

    Rows are read, sent and written in chunks, so memory does not depend on their number. A ledger in the output
    folder records what is done: a retry continues from there and never sends a finished chunk again. The output folder then
    contains ``part-*.jsonl`` (every row with its ``index``, the ``passthrough`` columns, ``output``, ``finish_reason``
    and, if it failed, ``error``), ``errors-*.jsonl`` (a copy of the failed rows) and ``manifest.json``.

    All arguments that name data or say what to do with it are templated.

    :param input: a list of prompts, a list of rows (mappings), or a path, URI or glob on object storage: JSON Lines, CSV,
        or Parquet (extra ``parquet``)
    :param prompt: a template over a row's columns, such as ``"Summarize: {body}"``, or the name of a column
    :param model_name: base model or tuned model
    :param output: folder for the results, a path or URI. Each run needs its own, for example with ``{{ run_id }}`` in it.
    :param output_type: the shape of each output: field names with ``str``, ``int``, ``float``, ``bool``, ``list[str]`` (or
        of another of these) or a list of allowed values; a JSON Schema of an object; or a pydantic model or its dotted path.
        Lists, nested objects, optional fields and limits need a chat. Default: plain text
    :param strict_output: fail a row whose answer has anything around the object, or a value such as ``1.0`` for an integer
    :param check: a callable, or its dotted path, that takes an output and returns ``None`` or true to accept it; false, or
        a text that says why not, makes the row a failed one. Only its name decides whether a retry continues.
    :param fail_on_length: whether a row fails whose output was cut at ``max_new_tokens``
    :param accept_answers: answers that count as outputs although they are none: ``empty``, ``refused``, ``filtered``,
        ``tool_calls``; by default each of them fails its row
    :param reasoning: what becomes of what a reasoning model thinks before its answer: ``drop`` it, or ``keep`` it in a column of
        its own, ``reasoning``
    :param row_usage: write the tokens of each row beside its output, in the columns ``prompt_tokens``, ``completion_tokens`` and
        ``total_tokens``, and the ``model`` that it was sent to. Only a chat reports tokens.
    :param messages: the column with a conversation, instead of ``prompt``: a list of messages with ``role`` and
        ``content`` (the chat fine-tuning format), the body of a line of an OpenAI batch file, or the JSON text of either
    :param last_answer: what becomes of a conversation's last message if it is the model's: ``drop`` it, so that the model
        answers instead, or ``send`` it, so that the model continues it
    :param system: the system prompt of conversations that have none; may have columns in braces, as ``prompt``
    :param temperature: 0 for the most likely output
    :param top_p: sample only from the most likely tokens that together have this probability, above 0 and up to 1
    :param seed: the same seed gives the same output, as far as the platform can
    :param stop: a text, or a list of texts, at which generation ends
    :param extra_body: other fields of the request's body: any for a chat; ``max_tokens`` and ``reservation_id`` elsewhere
    :param overrides: parameters that a row may set itself, with their columns, such as ``{"temperature": "heat"}``. For a
        chat: ``system``, ``temperature``, ``top_p``, ``seed``, ``stop``, ``max_new_tokens``, ``model_name``; for
        ``completions`` the last two. A row without a value has the operator's.
    :param max_new_tokens: maximum number of generated tokens per row; default: the platform's
    :param max_prompt_chars: maximum length of a prompt in characters. A longer one fails the task before anything is
        sent, when the input is validated at the beginning of a run. ``None`` sets no limit.
    :param passthrough: columns of the input to copy into the output
    :param chunk_size: rows per part of the output and, for ``endpoint="batch"``, per job
    :param max_in_flight: maximum number of jobs that run at the same time; for the other endpoints, of concurrent
        requests
    :param row_retries: how often a failed row is sent again
    :param max_failed_rows: how many rows may fail: a number, a fraction such as ``0.01``, or ``"1%"``
    :param endpoint: ``batch`` for jobs (``/v1/batch_completions``). For platforms without batches: ``completions``
        (``/v2/completions``) or ``chat`` (``/inf/chat/completions``), which hold a worker slot while they run
    :param on_other_run: what to do if the folder contains another run's results: ``fail``, or ``replace`` them
    :param on_changed_input: what to do if the input is not the one that this run has begun with: ``fail``, or ``extend`` the run
        if rows were added at its end: the rows that were sent stay as they are, and only the new ones are sent
    :param on_unknown_submission: what to do with a chunk if nobody can tell whether an earlier try started its job:
        ``submit`` it (again), or ``fail``
    :param input_conn_id: the connection to the input's object storage
    :param output_conn_id: the connection to the output's object storage
    :param lamini_conn_id: the connection to the platform
    :return: the manifest: URIs (of the parts only if there are at most 100), counts by outcome, chunks, seconds, model
    """

    template_fields: Sequence[str] = (
        *RowOperator.template_fields,
        "lamini_conn_id",
        "model_name",
        "max_new_tokens",
        "endpoint",
        *INFERENCE_FIELDS,
        "reasoning",
        "row_usage",
        *REQUEST_FIELDS,
    )
    template_fields_renderers = {"prompt": "md", "input_sql": "sql", "output_type": "json"}  # noqa: RUF012 - as Airflow declares it

    def __init__(
        self,
        *,
        output: str,
        model_name: str,
        output_type: OutputTypeArgument = None,
        strict_output: bool | str = False,
        check: Callable[[Json], object] | str | None = None,
        fail_on_length: bool | str = False,
        accept_answers: Sequence[str] | str = (),
        reasoning: str = "drop",
        row_usage: bool | str = False,
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
        lamini_conn_id: str = "lamini_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(output=output, **kwargs)
        self.model_name = model_name
        self.output_type = not_called(output_type)
        self.strict_output = strict_output
        self.check = check
        self.fail_on_length = fail_on_length
        self.accept_answers = accept_answers
        self.reasoning = reasoning
        self.row_usage = row_usage
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
        self.lamini_conn_id = lamini_conn_id

    def make_hook(self) -> LaminiHook:
        """The platform's hook."""
        from airflow_provider_lamini.hooks.lamini import LaminiHook

        return LaminiHook(plain_name("lamini_conn_id", self.lamini_conn_id))

    def work(self, task: TaskRun) -> RowRun:
        """Validate the arguments, then return the run."""
        from airflow_provider_lamini.runs.answer_policy import parse_writer
        from airflow_provider_lamini.runs.lamini.inference import choose_endpoint
        from airflow_provider_lamini.runs.row_run import RowRun

        name = one_of("endpoint", self.endpoint, ENDPOINTS)
        inference, template = parse_inference_arguments(self, name, reasoning=self.reasoning)
        endpoint = choose_endpoint(name, inference, template)
        config = self.row_run_config(
            task,
            endpoint=endpoint,
            model=inference.model_name,
            fingerprint_inputs={"endpoint": name, "inference": inference.plain()},
            prompt=template,
            writer=parse_writer(
                endpoint, reasoning=inference.answers.keep_reasoning, row_usage=self.row_usage
            ),
            output_required=True,
        )
        return RowRun(task, config)


class InferenceArguments(Protocol):
    """An operator with the arguments of inference; those in `INFERENCE_FIELDS` and `REQUEST_FIELDS` are read by name."""

    model_name: str
    prompt: str
    system: str | None
    max_new_tokens: int | str | None
    check: Callable[[Json], object] | str | None


def parse_inference_arguments(
    operator: InferenceArguments, endpoint: str, *, reasoning: str = "drop"
) -> tuple[Inference, PromptTemplate]:
    """Validate the arguments that say what a row sends, and what becomes of the answer.

    :param operator: the operator
    :param endpoint: one of `ENDPOINTS`
    :param reasoning: ``keep`` or ``drop`` what a model has thought
    :return: what the model does with each row, and what makes the row's prompt or request
    :raises InvalidArgumentError: if one is wrong, or the endpoint does not take it
    """
    from airflow_provider_lamini.runs.lamini.inference import FORMS, parse_inference
    from airflow_provider_lamini.runs.row_requests import parse_requests

    inference = parse_inference(
        endpoint,
        model_name=operator.model_name,
        max_new_tokens=operator.max_new_tokens,
        check=operator.check,
        reasoning=reasoning,
        **{name: getattr(operator, name) for name in INFERENCE_FIELDS},
    )
    template = parse_requests(
        FORMS[endpoint],
        prompt=operator.prompt,
        system=operator.system,
        typed=inference.answers.shape is not None,
        **{name: getattr(operator, name) for name in REQUEST_FIELDS},
    )
    return inference, template
