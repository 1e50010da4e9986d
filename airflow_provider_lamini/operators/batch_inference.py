"""Batch inference: one output for each row of an input."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from airflow_provider_lamini.operators.row_operator import RowOperator
from airflow_provider_lamini.runs.arguments import one_of, parse_output_type, plain_name, whole_number

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_provider_lamini.hooks.lamini import LaminiHook
    from airflow_provider_lamini.platforms.lamini.endpoints import Inference
    from airflow_provider_lamini.rows.endpoints import DirectEndpoint, JobEndpoint
    from airflow_provider_lamini.runs.row_run import RowRun
    from airflow_provider_lamini.runs.task import TaskRun

ENDPOINTS = ("batch", "completions", "chat")


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
    :param output_type: maps field names to ``str``, ``int``, ``float``, ``bool`` or a list of allowed values; default:
        plain text
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
        "output_type",
        "max_new_tokens",
        "endpoint",
    )
    template_fields_renderers = {"prompt": "md", "output_type": "json"}  # noqa: RUF012 - as Airflow declares it

    def __init__(
        self,
        *,
        output: str,
        model_name: str,
        output_type: Mapping[str, str | list[str] | list[int]] | None = None,
        max_new_tokens: int | str | None = None,
        endpoint: str = "batch",
        lamini_conn_id: str = "lamini_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(output=output, **kwargs)
        self.model_name = model_name
        self.output_type = output_type
        self.max_new_tokens = max_new_tokens
        self.endpoint = endpoint
        self.lamini_conn_id = lamini_conn_id

    def make_hook(self) -> LaminiHook:
        """The platform's hook."""
        from airflow_provider_lamini.hooks.lamini import LaminiHook

        return LaminiHook(plain_name("lamini_conn_id", self.lamini_conn_id))

    def work(self, task: TaskRun) -> RowRun:
        """Validate the arguments, then return the run."""
        from airflow_provider_lamini.runs.row_run import RowRun

        inference = parse_inference(self.model_name, self.output_type, self.max_new_tokens)
        name = one_of("endpoint", self.endpoint, ENDPOINTS)
        config = self.row_run_config(
            endpoint=choose_endpoint(name, inference),
            model=inference.model_name,
            fingerprint_inputs=fingerprint_inputs(name, inference),
            output_required=True,
        )
        return RowRun(task, config)


def parse_inference(model_name: object, output_type: object, max_new_tokens: int | str | None) -> Inference:
    """Validate the arguments that say what a model does with each row.

    :param model_name: base model or tuned model
    :param output_type: the shape of each output; ``None`` for plain text
    :param max_new_tokens: maximum number of generated tokens per row; ``None`` for the platform's default
    :raises InvalidArgumentError: if one is wrong
    """
    from airflow_provider_lamini.platforms.lamini.endpoints import Inference

    return Inference(
        model_name=plain_name("model_name", model_name),
        output_type=parse_output_type(output_type),
        max_new_tokens=None
        if max_new_tokens is None
        else whole_number("max_new_tokens", max_new_tokens, minimum=1),
    )


def choose_endpoint(name: str, inference: Inference) -> JobEndpoint | DirectEndpoint:
    """The endpoint with a name.

    :param name: one of `ENDPOINTS`
    :param inference: what the model does with each row
    """
    from airflow_provider_lamini.platforms.lamini.endpoints import BatchCompletions, Chat, DirectCompletions

    if name == "batch":
        return BatchCompletions(inference)
    return Chat(inference) if name == "chat" else DirectCompletions(inference)


def fingerprint_inputs(name: str, inference: Inference) -> dict[str, object]:
    """The arguments that decide the results, as plain values.

    :param name: one of `ENDPOINTS`
    :param inference: what the model does with each row
    """
    return {"endpoint": name, "inference": asdict(inference)}
