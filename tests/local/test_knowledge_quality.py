"""Quality of search and classification with the real embedding model. ``pytest -s`` shows the figures."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest

from airflow_provider_lamini.local.app import create_app
from airflow_provider_lamini.local.classifiers.features import features
from airflow_provider_lamini.local.classifiers.training import train_classifier, training_texts
from airflow_provider_lamini.local.engines.factory import open_embedding_engine, open_upstream
from airflow_provider_lamini.local.models.catalogue import VECTORS
from airflow_provider_lamini.local.models.store import ModelStore
from airflow_provider_lamini.local.platform import LocalPlatform
from tests.support.local_platform import KEY, wait_until
from tests.support.upstream import TEXT_MODEL

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_lamini.local.engines.llama import LlamaEmbeddingEngine
    from tests.support.upstream import Upstream

pytestmark = pytest.mark.models

HERE = Path(__file__).parent
DATA = HERE / "data"
TICKETS = HERE.parents[1] / "dags_examples" / "data" / "support_tickets.jsonl"
CLASSES = {
    "billing": "asks about money: a charge, an invoice, a refund, a plan's price",
    "login": "cannot get into an account, or must prove who they are",
    "shipping": "waits for a parcel, got a wrong or incomplete one, or wants it sent elsewhere",
    "defect": "has a device or an app that does not do what it should",
    "feature request": "wishes for something that does not exist yet",
}
TICKETS_PER_CLASS = 24
EXAMPLES = 8
SPLITS = 20


class RememberedVectors:
    """The embedding engine with the real model, which computes a text's vector once: several tests use the same tickets."""

    def __init__(self, engine: LlamaEmbeddingEngine) -> None:
        self._engine = engine
        self._known: dict[str, list[float]] = {}

    def models(self) -> list[str]:
        return self._engine.models()

    def embed(self, texts: list[str], model_name: str) -> list[list[float]]:
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        self._known.update(zip(new, self._engine.embed(new, model_name), strict=True))
        return [self._known[text] for text in texts]


@pytest.fixture(scope="module")
def vectors() -> Iterator[RememberedVectors]:
    store = ModelStore()
    store.pull(VECTORS.name)
    engine = open_embedding_engine(store)
    yield RememberedVectors(engine)
    engine.close()


class InProcess:
    """A platform in this process with real vectors and a text engine that records its prompts."""

    def __init__(self, platform: LocalPlatform) -> None:
        self._app = create_app(platform, KEY)

    def send(self, method: str, path: str, **how: Any) -> Any:
        async def sending() -> httpx.Response:
            transport = httpx.ASGITransport(self._app)
            headers = {"Authorization": f"Bearer {KEY}"}
            async with httpx.AsyncClient(transport=transport, base_url="http://here", timeout=300) as client:
                return await client.request(method, path, headers=headers, **how)

        response = asyncio.run(sending())
        assert response.status_code == 200, response.text
        return response.json()


@pytest.fixture
def in_process(tmp_path: Path, vectors: RememberedVectors, engine: Upstream) -> Iterator[InProcess]:
    texts = open_upstream(engine.url)
    platform = LocalPlatform(tmp_path / "platform", texts, vectors)
    yield InProcess(platform)
    platform.close()
    texts.close()


def test_search_finds_the_right_passage_for_nine_of_ten_questions(
    in_process: InProcess, engine: Upstream
) -> None:
    """30 short documents in four formats; 40 questions in other words; 3 passages per question."""
    documents = sorted((DATA / "documents").iterdir())
    assert len(documents) == 30
    files = [("files", (path.name, path.read_bytes())) for path in documents]
    rag = "/alpha/memory-rag"
    job_id = in_process.send("POST", f"{rag}/train", data={"model_name": TEXT_MODEL}, files=files)["job_id"]

    def is_ready() -> bool:
        return bool(
            in_process.send("POST", f"{rag}/status", json={"job_id": job_id})["status"] == "COMPLETED"
        )

    wait_until(is_ready, timeout=120, pause=0.2)
    lines = (DATA / "questions.jsonl").read_text(encoding="utf-8").splitlines()
    questions = [json.loads(line) for line in lines]
    assert len(questions) == 40
    first = found = 0
    for item in questions:
        engine.prompts.clear()
        in_process.send("POST", f"{rag}/completions", json={"job_id": job_id, "prompt": item["question"]})
        prompt = " ".join(engine.prompts[-1].split())
        found += item["passage_with"] in prompt
        engine.prompts.clear()
        alone = {"job_id": job_id, "prompt": item["question"], "rag_query_size": 1}
        in_process.send("POST", f"{rag}/completions", json=alone)
        first += item["passage_with"] in " ".join(engine.prompts[-1].split())
    print(f"\nright passage among 3: {found} of 40; first of all: {first} of 40")
    assert found >= 36


