"""The platform's inference endpoints: how prompts become calls, and answers the outcomes of rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

import msgspec

from airflow_provider_lamini.rows.output.chunk_result import ChunkResult

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_provider_lamini.api.call import Call, Json
    from airflow_provider_lamini.api.output_types import OutputType


class RowResult(NamedTuple):
    """What the platform made of one row.

    :param output: the output; ``None`` where the row failed
    :param finish_reason: why generation ended, in the platform's word
    :param error: why the row failed; ``None`` where it did not
    """

    output: Json
    finish_reason: str | None
    error: str | None = None


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
