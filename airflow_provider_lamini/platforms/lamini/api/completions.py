"""Completions: text, or objects of an output type, for one prompt or several."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from pydantic import AliasChoices, Field

from airflow_provider_lamini.api import schema
from airflow_provider_lamini.api.call import RESULTS, Call, Json, Retry
from airflow_provider_lamini.api.output_types import OutputType
from airflow_provider_lamini.wording import counted


class CompletionsRequest(schema.Request):
    """The body of ``POST /v2/completions``."""

    model_name: str = Field(min_length=1)
    prompt: schema.Prompts
    output_type: schema.BoundType | None = None
    max_tokens: schema.TokenBound | None = None
    max_new_tokens: schema.TokenBound | None = None
    reservation_id: int | None = None


class CompletionsV1Request(schema.Request):
    """The body of ``POST /v1/completions``. The output type may be spelled ``out_type``."""

    model_name: str = Field(min_length=1)
    prompt: schema.Prompts
    output_type: schema.BoundType | None = Field(
        default=None, validation_alias=AliasChoices("output_type", "out_type")
    )
    max_tokens: schema.TokenBound | None = None
    max_new_tokens: schema.TokenBound | None = None
    cache_id: str | None = None


class StreamingCompletionsRequest(schema.Request):
    """The body of ``POST /v3/streaming_completions``."""

    model_name: str = Field(min_length=1)
    prompt: str
    output_type: schema.BoundType | None = None
    max_new_tokens: schema.TokenBound | None = None


class Started(schema.Response):
    """The id of a started job."""

    id: schema.Id


@dataclass(frozen=True, slots=True)
class Completions:
    """The outputs for some prompts, in their order.

    :param outputs: one per prompt: a text, an object if an output type was requested, or ``None``
    :param finish_reason: one per prompt: ``stop``, ``length`` (cut at the token limit), ``timeout`` (cut by
        the platform), or ``None`` if it is not done or the platform sends none
    :param undecodable: numbers of the outputs that hold a value which JSON does not allow; they are ``None``
    """

    outputs: list[Json]
    finish_reason: list[str | None]
    undecodable: frozenset[int] = frozenset()

    @property
    def done(self) -> bool:
        """Whether there are outputs and each has a finish reason."""
        return bool(self.finish_reason) and None not in self.finish_reason


def complete(
    *,
    model_name: str,
    prompt: str | Sequence[str],
    output_type: OutputType | None = None,
    max_new_tokens: int | None = None,
    max_tokens: int | None = None,
    reservation_id: int | None = None,
) -> Call[Completions]:
    """Complete prompts and wait for the outputs: ``POST /v2/completions``.

    :param model_name: base model or tuned model
    :param prompt: one prompt or a list, sent as they are, without a chat template
    :param output_type: field names with ``str``, ``int``, ``float``, ``bool`` or a list of allowed values
    :param max_new_tokens: maximum tokens to generate
    :param max_tokens: maximum tokens, including the prompt
    :param reservation_id: reservation of GPUs to use
    :returns: one output and one finish reason per prompt
    :raises ValueError: if an argument is invalid
    """
    arguments = {
        "model_name": model_name,
        "output_type": output_type,
        "max_new_tokens": max_new_tokens,
        "max_tokens": max_tokens,
        "reservation_id": reservation_id,
    }
    body = schema.prompts_body(CompletionsRequest, prompt, arguments)
    expected = 1 if isinstance(prompt, str) else len(prompt)
    return Call(
        operation="completions_v2_completions_post",
        method="POST",
        path="/v2/completions",
        json=body,
        parse=lambda content: read_completions(content, expected),
        prompt_fields=("prompt",),
        retry=Retry.SAFE,
        max_bytes=RESULTS,
    )


def complete_v1(
    *,
    model_name: str,
    prompt: str | Sequence[str],
    output_type: OutputType | None = None,
    max_new_tokens: int | None = None,
    max_tokens: int | None = None,
    cache_id: str | None = None,
    spelled_out_type: bool = False,
) -> Call[Completions]:
    """Complete prompts on the older endpoint: ``POST /v1/completions``.

    :param model_name: base model or tuned model
    :param prompt: one prompt or a list
    :param output_type: field names with ``str``, ``int``, ``float``, ``bool`` or a list of allowed values
    :param max_new_tokens: maximum tokens to generate
    :param max_tokens: maximum tokens, including the prompt
    :param cache_id: name of a cache of prompts on the platform
    :param spelled_out_type: send the output type as ``out_type``, as old servers expect it
    :returns: one output per prompt; this endpoint has no finish reasons
    :raises ValueError: if an argument is invalid
    """
    arguments = {
        "model_name": model_name,
        "output_type": output_type,
        "max_new_tokens": max_new_tokens,
        "max_tokens": max_tokens,
        "cache_id": cache_id,
    }
    body = schema.prompts_body(CompletionsV1Request, prompt, arguments)
    if spelled_out_type and "output_type" in body:
        body["out_type"] = body.pop("output_type")
    expected = 1 if isinstance(prompt, str) else len(prompt)
    typed = output_type is not None
    return Call(
        operation="completions_v1_post",
        method="POST",
        path="/v1/completions",
        json=body,
        parse=lambda content: _read_v1(content, expected, typed=typed),
        prompt_fields=("prompt",),
        retry=Retry.SAFE,
        max_bytes=RESULTS,
    )


def start_streaming(
    *,
    model_name: str,
    prompt: str,
    output_type: OutputType | None = None,
    max_new_tokens: int | None = None,
) -> Call[str]:
    """Start a completion whose text so far can be requested: ``POST /v3/streaming_completions``.

    :param model_name: base model or tuned model
    :param prompt: one prompt
    :param output_type: field names with ``str``, ``int``, ``float``, ``bool`` or a list of allowed values
    :param max_new_tokens: maximum tokens to generate
    :returns: the id for :func:`streaming_result`
    :raises ValueError: if an argument is invalid
    """
    arguments = {
        "model_name": model_name,
        "prompt": prompt,
        "output_type": output_type,
        "max_new_tokens": max_new_tokens,
    }
    return Call(
        operation="streaming_completions_v3_streaming_completions_post",
        method="POST",
        path="/v3/streaming_completions",
        json=schema.body(StreamingCompletionsRequest, arguments),
        parse=lambda content: schema.parser(Started)(content).id,
        prompt_fields=("prompt",),
        retry=Retry.ONLY_IF_NOT_STARTED,
    )


def streaming_result(id: str) -> Call[Completions]:  # noqa: A002 - the platform's name for it
    """Get the text so far: ``GET /v3/streaming_completions/{id}/result``.

    :param id: what :func:`start_streaming` returned
    :returns: the outputs so far, none at first; ``done`` once each finish reason is set
    """
    return Call(
        operation="streaming_completion_result_v3_streaming_completions__id__result_get",
        method="GET",
        path=f"/v3/streaming_completions/{schema.path_segment(id)}/result",
        parse=read_completions,
        retry=Retry.SAFE,
        max_bytes=RESULTS,
    )


def read_completions(content: bytes, expected: int | None = None) -> Completions:
    """Parse ``{outputs, finish_reason}``, each a list or, for one prompt, the value itself.

    :param content: body of the response; ``{}`` means that there are no outputs yet
    :param expected: expected number of outputs, if known
    :raises ValueError: if it has another structure
    """
    try:
        value, lenient = schema.decode(content), False
    except ValueError:
        # One output must not make the others unreadable.
        value, lenient = schema.decode_leniently(content), True
    if not isinstance(value, dict) or (value and "outputs" not in value):
        raise ValueError(f"an object with outputs was expected, not {schema.describe_type(value)}")
    found = _normalised(value.get("outputs"), value.get("finish_reason"), expected, empty=not value)
    return _without_undecodable(found) if lenient else found


def _without_undecodable(found: Completions) -> Completions:
    wrong = frozenset(
        number for number, output in enumerate(found.outputs) if not schema.is_decodable(output)
    )
    if not all(map(schema.is_decodable, found.finish_reason)):
        raise ValueError("a finish_reason is not valid JSON")
    outputs = [None if number in wrong else output for number, output in enumerate(found.outputs)]
    return Completions(outputs, found.finish_reason, wrong)


def _normalised(outputs: Json, reasons: Json, expected: int | None, *, empty: bool = False) -> Completions:
    listed: list[Json] = outputs if isinstance(outputs, list) else [] if empty else [outputs]
    if expected is not None and len(listed) != expected:
        raise ValueError(f"it has {counted(len(listed), 'output')} for {counted(expected, 'prompt')}")
    if reasons is None or isinstance(reasons, str):
        return Completions(listed, [reasons] * len(listed))
    if not isinstance(reasons, list) or len(reasons) != len(listed):
        raise ValueError(f"one finish_reason for each of {len(listed)} outputs was expected")
    return Completions(listed, checked_reasons(reasons))


def checked_reasons(reasons: list[Json]) -> list[str | None]:
    """Validate finish reasons: texts or nulls.

    :raises ValueError: if one is something else
    """
    if not {*map(type, reasons)} <= {str, type(None)}:
        wrong = next(reason for reason in reasons if not isinstance(reason, str | None))
        raise ValueError(f"a finish_reason must be a text or null, not {schema.describe_type(wrong)}")
    return cast("list[str | None]", reasons)


def _read_v1(content: bytes, expected: int, *, typed: bool) -> Completions:
    value = schema.decode(content)
    if isinstance(value, dict) and "outputs" in value and not typed:
        return _normalised(value["outputs"], value.get("finish_reason"), expected)
    listed = value if isinstance(value, list) else [value]
    if typed:
        return _normalised(list(listed), None, expected)
    if isinstance(value, dict) and isinstance(value.get("output"), list):
        return _normalised(value["output"], None, expected)
    outputs: list[Json] = []
    for each in listed:
        if not isinstance(each, dict) or "output" not in each:
            raise ValueError(f"objects with output were expected, not {schema.describe_type(each)}")
        outputs.append(each["output"])
    return _normalised(outputs, None, expected)
