"""The platform's inference endpoints: how prompts become calls, and answers the outcomes of rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

import msgspec

from airflow_provider_lamini.api.lamini import batches, chat, completions
from airflow_provider_lamini.api.output_types import OutputType, json_schema
from airflow_provider_lamini.jobs.kinds import BATCH_COMPLETIONS
from airflow_provider_lamini.rows.parts import ChunkResult

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_provider_lamini.api.call import Call, Json
    from airflow_provider_lamini.api.lamini.chat import ChatAnswer, Usage
    from airflow_provider_lamini.api.lamini.completions import Completions


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


class RowResult(NamedTuple):
    """What the platform made of one row.

    :param output: the output; ``None`` where the row failed
    :param finish_reason: why generation ended, in the platform's word
    :param error: why the row failed; ``None`` where it did not
    """

    output: Json
    finish_reason: str | None
    error: str | None = None


class Reply(NamedTuple):
    """What the platform made of one conversation.

    :param row: the outcome
    :param usage: tokens that it took, where the platform tells
    """

    row: RowResult
    usage: Usage | None


class JobEndpoint(Protocol):
    """An endpoint that takes many prompts at once and answers later, as a job."""

    kind: str

    def submit(self, prompts: Sequence[str]) -> Call[str]:
        """Start a job for these prompts; the answer is its id."""
        ...

    def results(self, job_id: str, rows: int) -> Call[ChunkResult]:
        """Fetch the outcomes of an ended job, in the order of its prompts.

        :param job_id: the platform's id
        :param rows: how many prompts it had
        """
        ...


class DirectEndpoint(Protocol):
    """An endpoint that answers at once."""

    per_request: int
    """How many prompts one request takes at the most."""

    def ask(self, prompts: Sequence[str]) -> Call[list[RowResult]]:
        """Answer some prompts.

        :param prompts: at least one, at most ``per_request``
        :return: a call that answers one outcome per prompt, in their order
        """
        ...


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

        return batches.completions_result(job_id).then(read)


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
        return call.then(
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
        return self.reply([{"role": "user", "content": prompts[0]}]).then(lambda reply: [reply.row])

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
        ).then(read)


def note(result: ChunkResult, offset: int, row: RowResult) -> None:
    """Put what one row came to into its chunk's result.

    :param result: the chunk's
    :param offset: the row's number in the chunk
    :param row: what it came to
    """
    if row.error is None:
        result.settle(offset, row.output, row.finish_reason)
    else:
        result.fail(offset, row.error, row.finish_reason)


def outcomes(outputs: list[Json], reasons: list[str | None], output_type: OutputType | None) -> ChunkResult:
    """Judge what the platform answered for many rows; see `outcome`.

    :param outputs: the answer's outputs
    :param reasons: why generation ended, as many
    :param output_type: the shape that was asked for
    """
    if output_type is None and None not in outputs and not {None, "timeout"} & set(reasons):
        # Plain texts of rows that are all done, as nearly always: nothing is left to judge row by row.
        return ChunkResult(outputs, reasons, [None] * len(outputs))
    result = ChunkResult.pending(len(outputs))
    for offset, (output, reason) in enumerate(zip(outputs, reasons, strict=True)):
        note(result, offset, outcome(output, reason, output_type))
    return result


def outcome(output: Json, reason: str | None, output_type: OutputType | None) -> RowResult:
    """Judge what the platform answered for one row.

    :param output: the answer's output
    :param reason: why generation ended: ``stop``, ``length``, ``timeout``; ``None`` where the row was not
        done
    :param output_type: the shape that was asked for
    :return: the outcome: failed where there is no output, where the platform's own time limit cut it, or
        where it does not
        have the shape
    """
    if output is None or reason is None:
        hint = "; max_new_tokens may be too small, or the prompt too long" if reason == "length" else ""
        return RowResult(
            None, reason, f"the platform gave no output (finish_reason {reason or 'missing'}){hint}"
        )
    if reason == "timeout":
        return RowResult(None, reason, "the platform's time limit cut the output")
    if output_type is None:
        return RowResult(output, reason)
    shaped = _decoded(output)
    wrong = _misfit(shaped, output_type)
    if wrong is None:
        return RowResult(shaped, reason)
    hint = "; max_new_tokens may be too small" if reason == "length" else ""
    return RowResult(None, reason, f"the output does not fit output_type: {wrong}{hint}")


def _decoded(output: Json) -> Json:
    """The object in a text; platforms answer an output type as either."""
    if not isinstance(output, str):
        return output
    try:
        decoded: Json = msgspec.json.decode(output)
    except msgspec.DecodeError:
        return output
    return decoded


_TYPES: Mapping[str, type | tuple[type, ...]] = {"str": str, "int": int, "float": (int, float), "bool": bool}


def _misfit(output: Json, output_type: OutputType) -> str | None:
    """What is wrong with an output, in a few words and without its content."""
    if not isinstance(output, dict):
        return "it is no object"
    for name, kind in output_type.items():
        if name not in output:
            return f"field {name!r} is missing"
        value = output[name]
        if isinstance(kind, list):
            # By type too: to Python, True and 1.0 are in [1, 2].
            if not any(value == allowed and type(value) is type(allowed) for allowed in kind):
                return f"field {name!r} is none of the allowed values"
        elif not isinstance(value, _TYPES[kind]) or (isinstance(value, bool) and kind != "bool"):
            return f"field {name!r} is no {kind}"
    return None
