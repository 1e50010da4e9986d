"""Checks of the official client against the platform at LAMINI_API_URL.

``run.py`` runs this in an environment that has the client. It prints one line per check and exits with an error status
if a check fails.
"""

from __future__ import annotations

import asyncio
import sys
import time
import traceback
import uuid
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import knowledge
import lamini
import numpy as np
import tuning
from lamini import (
    BaseOpenAIClient,
    Embedding,
    GenerationNode,
    GenerationPipeline,
    Lamini,
    LaminiIndex,
    PromptObject,
    StreamingCompletion,
)
from lamini.api.utils.batch_completions import BatchCompletions
from lamini.api.utils.batch_embeddings import BatchEmbeddings
from lamini.api.versions import APIVersion
from lamini.error.error import APIError, AuthenticationError, ModelNotFoundError, UserError
from lamini.generation.embedding_node import EmbeddingNode
from lamini.generation.llm_stream import LLMStream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
VECTORS = "sentence-transformers/all-MiniLM-L6-v2"
PROMPT = "The capital of France is"
PROMPTS = [f"The capital of {country} is" for country in ("France", "Spain", "Italy")]
TYPES = {
    "city": "str",
    "people": "int",
    "share": "float",
    "large": "bool",
    "size": ["small", "big"],
    "rank": [1, 2],
}

llm = Lamini(model_name=MODEL)


def check_typed(output: Any) -> None:
    assert list(output) == list(TYPES), output
    assert [type(value) for value in output.values()] == [str, int, float, bool, str, int], output
    assert output["size"] in TYPES["size"], output
    assert output["rank"] in TYPES["rank"], output


def generate_one_text() -> None:
    text = llm.generate(PROMPT, max_new_tokens=12)
    assert isinstance(text, str), text
    assert "Paris" in text, text


def generate_a_list_of_texts() -> None:
    texts = llm.generate(PROMPTS, max_new_tokens=12)
    assert [type(text) for text in texts] == [str] * 3, texts
    assert "Paris" in texts[0], texts
    assert "Madrid" in texts[1], texts
    assert "Rome" in texts[2], texts


def generate_one_object() -> None:
    check_typed(llm.generate(PROMPT, output_type=TYPES, max_new_tokens=120))


def generate_a_list_of_objects() -> None:
    outputs = llm.generate(PROMPTS, output_type=TYPES, max_new_tokens=120)
    assert len(outputs) == 3, outputs
    for output in outputs:
        check_typed(output)


def limit_the_number_of_tokens() -> None:
    short, long = (llm.generate("Once upon a time", max_new_tokens=limit) for limit in (1, 20))
    assert long.startswith(short), (short, long)
    assert len(short) < len(long), (short, long)


def stream_a_text() -> None:
    answers = list(StreamingCompletion().create(PROMPT, MODEL, max_new_tokens=40, polling_interval=0.1))
    texts = [answer["outputs"][0] or "" for answer in answers if answer]  # null before the first token
    assert answers[-1]["finish_reason"][0] in ("stop", "length"), answers[-1]
    assert all(later.startswith(earlier) for earlier, later in pairwise(texts)), texts
    assert "Paris" in texts[-1], texts


async def stream_a_text_asynchronously() -> None:
    stream = await StreamingCompletion().async_create(PROMPT, MODEL, max_new_tokens=12, polling_interval=0.1)
    answers = [answer async for answer in stream]
    assert "Paris" in answers[-1]["outputs"][0], answers[-1]


def run_a_batch() -> None:
    batches = BatchCompletions()
    job_id = batches.submit(prompt=PROMPTS, model_name=MODEL, max_new_tokens=12)["id"]
    answer: dict[str, Any] = {}
    deadline = time.monotonic() + 60
    while not (answer and all(answer["finish_reason"])) and time.monotonic() < deadline:
        time.sleep(0.2)
        answer = batches.check_result(job_id)
    assert len(answer["outputs"]) == len(answer["finish_reason"]) == 3, answer
    assert "Rome" in answer["outputs"][2], answer


