"""An example of each call to Emissary that we can build."""

from __future__ import annotations

import io

from airflow_provider_lamini.api.call import FilePart
from airflow_provider_lamini.platforms.emissary.api import (
    checkpoints,
    datasets,
    deployments,
    engines,
    inference,
    models,
    projects,
    testing_functions,
    training,
)
from airflow_provider_lamini.platforms.emissary.api.fields import Schedule

FILE = FilePart("rows.jsonl", lambda: io.BytesIO(b'{"prompt": "p"}\n'), "application/jsonl")
WORKDAYS = {
    "timezone": "Europe/Berlin",
    "start_time": "08:00",
    "end_time": "18:30",
    "days": ["monday", "friday"],
}
COMMON = {
    "base_model_option": "fine-tuned",
    "base_model": "last week's job",
    "checkpoint": 200,
    "train_dataset_id": "ds-1",
    "test_dataset_id": "ds-2",
    "train_test_split_ratio": 20,
    "name": "nightly",
    "description": "d",
    "hf_model_link": "https://hub.example.com/org/model",
}
SAMPLING = {"temperature": 0.0, "top_p": 0.9, "top_k": 40}

CALLS = [
    models.list_all(),
    models.model("org/Llama 3.2"),
    projects.create(),
    projects.create("support"),
    projects.list_all(),
    projects.project("ms-1"),
    projects.delete("ms-1"),
    datasets.upload("ms-1", file=FILE),
    datasets.upload("ms-1", file=FILE, name="tickets"),
    datasets.list_all("ms-1"),
    datasets.dataset("ms-1", "ds-1"),
    datasets.delete("ms-1", "ds-1"),
    training.train("ms-1", base_model="Llama-3.2-1B-Instruct", train_dataset_id="ds-1"),
    training.train(
        "ms-1",
        **COMMON,
        test_functions=["accuracy"],
        task_type="classification",
        parameters={
            "downsample_size": 100,
            "learning_rate": 2e-4,
            "num_train_epochs": 3,
            "per_device_train_batch_size": 4,
            "per_device_eval_batch_size": 8,
            "dynamic_loss": True,
        },
        rebalance_data={"billing": 0.5, "other": 200},
    ),
    training.train(
        "ms-1",
        base_model="b",
        train_dataset_id="ds-1",
        parameters=training.SFTParameters(num_train_epochs=1),
    ),
    training.train_grpo(
        "ms-1",
        base_model="b",
        train_dataset_id="ds-1",
        test_functions=["accuracy"],
        reward={"accuracy": 1},
        parameters=training.GRPOParameters(num_generations=4),
    ),
    training.train_grpo(
        "ms-1",
        **COMMON,
        test_functions=["accuracy", "brevity"],
        reward={"accuracy": 0.8, "brevity": 0.2},
        task_type="text-generation",
        parameters={
            "learning_rate": 1e-6,
            "num_train_epochs": 1,
            "num_generations": 8,
            "per_device_train_batch_size": 2,
        },
    ),
    training.list_jobs("ms-1"),
    training.job("ms-1", "tr-1"),
    training.delete("ms-1", "tr-1"),
    training.cancel("ms-1", "tr-1"),
    checkpoints.list_all("ms-1", "tr-1"),
    engines.create(base_model="b"),
    engines.create(base_model="b", name="shared", task_type="text-generation", inactive_timeout=900),
    engines.create(base_model="b", schedule=WORKDAYS),
    engines.list_all(),
    engines.list_all(base_model="b", task_type="text-generation"),
    engines.engine("engine-1"),
    engines.delete("engine-1"),
    engines.deploy("engine-1", project_id="ms-1", training_job_id="tr-1", checkpoint=100),
    engines.deploy("engine-1", project_id="ms-1", training_job_id="tr-1", checkpoint=0, name="live"),
    engines.undeploy("engine-1", deployment_name="live"),
    engines.reactivate("engine-1"),
    engines.deactivate("engine-1"),
    deployments.create("ms-1", training_job_id="Llama-3.2-1B-Instruct", checkpoint=0),
    deployments.create(
        "ms-1",
        training_job_id="tr-1",
        checkpoint=100,
        name="live",
        description="d",
        inactive_timeout=600,
    ),
    deployments.create("ms-1", training_job_id="tr-1", checkpoint=100, schedule=Schedule(**WORKDAYS)),
    deployments.list_all("ms-1"),
    deployments.deployment("ms-1", "dp-1"),
    deployments.delete("ms-1", "dp-1"),
    deployments.reactivate("ms-1", "dp-1"),
    inference.complete(model="live", prompt="p"),
    inference.complete(model="live", prompt="p", max_completion_tokens=50, **SAMPLING),
    inference.chat(model="live", messages=[{"role": "user", "content": "u"}]),
    inference.chat(
        model="live",
        messages=[inference.Message(role="system", content="s"), {"role": "user", "content": "u"}],
        max_tokens=50,
        **SAMPLING,
    ),
    inference.compare(model="live", input="i", target="t"),
    inference.compare(model="live", input="i", target="t", cosine=True, manhattan=True, euclidean=False),
    inference.classify(model="live", input="i"),
    inference.classify(model="live", input="i", data_format="probs"),
    testing_functions.list_all(),
]