@pytest.fixture(scope="module")
def tickets(vectors: RememberedVectors) -> tuple[list[str], list[str], np.ndarray[Any, Any]]:
    """Texts, categories and vectors of the first tickets of each category."""
    rows = [json.loads(line) for line in TICKETS.read_text(encoding="utf-8").splitlines()]
    by_class = {name: [row for row in rows if row.get("expected_category") == name] for name in CLASSES}
    rows = [row for found in by_class.values() for row in found[:TICKETS_PER_CLASS]]
    texts = [f"{row['subject']}\n{row['body']}" for row in rows]
    made = features(texts, lambda some: vectors.embed(some, VECTORS.name))
    return texts, [row["expected_category"] for row in rows], made


def test_eight_examples_per_class_give_90_percent_accuracy_and_calibrated_probabilities(
    vectors: RememberedVectors, tickets: tuple[list[str], list[str], np.ndarray[Any, Any]]
) -> None:
    """Mean accuracy and confidence on the other 80 tickets, over 20 random choices of examples."""
    texts, categories, made = tickets
    described = features(training_texts(CLASSES, []), lambda some: vectors.embed(some, VECTORS.name))
    accuracies, gaps = [], []
    for split in range(SPLITS):
        order = np.random.default_rng(split).permutation(len(texts))
        chosen = [
            index for name in CLASSES for index in [p for p in order if categories[p] == name][:EXAMPLES]
        ]
        rest = [index for index in range(len(texts)) if index not in set(chosen)]
        examples = [(categories[index], texts[index]) for index in chosen]
        model = train_classifier(
            "tickets", CLASSES, examples, np.vstack([described, made[chosen]]), lambda: None
        )
        likely = np.asarray(model.probabilities(made[rest]))
        names = list(CLASSES)
        right = [names[best] == categories[index] for best, index in zip(likely.argmax(1), rest, strict=True)]
        accuracies.append(float(np.mean(right)))
        gaps.append(float(likely.max(axis=1).mean()) - accuracies[-1])
    print(
        f"\naccuracy {np.mean(accuracies):.3f}, worst split {min(accuracies):.3f}; "
        f"confidence minus accuracy {np.mean(gaps):+.3f}, at most {max(map(abs, gaps)):.3f}"
    )
    assert np.mean(accuracies) >= 0.9
    assert min(accuracies) >= 0.85
    assert abs(np.mean(gaps)) < 0.03
    assert max(map(abs, gaps)) < 0.1


def test_descriptions_alone_classify_most_tickets_correctly(
    vectors: RememberedVectors, tickets: tuple[list[str], list[str], np.ndarray[Any, Any]]
) -> None:
    _, categories, made = tickets
    described = features(training_texts(CLASSES, []), lambda some: vectors.embed(some, VECTORS.name))
    model = train_classifier("tickets", CLASSES, [], described, lambda: None)
    likely = np.asarray(model.probabilities(made))
    names = list(CLASSES)
    accuracy = np.mean([names[best] == name for best, name in zip(likely.argmax(1), categories, strict=True)])
    print(f"\naccuracy {accuracy:.3f}, confidence {likely.max(axis=1).mean():.3f}")
    assert accuracy >= 0.7
    assert abs(likely.max(axis=1).mean() - accuracy) < 0.1


def test_the_endpoints_reach_this_accuracy(
    in_process: InProcess, tickets: tuple[list[str], list[str], np.ndarray[Any, Any]]
) -> None:
    """Train on the first 8 tickets of each category in the file; classify the 9th to 12th."""
    texts, categories, _ = tickets
    by_class = {name: [t for t, c in zip(texts, categories, strict=True) if c == name] for name in CLASSES}
    examples = {name: found[:EXAMPLES] for name, found in by_class.items()}
    body = {"name": "tickets", "model_name": TEXT_MODEL, "classes": CLASSES, "examples": examples}
    job_id = in_process.send("POST", "/v2/classifier/initialize", json=body)["job_id"]

    def model_id() -> Any:
        return in_process.send("GET", f"/v2/classifier/{job_id}/status")["model_id"]

    wait_until(model_id, timeout=120, pause=0.2)
    rows = [
        {"input": text, "target": name}
        for name, found in by_class.items()
        for text in found[EXAMPLES : EXAMPLES + 4]
    ]
    evaluated = in_process.send(
        "POST",
        "/v1/eval/run",
        json={
            "test_model_id": model_id(),
            "test_eval_type": "classifier",
            "eval_data": rows,
            "eval_data_id": "held out",
        },
    )
    print(f"\n{evaluated['metrics']}")
    assert evaluated["metrics"]["accuracy"] >= 0.85
    url = f"/v2/classifier/{model_id()}/classify"
    response = in_process.send("POST", url, json={"prompt": [row["input"] for row in rows], "top_n": 1})
    predicted = [scores[0]["class_name"] for scores in response["classification"]]
    assert predicted == [one["test_output"] for one in evaluated["predictions"]]
