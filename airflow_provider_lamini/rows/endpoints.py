"""What a platform's endpoint for rows must offer, and how an answer becomes the results of rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

import msgspec

from airflow_provider_lamini.rows.output.chunk_result import ChunkResult

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_provider_lamini.api.call import Call, Json
    from airflow_provider_lamini.api.output_types import OutputType


class RowResult(NamedTuple):
    """The result of one row.

    :param output: the output; ``None`` if the row failed
    :param finish_reason: why generation ended, as the platform says it
    :param error: why the row failed; ``None`` if it did not
    """

    output: Json
    finish_reason: str | None
    error: str | None = None


@runtime_checkable
class JobEndpoint(Protocol):
    """An endpoint that takes many prompts as a job."""

    kind: str
    """Name of the kind of its jobs."""

    def submit(self, prompts: Sequence[str]) -> Call[str]:
        """Start a job.

        :param prompts: the prompts
        :return: a call that returns the job's id
        """
        ...

    def results(self, job_id: str, rows: int) -> Call[ChunkResult]:
        """Fetch the results of an ended job.

        :param job_id: the platform's id
        :param rows: number of its prompts
        :return: a call that returns the results in the order of the prompts
        """
        ...


class DirectEndpoint(Protocol):
    """An endpoint that answers prompts directly."""

    per_request: int
    """Maximum number of prompts per request."""

    def ask(self, prompts: Sequence[str]) -> Call[list[RowResult]]:
        """Send prompts and return their results.

        :param prompts: 1 to ``per_request`` prompts
        :return: a call that returns one result per prompt, in the same order
        """
        ...


def set_result(result: ChunkResult, offset: int, row: RowResult) -> None:
    """Set the result of one row in the result of its chunk.

    :param result: the chunk's result
    :param offset: offset of the row in the chunk
    :param row: the row's result
    """
    if row.error is None:
        result.settle(offset, row.output, row.finish_reason)
    else:
        result.fail(offset, row.error, row.finish_reason)


def outcomes(outputs: list[Json], reasons: list[str | None], output_type: OutputType | None) -> ChunkResult:
    """Check the platform's answer for many rows, each as `outcome` does.

    :param outputs: the outputs in the answer
    :param reasons: the finish reasons in the answer, one per output
    :param output_type: the requested shape of each output; ``None`` for plain text
    """
    if output_type is None and None not in outputs and not {None, "timeout"} & set(reasons):
        # Nearly always all rows are plain texts and complete: then no row needs a check of its own.
        return ChunkResult(outputs, reasons, [None] * len(outputs))
    result = ChunkResult.pending(len(outputs))
    for offset, (output, reason) in enumerate(zip(outputs, reasons, strict=True)):
        set_result(result, offset, outcome(output, reason, output_type))
    return result


def outcome(output: Json, reason: str | None, output_type: OutputType | None) -> RowResult:
    """Check the platform's answer for one row.

    :param output: the output in the answer
    :param reason: why generation ended: ``stop``, ``length``, ``timeout``; ``None`` if the row was not processed
    :param output_type: the requested shape; ``None`` for plain text
    :return: the result; the row has failed if there is no output, if the platform's time limit cut it off, or if it does
        not have the requested shape
    """
    if output is None or reason is None:
        hint = "; max_new_tokens may be too small, or the prompt too long" if reason == "length" else ""
        return RowResult(
            None, reason, f"the platform gave no output (finish_reason {reason or 'missing'}){hint}"
        )
    if reason == "timeout":
        return RowResult(None, reason, "the platform's time limit cut the output off")
    if output_type is None:
        return RowResult(output, reason)
    shaped = _decoded(output)
    wrong = _misfit(shaped, output_type)
    if wrong is None:
        return RowResult(shaped, reason)
    hint = "; max_new_tokens may be too small" if reason == "length" else ""
    return RowResult(None, reason, f"the output does not fit output_type: {wrong}{hint}")


def _decoded(output: Json) -> Json:
    """Decode an output: platforms return objects as such, or as text."""
    if not isinstance(output, str):
        return output
    try:
        decoded: Json = msgspec.json.decode(output)
    except msgspec.DecodeError:
        return output
    return decoded


_TYPES: Mapping[str, type | tuple[type, ...]] = {"str": str, "int": int, "float": (int, float), "bool": bool}


def _misfit(output: Json, output_type: OutputType) -> str | None:
    """What is wrong with an output, briefly and without its content; ``None`` if nothing is."""
    if not isinstance(output, dict):
        return "it is not an object"
    for name, kind in output_type.items():
        if name not in output:
            return f"field {name!r} is missing"
        value = output[name]
        if isinstance(kind, list):
            # Compare types too: in Python, True == 1 and 1.0 == 1.
            if not any(value == allowed and type(value) is type(allowed) for allowed in kind):
                return f"field {name!r} is not one of the allowed values"
        elif not isinstance(value, _TYPES[kind]) or (isinstance(value, bool) and kind != "bool"):
            return f"field {name!r} is not of type {kind}"
    return None
