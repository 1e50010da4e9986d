"""Chat in the OpenAI way, under ``/inf``."""

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
from airflow_provider_lamini.local.engines.base import EngineError, Generation, GenerationRequest
from airflow_provider_lamini.local.errors import PlatformError, status_of
from airflow_provider_lamini.local.inference import DEFAULT_NEW_TOKENS
from airflow_provider_lamini.local.jobs.pool import Flow
from airflow_provider_lamini.local.platform import Platform
from airflow_provider_lamini.local.routes.common import PlatformOf, as_answer, work_on
from airflow_provider_lamini.platforms.lamini.api.chat import ChatRequest, ResponseFormat

router = APIRouter(prefix="/inf")


class ChatBody(ChatRequest):
    """A chat request; what OpenAI's API knows besides and this platform does not is left aside."""

    temperature: float | None = Field(default=None, ge=0, le=2, allow_inf_nan=False)
    max_completion_tokens: TokenBound | None = None
    stream: bool | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """The frame around what is generated.

    :param model: the model that was asked
    :param id: the reply's id
    :param created: seconds since the epoch
    """

    model: str
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, made: Generation) -> dict[str, Json]:
        """The reply in one piece."""
        message: dict[str, Json] = {"role": "assistant", "content": made.text}
        choice: dict[str, Json] = {"index": 0, "message": message, "finish_reason": _reason(made)}
        usage: dict[str, Json] = {
            "prompt_tokens": made.prompt_tokens,
            "completion_tokens": made.generated_tokens,
            "total_tokens": made.prompt_tokens + made.generated_tokens,
        }
        return self._frame("chat.completion", choice) | {"usage": usage}

    def piece(self, delta: dict[str, Json], reason: str | None = None) -> bytes:
        """One server-sent event of a reply in pieces."""
        choice: dict[str, Json] = {"index": 0, "delta": delta, "finish_reason": reason}
        return b"data: " + msgspec.json.encode(self._frame("chat.completion.chunk", choice)) + b"\n\n"

    def _frame(self, kind: str, choice: dict[str, Json]) -> dict[str, Json]:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "choices": [choice],
        }


@router.get("/models")
async def models(platform: PlatformOf) -> Response:
    """The models that can chat."""
    names = await asyncio.to_thread(platform.inference.texts.models)
    found = [{"id": name, "object": "model", "created": 0, "owned_by": "local"} for name in names]
    return as_answer({"object": "list", "data": found})


@router.post("/chat/completions")
async def chat(body: ChatBody, platform: PlatformOf, request: Request) -> Response:
    """Reply to a conversation, in one piece or in pieces; the reply may be bound to a JSON schema."""
    await asyncio.to_thread(platform.inference.check_text_model, body.model)
    wanted = GenerationRequest(
        model_name=body.model,
        messages=[{"role": message.role, "content": message.content} for message in body.messages],
        max_tokens=body.max_completion_tokens or body.max_tokens or DEFAULT_NEW_TOKENS,
        temperature=body.temperature or 0.0,
        json_schema=_schema(body.response_format),
    )
    if body.stream:
        return await _in_pieces(wanted, platform)
    made = await work_on([wanted], platform.inference.texts.generate, platform.text_pool, request)
    return as_answer(Reply(body.model).whole(made[0]))


def _schema(wanted: ResponseFormat | None) -> dict[str, Json] | None:
    if wanted is None or wanted.type == "text":
        return None
    if wanted.type == "json_object":
        return {"type": "object"}
    if wanted.json_schema is None or wanted.json_schema.schema_ is None:
        raise PlatformError(400, "response_format of type json_schema needs json_schema.schema.")
    schema: dict[str, Json] = dict(wanted.json_schema.schema_)
    return schema


def _reason(made: Generation) -> str:
    """Why the text ended, in OpenAI's words, which know no time limit."""
    return "length" if made.finish_reason == "timeout" else made.finish_reason


class _GoneError(Exception):
    """Nobody reads the reply any more."""


async def _in_pieces(wanted: GenerationRequest, platform: Platform) -> Response:
    loop = asyncio.get_running_loop()
    pieces: asyncio.Queue[str | Generation | Exception] = asyncio.Queue()
    gone = False

    def put(piece: str | Generation | Exception) -> None:
        if gone:
            raise _GoneError
        loop.call_soon_threadsafe(pieces.put_nowait, piece)

    def generate() -> None:
        try:
            put(platform.inference.texts.generate(wanted, put))
        except _GoneError:
            return
        except Exception as error:  # noqa: BLE001 - whoever reads the pieces raises it
            put(error)

    async def events(first: str | Generation) -> AsyncIterator[bytes]:
        nonlocal gone
        reply, piece = Reply(wanted.model_name), first
        try:
            yield reply.piece({"role": "assistant", "content": ""})
            while isinstance(piece, str):
                yield reply.piece({"content": piece})
                piece = _good(await pieces.get())
            yield reply.piece({}, _reason(piece))
            yield b"data: [DONE]\n\n"
        finally:
            gone = True

    platform.text_pool.add(Flow(iter([generate]), interactive=True))
    # The first piece is waited for, so that an error before it still has its own status.
    return StreamingResponse(events(_good(await pieces.get())), media_type="text/event-stream")


def _good(piece: str | Generation | Exception) -> str | Generation:
    if isinstance(piece, EngineError):
        raise PlatformError(status_of(piece), str(piece)) from None
    if isinstance(piece, Exception):
        raise piece
    return piece
