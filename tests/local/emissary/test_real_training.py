"""Training that really changes a model: a llama of a few thousand weights, and the platform's real models."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from airflow_provider_lamini.local.engines.llama import LlamaTextEngine
from airflow_provider_lamini.local.models.store import ModelStore
from airflow_provider_lamini.local.platform import LocalPlatform
from airflow_provider_lamini.local.tuning import trainer
from tests.support.demo import EXAMPLES
from tests.support.emissary_api import EmissaryClient
from tests.support.local_platform import local_platform
from tests.support.scripted_tuning import KEY, VectorEngine, served
from tests.support.tiny_llama import tiny_llama
from tests.support.training_forks import ForkedWorker

if TYPE_CHECKING:
    from pathlib import Path

TEXT = "HuggingFaceTB/SmolLM2-135M-Instruct"
VECTORS = "sentence-transformers/all-MiniLM-L6-v2"
FACTS = [
    {"input": prompt, "output": answer}
    for prompt, answer in (("the sky is", "blue"), ("the sun is", "hot"), ("the ice is", "cold"))
]


@pytest.mark.torch
def test_the_best_checkpoint_answers_as_trained_and_is_trained_further_for_a_reward(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "start_worker", ForkedWorker)
    base = tiny_llama(tmp_path / "tiny.gguf")
    texts = LlamaTextEngine({"tiny": base}, parallel=2, context=128, threads=1)
    platform = LocalPlatform(tmp_path / "platform", texts, VectorEngine(base))
    with served(platform) as url, EmissaryClient(url, KEY) as client:
        project = client.project()
        dataset = client.dataset(project, FACTS)
        body = {"train_dataset_id": dataset, "test_dataset_id": dataset, "test_functions": ["exact_match"]}
        parameters = {"num_train_epochs": 60, "learning_rate": 1e-2, "per_device_train_batch_size": 3}
        first = client.trained(
            project, timeout=300, base_model="tiny", name="first", parameters=parameters, **body
        )
        scores = [
            float(item["test_results"]["aggregated_test_result"]["exact_match"])
            for item in client.checkpoints(project, first)
        ]
        losses = [point["loss"] for point in client.job(project, first)["training_loss"]]
        assert (len(scores), scores[-1]) == (10, 1.0)
        assert scores[0] < 1.0
        assert losses[-1] < losses[0] / 4
        client.wait_for_deployment(project, client.deploy(project, first, 10, name="live"))
        for row in FACTS:
            response = client.post("/completions", json={"model": "live", "prompt": row["input"]}).json()
            assert response["choices"][0]["text"].strip() == row["output"]
        rewarded = client.trained(
            project,
            timeout=300,
            base_model_option="fine-tuned",
            base_model="first",
            checkpoint=10,
            reward={"exact_match": 1.0},
            parameters={"per_device_train_batch_size": 3, "num_generations": 2},
            **body,
        )
        (checkpoint,) = client.checkpoints(project, rewarded)
        assert checkpoint["test_results"]["general_test_result"] == "Tested on 3 rows."


@pytest.mark.models
def test_a_classifier_of_tickets_is_trained_deployed_and_right_about_most_of_them(tmp_path: Path) -> None:
    for name in (TEXT, VECTORS):
        ModelStore().pull(name)
    examples, held_out = (
        [json.loads(line) for line in (EXAMPLES / "data" / f"{name}.jsonl").read_text().splitlines()]
        for name in ("tickets_examples", "tickets_held_out")
    )
    rows = [{"text": f"{row['subject']}. {row['body']}", "label": row["category"]} for row in examples]
    with local_platform(tmp_path / "platform") as platform:
        client = EmissaryClient(platform.url, platform.key)
        with client:
            project = client.project()
            job = client.trained(
                project,
                base_model=VECTORS,
                task_type="classification",
                train_dataset_id=client.dataset(project, rows),
                test_functions=["exact_match"],
            )
            client.wait_for_deployment(project, client.deploy(project, job, 1, name="tickets"))
            right = 0
            for row in held_out[:20]:
                body = {
                    "model": "tickets",
                    "input": f"{row['subject']}. {row['body']}",
                    "data_format": "probs",
                }
                (found,) = client.post("/classification", json=body).json()["data"]
                right += max(found["probs"], key=found["probs"].__getitem__) == row["category"]
            compared = client.post(
                "/embeddings", json={"model": VECTORS, "input": "a cat", "target": "a kitten"}
            ).json()
            chat = {"model": TEXT, "max_tokens": 8, "messages": [{"role": "user", "content": "Hello!"}]}
            said = client.post("/chat/completions", json=chat).json()["choices"][0]["message"]["content"]
    assert right >= 12
    assert compared["response"]["cosine_score"] > 0.5
    assert said.strip()
