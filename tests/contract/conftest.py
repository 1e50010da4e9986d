"""The platform's API structure, and one example of each call that we can build."""

from __future__ import annotations

import io
import json
from pathlib import Path

import httpx
import pytest

from airflow_provider_lamini.api.call import FilePart
from airflow_provider_lamini.api.client import Client
from airflow_provider_lamini.api.settings import ClientSettings
from airflow_provider_lamini.platforms.lamini.api import (
    batches,
    chat,
    classifier_projects,
    classifiers,
    completions,
    datasets,
    embeddings,
    evaluation,
    memory_rag,
    models,
    training,
    version,
)
from airflow_provider_lamini.platforms.lamini.dialect import LAMINI_DIALECT

SPEC = json.loads((Path(__file__).parent / "lamini.json").read_text())
OUTPUT_TYPE = {"answer": "str", "stars": [1, 2, 3], "mood": ["good", "bad"]}
TYPED = {"output_type": OUTPUT_TYPE, "max_new_tokens": 50, "max_tokens": 500}
FILES = [
    FilePart("a.txt", lambda: io.BytesIO(b"first"), "text/plain"),
    FilePart("b.pdf", lambda: io.BytesIO(b"second")),
]
ROWS = [{"input": "q", "output": "a"}]
FINETUNE = {
    "max_steps": 50,
    "learning_rate": 3e-4,
    "max_length": 4096,
    "optim": "adamw_torch",
    "index_method": "IndexFlatL2",
    "index_pq_nbits": 16,
    "index_hnsw_m": 4,
    "index_hnsw_efConstruction": 512,
    "r_value": 32,
}

CALLS = [
    completions.complete(model_name="m", prompt="p"),
    completions.complete(model_name="m", prompt=["p", "q"], reservation_id=3, **TYPED),
    completions.complete_v1(model_name="m", prompt="p"),
    completions.complete_v1(model_name="m", prompt=["p", "q"], cache_id="c", **TYPED),
    completions.complete_v1(model_name="m", prompt="p", output_type=OUTPUT_TYPE, spelled_out_type=True),
    completions.start_streaming(model_name="m", prompt="p", output_type=OUTPUT_TYPE, max_new_tokens=9),
    completions.streaming_result("s1"),
    batches.start_completions(model_name="m", prompt=["p"]),
    batches.start_completions(model_name="m", prompt=["p", "q"], reservation_id=3, **TYPED),
    batches.completions_result("b1"),
    batches.completions_progress("b1"),
    batches.start_embeddings(prompt=["p", "q"], model_name="e"),
    batches.start_embeddings(prompt="p"),
    batches.embeddings_result("e1"),
    batches.embeddings_progress("e1"),
    embeddings.embed(prompt="p"),
    embeddings.embed(prompt=["p", "q"], model_name="e", latency_sensitive=False),
    chat.complete(model="m", messages=[{"role": "user", "content": "hello"}]),
    chat.complete(
        model="m",
        messages=[chat.Message(role="system", content="s"), {"role": "user", "content": "u", "name": "n"}],
        temperature=0.5,
        max_tokens=9,
        response_format=chat.json_format({"type": "object"}),
        cache_ttl=5,
    ),
    chat.models(),
    memory_rag.train(model_name="m", files=FILES),
    memory_rag.status(1),
    memory_rag.status("1"),
    memory_rag.status_by_query(1),
    memory_rag.complete(prompt="p", job_id=1),
    memory_rag.complete(prompt=["p", "q"], job_id="1", model_name="m", rag_query_size=5, **TYPED),
    memory_rag.add_index(prompt="a text", job_id=1),
    memory_rag.suggestions("1"),
    memory_rag.training_log(1),
    training.train(model_name="m", data=ROWS),
    training.train(
        model_name="m",
        dataset_id="d",
        upload_file_path="/data/d",
        finetune_args=FINETUNE,
        gpu_config={"gpus": 2, "nodes": 1},
        custom_model_name="mine",
        train_type="mome_mini",
        is_public=False,
    ),
    training.train(
        model_name="m",
        finetune_args=training.FinetuneArgs(max_steps=3),
        gpu_config=training.GpuConfig(gpus=1),
        extra={"source": {"dag": "d"}, "id": "x"},
    ),
    training.list_jobs(),
    training.job(7),
    training.cancel("7"),
    training.cancel_all(),
    training.resume(7),
    training.evaluation(7),
    datasets.upload_base_path(),
    datasets.upload(upload_base_path="/data", data=ROWS, is_public=True),
    datasets.create(upload_base_path="azure", is_public=False),
    datasets.count(dataset_id="d", num_datapoints=0),
    datasets.existing(dataset_id="d", upload_base_path="azure"),
    evaluation.run(
        test_model_id="m",
        test_eval_type="classifier",
        eval_data=[{"input": "i", "target": "t"}, evaluation.EvalRow(input="i", target="t")],
        eval_data_id="d",
        base_model_id="b",
        base_eval_type="classifier",
        sbs=False,
        fuzzy_comparison=True,
    ),
    classifiers.initialize(name="n", model_name="m", classes={"a": "about a"}, examples={"a": ["t"]}),
    classifiers.add(project_name="p", dataset_name="d", data={"a": ["t"]}),
    classifiers.train(name="n"),
    classifiers.train(name="n", classifier_train_job_id="j"),
    classifiers.status("j"),
    classifiers.update_job(job_id="j", status="CANCELLED"),
    classifiers.register(project_id="p", model_id="m", job_id="j"),
    classifiers.classify(model_id="m", prompt="p"),
    classifiers.classify(model_id="m", prompt=["p", "q"], top_n=2, threshold=0.5, metadata=True),
    classifiers.classify_v1(model_id="m", prompt=["p"], top_n=1, threshold=0.1, metadata=False),
    classifiers.predict_v1(model_id="m", prompt=["p", "q"]),
    classifier_projects.list_projects(),
    classifier_projects.list_datasets("p"),
    classifier_projects.list_jobs("p"),
    classifier_projects.list_models("p"),
    classifier_projects.delete_dataset(project_name="p", dataset_name="d"),
    classifier_projects.download_dataset(project_name="p", dataset_name="d"),
    models.list_downloaded(),
    models.list_downloaded(trailing_slash=False),
    models.download("org/m", "embedding", "hub-token"),
    models.download("org/m", "embedding", "hub-token", trailing_slash=False),
    version.version(),
]


