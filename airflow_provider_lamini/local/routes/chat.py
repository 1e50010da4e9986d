"""Chat completions compatible with OpenAI's API, under ``/inf``."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import msgspec
from fastapi import APIRouter, Request
from pydantic import Field
from starlette.responses import Response, StreamingResponse

from airflow_provider_lamini.api.call import Json
from airflow_provider_lamini.api.schema import TokenBound
from airflow_provider_lamini.local.engines.base import EngineError, GenerationRequest, GenerationResult
from airflow_provider_lamini.local.errors import ApiError, http_status
from airflow_provider_lamini.local.inference import DEFAULT_NEW_TOKENS
from airflow_provider_lamini.local.platform import LocalPlatform
from airflow_provider_lamini.local.routes.common import PlatformDep, json_response, run_in_pool
from airflow_provider_lamini.platforms.lamini.api.chat import ChatRequest, ResponseFormat

router = APIRouter(prefix="/inf")
_NOT_FOR_ENGINES = {"stream_options", "n", "user", "store", "metadata"}
"""Fields that say how a client reads the answer, or that one answer makes pointless."""


class ChatBody(ChatRequest):
    """A chat request. Fields of OpenAI's API that the engine does not support are ignored."""

    temperature: float | None = Field(default=None, ge=0, le=2, allow_inf_nan=False)
    max_completion_tokens: TokenBound | None = None
    stream: bool | None = None


@dataclass(frozen=True, slots=True)
class ReplyFormat:
    """Formats a reply.

    :param model: name of the model, as requested
    :param id: id of the reply
    :param created: Unix timestamp
    """

    model: str
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))

    def complete(self, generation: GenerationResult) -> dict[str, Json]:
        """Return the complete reply."""
        message: dict[str, Json] = {"role": "assistant", "content": generation.text}
        choice: dict[str, Json] = {
            "index": 0,
            "message": message,
            "finish_reason": finish_reason(generation),
        }
        return self._envelope("chat.completion", choice) | {"usage": usage(generation)}

    def chunk(self, delta: dict[str, Json], reason: str | None = None) -> bytes:
        """Return one server-sent event of a streamed reply."""
        choice: dict[str, Json] = {"index": 0, "delta": delta, "finish_reason": reason}
        return b"data: " + msgspec.json.encode(self._envelope("chat.completion.chunk", choice)) + b"\n\n"

    def _envelope(self, kind: str, choice: dict[str, Json]) -> dict[str, Json]:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "choices": [choice],
        }


@router.get("/models")
async def list_models(platform: PlatformDep) -> Response:
    """List the models that can chat."""
    names = await asyncio.to_thread(platform.inference.texts.models)
    models = [{"id": name, "object": "model", "created": 0, "owned_by": "local"} for name in names]
    return json_response({"object": "list", "data": models})


@router.post("/chat/completions")
async def chat(body: ChatBody, platform: PlatformDep, request: Request) -> Response:
    """Reply to a conversation, complete or streamed. A JSON schema may constrain the reply."""
    await asyncio.to_thread(platform.inference.check_text_model, body.model)
    generation_request = GenerationRequest(
        model_name=body.model,
        messages=[message.model_dump(mode="json", exclude_unset=True) for message in body.messages],
        max_tokens=body.max_completion_tokens or body.max_tokens or DEFAULT_NEW_TOKENS,
        temperature=body.temperature or 0.0,
        json_schema=_schema(body.response_format),
        options=_options(body),
    )
    if body.stream:
        return await _stream(generation_request, platform)
    generations = await run_in_pool(
        [generation_request], platform.inference.texts.generate, platform.text_pool, request
    )
    return json_response(ReplyFormat(body.model).complete(generations[0]))


def _options(body: ChatBody) -> dict[str, Json]:
    """Return the fields that only the engine understands."""
    named = {"top_p": body.top_p, "seed": body.seed, "stop": body.stop}
    unknown = {
        name: value for name, value in (body.model_extra or {}).items() if name not in _NOT_FOR_ENGINES
    }
    return {**unknown, **{name: value for name, value in named.items() if value is not None}}


def _schema(response_format: ResponseFormat | None) -> dict[str, Json] | None:
    if response_format is None or response_format.type == "text":
        return None
    if response_format.type == "json_object":
        return {"type": "object"}
    if response_format.json_schema is None or response_format.json_schema.schema_ is None:
        raise ApiError(400, "response_format of type json_schema needs json_schema.schema.")
    schema: dict[str, Json] = dict(response_format.json_schema.schema_)
    return schema


def usage(generation: GenerationResult) -> dict[str, Json]:
    """Return the tokens of a reply as OpenAI's API does."""
    return {
        "prompt_tokens": generation.prompt_tokens,
        "completion_tokens": generation.generated_tokens,
        "total_tokens": generation.prompt_tokens + generation.generated_tokens,
    }


def finish_reason(generation: GenerationResult) -> str:
    """Return OpenAI's word for why the text ended. OpenAI has none for a time limit."""
    return "length" if generation.finish_reason == "timeout" else generation.finish_reason


class _DisconnectedError(Exception):
    """The client has disconnected."""


async def _stream(generation_request: GenerationRequest, platform: LocalPlatform) -> Response:
    loop = asyncio.get_running_loop()
    events: asyncio.Queue[str | GenerationResult | Exception] = asyncio.Queue()
    disconnected = False

    def put(event: str | GenerationResult | Exception) -> None:
        if disconnected:
            raise _DisconnectedError
        loop.call_soon_threadsafe(events.put_nowait, event)

    def generate() -> None:
        try:
            put(platform.inference.texts.generate(generation_request, put))
        except _DisconnectedError:
            return
        except Exception as error:  # noqa: BLE001 - the reader of the queue raises it
            put(error)

    async def chunks(first: str | GenerationResult) -> AsyncIterator[bytes]:
        nonlocal disconnected
        reply, event = ReplyFormat(generation_request.model_name), first
        try:
            yield reply.chunk({"role": "assistant", "content": ""})
            while isinstance(event, str):
                yield reply.chunk({"content": event})
                event = _raise_error(await events.get())
            yield reply.chunk({}, finish_reason(event))
            yield b"data: [DONE]\n\n"
        finally:
            disconnected = True

    platform.text_pool.run(iter([generate]), interactive=True)
    # Wait for the first event, so that an error before it is returned with its own HTTP status.
    return StreamingResponse(chunks(_raise_error(await events.get())), media_type="text/event-stream")


def _raise_error(event: str | GenerationResult | Exception) -> str | GenerationResult:
    if isinstance(event, EngineError):
        raise ApiError(http_status(event), str(event)) from None
    if isinstance(event, Exception):
        raise event
    return event
