"""Inference: completions, chat, comparison of two texts, and classification by deployments and base models."""

import asyncio
import time
import uuid
from collections.abc import Callable
from typing import Annotated

import numpy as np
from fastapi import APIRouter, Request
from pydantic import Field
from starlette.responses import Response

from airflow_provider_lamini.api.call import Json
from airflow_provider_lamini.local.engines.base import GenerationRequest, GenerationResult
from airflow_provider_lamini.local.errors import InvalidInputError, ObjectNotFoundError
from airflow_provider_lamini.local.inference import DEFAULT_NEW_TOKENS
from airflow_provider_lamini.local.platform import LocalPlatform
from airflow_provider_lamini.local.routes.chat import ReplyFormat, finish_reason, usage
from airflow_provider_lamini.local.routes.classifiers import classify_texts
from airflow_provider_lamini.local.routes.common import PlatformDep, json_response, run_in_pool
from airflow_provider_lamini.local.text import token_count
from airflow_provider_lamini.platforms.emissary.api import inference as api

router = APIRouter(prefix="/v1")

Temperature = Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)]


class CompletionBody(api.CompletionRequest):
    """A request for a completion."""

    temperature: Temperature | None = None


class ChatBody(api.ChatRequest):
    """A request for a chat completion."""

    temperature: Temperature | None = None


@router.post("/completions", operation_id="getCompletionsFromDeployment")
async def complete(body: CompletionBody, platform: PlatformDep, request: Request) -> Response:
    """Complete a prompt."""
    generation = await _generate(platform, request, body, body.max_completion_tokens, prompt=body.prompt)
    choice: dict[str, Json] = {
        "index": 0,
        "text": generation.text,
        "logprobs": None,
        "prompt_logprobs": None,
        "stop_reason": None,
        "finish_reason": finish_reason(generation),
    }
    return json_response(
        {
            "id": f"cmpl-{uuid.uuid4().hex}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": body.model,
            "choices": [choice],
            "usage": {**usage(generation), "prompt_tokens_details": None},
        }
    )


@router.post("/chat/completions", operation_id="getChatCompletions")
async def chat(body: ChatBody, platform: PlatformDep, request: Request) -> Response:
    """Continue a conversation."""
    messages: list[dict[str, Json]] = [
        {"role": message.role, "content": message.content} for message in body.messages
    ]
    generation = await _generate(platform, request, body, body.max_tokens, messages=messages)
    return json_response(ReplyFormat(body.model).complete(generation))


async def _generate(
    platform: LocalPlatform,
    request: Request,
    body: CompletionBody | ChatBody,
    max_tokens: int | None,
    *,
    prompt: str | None = None,
    messages: list[dict[str, Json]] | None = None,
) -> GenerationResult:
    model_name = await asyncio.to_thread(_text_model, platform, body.model)
    named = {"top_p": body.top_p, "top_k": body.top_k}
    generation_request = GenerationRequest(
        model_name=model_name,
        prompt=prompt,
        messages=messages,
        max_tokens=max_tokens or DEFAULT_NEW_TOKENS,
        temperature=body.temperature or 0.0,
        options={name: value for name, value in named.items() if value is not None},
    )
    (generation,) = await run_in_pool(
        [generation_request], platform.inference.generate, platform.text_pool, request
    )
    return generation


@router.post("/embeddings", operation_id="getEmbeddingsFromDeployment")
async def compare(body: api.EmbeddingRequest, platform: PlatformDep, request: Request) -> Response:
    """Embed two texts, and compare their vectors."""
    model_name = await asyncio.to_thread(_embedding_model, platform, body.model)
    (vectors,) = await run_in_pool(
        [[body.input, body.target]],
        lambda texts: platform.inference.embed(texts, model_name),
        platform.vector_pool,
        request,
    )
    first, second = (np.asarray(vector, dtype=np.float64) for vector in vectors)
    lengths = float(np.linalg.norm(first) * np.linalg.norm(second))
    scores: dict[str, Json] = {
        "input_embedding": [*vectors[0]],
        "target_embedding": [*vectors[1]],
        "cosine_score": float(first @ second) / lengths if lengths else 0.0,
    }
    if body.manhattan:
        scores["manhattan_distance"] = float(np.abs(first - second).sum())
    if body.euclidean:
        scores["euclidean_distance"] = float(np.linalg.norm(first - second))
    return json_response({"id": f"rq-{uuid.uuid4().hex}", "response": scores})


@router.post("/classification", operation_id="getClassificationFromDeployment")
async def classify(body: api.ClassificationRequest, platform: PlatformDep, request: Request) -> Response:
    """Score the labels of a text: raw scores, or probabilities."""
    deployment = await asyncio.to_thread(platform.emissary.serving.ready_deployment, body.model)
    if deployment is None and platform.emissary.base_model(body.model) is None:
        raise ObjectNotFoundError("model", body.model)
    if deployment is None or deployment.task_type != "classification":
        raise InvalidInputError(f"model: {body.model!r} is not a deployment of a classifier.")
    model = await asyncio.to_thread(platform.emissary.serving.classifier, deployment)
    data_format = body.data_format or "logits"
    score = model.logits if data_format == "logits" else model.probabilities
    (scores,) = await classify_texts(platform, model, [body.input], request, score)
    labels = [known.name for known in model.classes]
    tokens = token_count(body.input)
    return json_response(
        {
            "id": f"classify-{uuid.uuid4().hex}",
            "model": deployment.id,
            "data": [{"index": 0, data_format: dict(zip(labels, scores, strict=True))}],
            "usage": {
                "completion_tokens": 0,
                "prompt_tokens": tokens,
                "prompt_token_details": "estimated",
                "total_tokens": tokens,
            },
        }
    )


def _text_model(platform: LocalPlatform, name: str) -> str:
    """Return the served name of the model that generates text for a deployment or a base model."""
    return _served_name(platform, name, "text-generation", platform.inference.check_text_model)


def _embedding_model(platform: LocalPlatform, name: str) -> str:
    """Return the served name of the model that embeds texts for a deployment or a base model."""
    return _served_name(platform, name, "embedding", platform.inference.check_embedding_model)


def _served_name(platform: LocalPlatform, name: str, task_type: str, check: Callable[[str], None]) -> str:
    deployment = platform.emissary.serving.ready_deployment(name)
    if deployment is not None:
        if deployment.task_type != task_type:
            raise InvalidInputError(f"model: deployment {name!r} is for {deployment.task_type}.")
        check(deployment.base)
        return deployment.id if deployment.file else deployment.base
    model = platform.emissary.base_model(name)
    if model is None:
        raise ObjectNotFoundError("model", name)
    if model.task_type != task_type:
        raise InvalidInputError(f"model: base model {name!r} is for {model.task_type}.")
    check(name)
    return name