def operations():
    """The structure's operations by id: method, path, description."""
    return {
        operation["operationId"]: (method.upper(), path, operation)
        for path, methods in SPEC["paths"].items()
        for method, operation in methods.items()
    }


def example_of(call):
    """The answer that the structure gives as an example, cut to as many outputs as the call has prompts."""
    content = operations()[call.operation][2]["responses"]["200"]["content"]["application/json"]
    example, prompt = content.get("example"), (call.json or {}).get("prompt")
    several = isinstance(prompt, list)
    if example and "outputs" in example and prompt is not None:
        return {**example, "outputs": example["outputs"][: len(prompt) if several else 1]}
    return None if several and "embedding" in (example or {}) else example


def pytest_generate_tests(metafunc):
    for name in {"each_call", "call_with_example"} & set(metafunc.fixturenames):
        calls = [call for call in CALLS if name == "each_call" or example_of(call) is not None]
        metafunc.parametrize(name, calls, ids=[f"{n}-{call.operation}" for n, call in enumerate(calls)])


@pytest.fixture(scope="session")
def spec():
    return SPEC


@pytest.fixture(scope="session")
def known():
    return operations()


@pytest.fixture(scope="session")
def calls():
    return CALLS


@pytest.fixture(scope="session")
def example():
    return example_of


@pytest.fixture(scope="session")
def as_sent():
    """Send a call to a platform that notes the request and answers nothing of use; return the request."""

    def send(call):
        def note(request):
            seen.append(request)
            return httpx.Response(404)

        seen = []
        config = ClientSettings(dialect=LAMINI_DIALECT, base_url="http://platform.test/prefix", key="k")
        with (
            Client(config, transport=httpx.MockTransport(note)) as client,
            pytest.raises(Exception, match="404"),
        ):
            client.send(call)
        return seen[0]

    return send
