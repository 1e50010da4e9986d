"""Lamini's inference endpoints: how prompts become calls, and answers become the results of rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from airflow_provider_lamini.api.output_types import OutputType, json_schema
from airflow_provider_lamini.platforms.lamini.api import batches, chat, completions
from airflow_provider_lamini.platforms.lamini.kinds import BATCH_COMPLETIONS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_provider_lamini.api.call import Call
    from airflow_provider_lamini.platforms.lamini.api.chat import ChatAnswer, Usage
    from airflow_provider_lamini.platforms.lamini.api.completions import Completions
    from airflow_provider_lamini.rows.output.chunk_result import ChunkResult
from airflow_provider_lamini.rows.endpoints import RowResult, outcome, outcomes


@dataclass(frozen=True, slots=True, kw_only=True)
class Inference:
    """What is asked of the model for every row.

    :param model_name: base model or tuned model
    :param output_type: the shape of each output; ``None`` for plain text
    :param max_new_tokens: tokens generated at most per row; ``None`` leaves it to the platform
    """

    model_name: str
    output_type: OutputType | None
    max_new_tokens: int | None


class Reply(NamedTuple):
    """What the platform made of one conversation.

    :param row: the outcome
    :param usage: tokens that it took, where the platform tells
    """

    row: RowResult
    usage: Usage | None


class BatchCompletions:
    """``/v1/batch_completions``: a chunk of rows is one job.

    :param inference: what is asked for every row
    """

    kind = BATCH_COMPLETIONS.name

    def __init__(self, inference: Inference) -> None:
        self._inference = inference

    def submit(self, prompts: Sequence[str]) -> Call[str]:
        """See `JobEndpoint.submit`."""
        asked = self._inference
        return batches.start_completions(
            model_name=asked.model_name,
            prompt=prompts,
            output_type=asked.output_type,
            max_new_tokens=asked.max_new_tokens,
        )

    def results(self, job_id: str, rows: int) -> Call[ChunkResult]:
        """See `JobEndpoint.results`."""

        def read(answer: Completions) -> ChunkResult:
            if len(answer.outputs) != rows:
                raise ValueError(f"batch {job_id} answered {len(answer.outputs)} rows for {rows} prompts")
            return outcomes(answer.outputs, answer.finish_reason, self._inference.output_type)

        return batches.completions_result(job_id).map(read)


class DirectCompletions:
    """``/v2/completions``: a row is one request.

    :param inference: what is asked for every row
    """

    per_request = 1  # else the slowest of several prompts would hold up the answers to the others

    def __init__(self, inference: Inference) -> None:
        self._inference = inference

    def ask(self, prompts: Sequence[str]) -> Call[list[RowResult]]:
        """See `DirectEndpoint.ask`."""
        asked = self._inference
        call = completions.complete(
            model_name=asked.model_name,
            prompt=prompts[0],
            output_type=asked.output_type,
            max_new_tokens=asked.max_new_tokens,
        )
        # This endpoint may leave the reason out for a single prompt; it has answered, so the row is done.
        return call.map(
            lambda answer: [outcome(answer.outputs[0], answer.finish_reason[0] or "stop", asked.output_type)]
        )


class Chat:
    """``/inf/chat/completions``: a row is one request with one message; the model's chat template is applied.

    :param inference: what is asked for every row
    :param temperature: 0 gives the likeliest answer; ``None`` leaves it to the platform
    :param cache_ttl: seconds that a third-party model stays loaded; ``None`` leaves it to the platform
    """

    per_request = 1

    def __init__(
        self, inference: Inference, temperature: float | None = None, cache_ttl: int | None = None
    ) -> None:
        self._inference = inference
        self._temperature = temperature
        self._cache_ttl = cache_ttl
        kind = inference.output_type
        self._format = None if kind is None else chat.json_format(json_schema(kind))

    def ask(self, prompts: Sequence[str]) -> Call[list[RowResult]]:
        """See `DirectEndpoint.ask`."""
        return self.reply([{"role": "user", "content": prompts[0]}]).map(lambda reply: [reply.row])

    def reply(self, messages: Sequence[Mapping[str, str]]) -> Call[Reply]:
        """Answer a conversation.

        :param messages: each with ``role`` and ``content``
        """
        asked = self._inference

        def read(answer: ChatAnswer) -> Reply:
            row = outcome(answer.content, answer.finish_reason or "stop", asked.output_type)
            return Reply(row, answer.usage)

        return chat.complete(
            model=asked.model_name,
            messages=messages,
            temperature=self._temperature,
            max_tokens=asked.max_new_tokens,
            response_format=self._format,
            cache_ttl=self._cache_ttl,
        ).map(read)
