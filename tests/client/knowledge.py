"""Checks of the official client for datasets, Memory RAG, classifiers and evaluation. ``calls.py`` runs them."""

from __future__ import annotations

import json
import tempfile
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lamini
import requests
from lamini import Lamini, MemoryRAG
from lamini.api.classifier import Classifier
from lamini.classify.lamini_classifier import LaminiClassifier
from lamini.error.error import DuplicateResourceError, ModelNotFoundError, ProjectNotFoundError
from lamini.one_evaler.one_evaler import LaminiOneEvaler

if TYPE_CHECKING:
    from collections.abc import Callable

MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
TIME_LIMIT = 120
DOCUMENTS = {
    "watch.md": "# Watch\n\nThe battery of the watch lasts five days. It charges in seventy minutes.",
    "returns.txt": "A device may be sent back within thirty days. The label is free.",
    "speaker.html": "<title>Speaker</title><p>The speaker understands Norwegian and Polish.</p>",
}
CLASSES = {
    "money": "asks about a charge, an invoice or a refund",
    "parcel": "waits for a delivery or a parcel",
}
EXAMPLES = {
    "money": ["I was charged twice this month.", "Where is my refund?", "The invoice shows a wrong amount."],
    "parcel": ["My package never arrived.", "The courier lost my order.", "When will it be delivered?"],
}
HELD_OUT = [
    {"input": "You took money from my card two times.", "target": "money"},
    {"input": "The delivery is a week late.", "target": "parcel"},
]


def wait_until_completed(get_status: Callable[[], str]) -> None:
    deadline = time.monotonic() + TIME_LIMIT
    while (status := get_status()) != "COMPLETED":
        assert status not in ("FAILED", "CANCELLED", "TIMED OUT"), status
        assert time.monotonic() < deadline, status
        time.sleep(0.2)


def set_upload_base(base: str) -> None:
    headers = {"Authorization": f"Bearer {lamini.api_key}"}
    response = requests.post(
        f"{lamini.api_url}/_control/upload-base", json={"base": base}, headers=headers, timeout=10
    )
    response.raise_for_status()


def upload_a_dataset_to_the_platform_and_to_a_blob() -> None:
    llm = Lamini(model_name=MODEL)
    rows = [{"input": f"question {number}", "output": "an answer\nwith lines"} for number in range(200)]
    for base in ("local", "azure"):
        set_upload_base(base)
        try:
            dataset_id = llm.upload_data(rows)
            dataset = llm.trainer.get_existing_dataset(dataset_id, base)
            assert dataset["dataset_location"] == f"{base}/{dataset_id}.jsonl", dataset
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder, "rows.jsonl")
                path.write_text("".join(json.dumps(row) + "\n" for row in rows))
                assert llm.upload_file(str(path)) != dataset_id
        finally:
            set_upload_base("local")


def build_query_and_extend_a_memory_rag_index() -> None:
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, name) for name in DOCUMENTS]
        for path, content in zip(paths, DOCUMENTS.values(), strict=True):
            path.write_text(content)
        rag = MemoryRAG(model_name=MODEL)
        job = rag.memory_index([str(path) for path in paths])
    assert job["status"] == "CREATED", job
    wait_until_completed(lambda: rag.status()["status"])
    answer = rag.query("How long does the battery of the watch last?", k=1)
    assert "five days" in answer["outputs"], answer
    assert answer["finish_reason"] in ("stop", "length"), answer
    assert rag.add_index("The tower has 212 steps.")["status"] == "success"
    assert "212" in rag.query("How many steps does the tower have?", k=1)["outputs"]
    lines = rag.get_logs()
    assert lines[-1].endswith("Added a text: 1 passages, 1 of them new."), lines
    assert any("returns.txt" in line for line in lines), lines


def train_use_and_extend_a_classifier() -> None:
    classifier = LaminiClassifier(f"tickets-{uuid.uuid4()}", model_name=MODEL)
    classifier.initialize(CLASSES, EXAMPLES)
    wait_until_completed(lambda: classifier.train_status()["status"])
    texts = [row["input"] for row in HELD_OUT]
    rankings = classifier.classify(texts)["classification"]
    assert [classes[0]["class_name"] for classes in rankings] == ["money", "parcel"], rankings
    assert len(classifier.classify(texts[0])["classification"]) == 1
    classifier.add("more", {"parcel": ["It is stuck at the depot."]})
    first_model = classifier.classifier_id
    classifier.train()
    wait_until_completed(lambda: classifier.train_status()["status"])
    assert classifier.classifier_id != first_model
    with tempfile.TemporaryDirectory() as folder:
        path = Path(classifier.download_dataset("more", folder + "/"))
        assert json.loads(path.read_text()) == {"input": "It is stuck at the depot.", "target": "parcel"}
    classifier.delete_dataset("more")
    v1_classifier = Classifier(model_id=classifier.classifier_id)
    assert v1_classifier.predict(texts) == ["money", "parcel"]
    [[best]] = v1_classifier.classify(texts[0], top_n=1, threshold=0.1, metadata=True)
    assert best["metadata"]["examples"] == 3, best
    _evaluate(first_model, classifier.classifier_id)
    _check_errors(classifier)


def _evaluate(test_model: str, base_model: str) -> None:
    comparison = LaminiOneEvaler(
        test_model_id=test_model,
        eval_data=HELD_OUT,
        test_eval_type="classifier",
        base_model_id=base_model,
        sbs=True,
    ).run()
    assert comparison["metrics"]["accuracy"] == comparison["metrics"]["base_accuracy"] == 1.0, comparison
    assert comparison["metrics"]["both_right"] == 2, comparison
    evaluation = LaminiOneEvaler(
        test_model_id=test_model, eval_data=HELD_OUT, test_eval_type="classifier", fuzzy=True
    ).run()
    assert evaluation["predictions"][1]["test_output"] == "parcel", evaluation


def _check_errors(classifier: Any) -> None:
    for error, call in (
        (DuplicateResourceError, lambda: classifier.initialize(CLASSES, EXAMPLES)),
        (ProjectNotFoundError, lambda: LaminiClassifier("none-such", model_name=MODEL).train()),
        (ModelNotFoundError, lambda: Classifier(model_id="none-such").predict("a")),
    ):
        try:
            call()
        except error:
            continue
        raise AssertionError(f"Expected {error.__name__}")


CHECKS: list[Callable[[], Any]] = [
    upload_a_dataset_to_the_platform_and_to_a_blob,
    build_query_and_extend_a_memory_rag_index,
    train_use_and_extend_a_classifier,
]