def stream_the_rows_of_a_batch() -> None:
    prompts = PROMPTS * 4
    rows = list(BatchCompletions().streaming_generate(prompts, MODEL, max_new_tokens=8, polling_interval=0.2))
    assert len(rows) == len(prompts), rows
    assert all(row["output"] and row["finish_reason"] for row in rows), rows
    assert all("Madrid" in row["output"] for row in rows[1::3]), rows


async def run_a_typed_batch_asynchronously() -> None:
    rows = await BatchCompletions().async_streaming_generate(
        PROMPTS, MODEL, output_type={"size": TYPES["size"]}, max_new_tokens=20, polling_interval=0.2
    )
    outputs = [row["output"] async for row in rows]
    assert [output["size"] in TYPES["size"] for output in outputs] == [True] * 3, outputs


def stream_minibatches() -> None:
    rows = list(LLMStream().generate(PROMPTS * 3, MODEL, max_new_tokens=8))
    assert len(rows) == 9, rows
    assert all(row["output"] for row in rows), rows


def embed_one_text() -> None:
    vector = Embedding().generate("a text")
    assert vector.shape == (1, 384), vector.shape
    assert abs(float(np.linalg.norm(vector)) - 1) < 1e-3


def embed_a_list_of_texts() -> None:
    texts = ["How do I reset my password?", "I forgot my password.", "The invoice has a wrong amount."]
    first, similar, other = (vector[0] for vector in Embedding(model_name=VECTORS).generate(texts))
    assert float(first @ similar) > float(first @ other) + 0.2


def run_a_batch_of_embeddings() -> None:
    batches = BatchEmbeddings()
    job_id = batches.submit(prompt=PROMPTS)["id"]
    deadline = time.monotonic() + 60
    while not (answer := batches.check_result(job_id)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert np.array(answer["embedding"]).shape == (3, 384)


def build_and_query_an_index() -> None:
    index = LaminiIndex.build_index([["Cats purr.", "The bank raises its interest rate."], ["Dogs bark."]])
    question = Embedding().generate("What do cats do?")[0]
    assert index.query_with_embedding(question, k=1) == ["Cats purr."]


def list_models() -> None:
    models = {model.model_name: model for model in llm.list_models()}
    assert models[MODEL].status == models[VECTORS].status == "available", models
    assert models[MODEL].model_type == "transformer", models
    assert models[VECTORS].model_type == "embedding", models


def download_an_available_model() -> None:
    model = llm.download_model(wait=True, wait_time_seconds=5)
    assert (model.model_name, model.status) == (MODEL, "available"), model


def read_versions() -> None:
    assert llm.version()["server"]
    versions = APIVersion()
    assert versions.features_to_api_versions["completions"] == {1, 2}, versions.features_to_api_versions


async def run_a_pipeline() -> None:
    class Pipeline(GenerationPipeline):
        def __init__(self) -> None:
            super().__init__()
            self.node = GenerationNode(model_name=MODEL, max_new_tokens=20)

        def forward(self, prompts: Iterator[PromptObject]) -> AsyncIterator[PromptObject]:
            return self.node(prompts, output_type={"answer": "str", "size": TYPES["size"]})

    prompts = (PromptObject(prompt, data={"number": number}) for number, prompt in enumerate(PROMPTS * 3))
    results = [prompt async for prompt in Pipeline().call(prompts)]
    assert sorted(prompt.data["number"] for prompt in results) == list(range(9)), results
    for prompt in results:
        assert prompt.finish_reason in ("stop", "length"), prompt
        assert prompt.response is None or prompt.response["size"] in TYPES["size"], prompt


async def run_an_embedding_pipeline() -> None:
    class Pipeline(GenerationPipeline):
        def __init__(self) -> None:
            super().__init__()
            self.node = EmbeddingNode(model_name=VECTORS)

        def forward(self, prompts: AsyncIterator[PromptObject]) -> AsyncIterator[PromptObject]:
            return self.node(prompts)

        async def make_prompts(self, texts: list[str]) -> AsyncIterator[PromptObject]:
            for text in texts:
                yield PromptObject(text)

    pipeline = Pipeline()
    results = [prompt async for prompt in pipeline.call(pipeline.make_prompts(PROMPTS))]
    assert [len(prompt.response) for prompt in results] == [384] * 3


async def chat_with_a_schema() -> None:
    schema = {
        "type": "object",
        "properties": {"size": {"type": "string", "enum": TYPES["size"]}},
        "required": ["size"],
    }
    answer = await BaseOpenAIClient(lamini.api_key, lamini.api_url).execute_completion(MODEL, PROMPT, schema)
    assert answer["size"] in TYPES["size"], answer


def stream_a_chat() -> None:
    client = BaseOpenAIClient(lamini.api_key, lamini.api_url).client
    assert MODEL in [model.id for model in client.models.list()]
    messages = [{"role": "user", "content": "What is 2+2?"}]
    whole = client.chat.completions.create(model=MODEL, messages=messages, max_tokens=20, temperature=0)
    pieces = client.chat.completions.create(
        model=MODEL, messages=messages, max_tokens=20, temperature=0, stream=True
    )
    text = "".join(piece.choices[0].delta.content or "" for piece in pieces)
    assert "4" in whole.choices[0].message.content, whole
    assert "4" in text, text
    assert whole.usage.completion_tokens > 0, whole


def expect(error: type[Exception], call: Callable[[], object]) -> None:
    try:
        call()
    except error:
        return
    raise AssertionError(f"Expected {error.__name__}")


def map_errors_to_exceptions() -> None:
    expect(ModelNotFoundError, lambda: llm.generate(PROMPT, model_name="nobody/nothing"))
    expect(UserError, lambda: llm.generate(PROMPT, output_type={"answer": "text"}))
    expect(UserError, lambda: llm.generate([], max_new_tokens=3))
    expect(APIError, lambda: BatchCompletions().check_result(uuid.uuid4().hex))
    unauthorized = Lamini(model_name=MODEL, api_key="not the key", api_url=lamini.api_url)
    expect(AuthenticationError, lambda: unauthorized.generate(PROMPT))


CHECKS: list[Callable[[], Any]] = [
    read_versions,
    list_models,
    download_an_available_model,
    generate_one_text,
    generate_a_list_of_texts,
    generate_one_object,
    generate_a_list_of_objects,
    limit_the_number_of_tokens,
    stream_a_text,
    stream_a_text_asynchronously,
    run_a_batch,
    stream_the_rows_of_a_batch,
    run_a_typed_batch_asynchronously,
    stream_minibatches,
    embed_one_text,
    embed_a_list_of_texts,
    run_a_batch_of_embeddings,
    build_and_query_an_index,
    chat_with_a_schema,
    stream_a_chat,
    run_a_pipeline,
    run_an_embedding_pipeline,
    *knowledge.CHECKS,
    *tuning.CHECKS,
    map_errors_to_exceptions,
]


def main() -> int:
    """Run all checks, or those whose names contain one of the arguments, and print the results.

    :return: the exit status
    """
    words = sys.argv[1:]
    checks = [check for check in CHECKS if not words or any(word in check.__name__ for word in words)]
    failed = 0
    print(f"lamini {lamini.__version__} at {lamini.api_url}", flush=True)
    for check in checks:
        started = time.monotonic()
        try:
            if asyncio.iscoroutinefunction(check):
                asyncio.run(check())
            else:
                check()
        except Exception:  # noqa: BLE001 - the other checks run anyway
            failed += 1
            traceback.print_exc(file=sys.stdout)
            result = "FAILED"
        else:
            result = "ok"
        print(
            f"{result:>7} {time.monotonic() - started:6.1f} s  {check.__name__.replace('_', ' ')}", flush=True
        )
    print(f"{len(checks) - failed} of {len(checks)} checks passed", flush=True)
    return 1 if failed or not checks else 0


if __name__ == "__main__":
    sys.exit(main())
