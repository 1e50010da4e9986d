"""Whatever is sent as a field's value, the response is a documented one, in the form of the API."""

from __future__ import annotations

import pytest

from tests.fuzz.bodies import TEXTS, VALUES
from tests.support.emissary_api import CONTRACT
from tests.support.scripted_tuning import BASE, VECTORS

VALID = {
    "createProject": {"name": "a"},
    "createTrainingJob": {
        "base_model": BASE,
        "train_dataset_id": "ds-1",
        "parameters": {},
        "rebalance_data": {},
    },
    "createGRPOTrainingJob": {
        "base_model": BASE,
        "train_dataset_id": "ds-1",
        "test_functions": [],
        "reward": {},
    },
    "createEngine": {"base_model": BASE, "name": "a", "task_type": "a", "resource_management_config": {}},
    "deployOnEngine": {"project_id": "ms-1", "training_id": BASE, "checkpoint": 0, "name": "a"},
    "unDeployFromEngine": {"deployment_name": "a"},
    "createDeployment": {"training_job_id": BASE, "checkpoint": 0, "schedule": {}, "inactive_timeout": 1},
    "getCompletionsFromDeployment": {"model": BASE, "prompt": "a", "temperature": 0, "top_k": 1, "top_p": 1},
    "getChatCompletions": {"model": BASE, "messages": [], "max_tokens": 1},
    "getEmbeddingsFromDeployment": {"model": VECTORS, "input": "a", "target": "b", "cosine": True},
    "getClassificationFromDeployment": {"model": "a", "input": "a", "data_format": "probs"},
}


@pytest.mark.parametrize("operation", VALID)
def test_odd_values_are_answered_with_a_documented_status(client, project, operation):
    engine = client.engine(base_model=BASE)
    path = CONTRACT.operations[operation][1].removeprefix("/v1")
    path = path.replace("{project_id}", project).replace("{engine_id}", engine)
    for field in VALID[operation]:
        for value in VALUES:
            content = client.build_request("POST", path, json={**VALID[operation], field: value})
            assert client.send(content).status_code < 500, (field, value)
    for text in TEXTS:
        response = client.post(path, content=text, headers={"content-type": "application/json"})
        assert response.status_code < 500, text[:20]


@pytest.mark.parametrize(
    "name", ["%00", "..%2F..", "%ff", "a" * 3000, "%F0%9F%90%88", "'; DROP TABLE resources; --"]
)
def test_odd_ids_are_not_found(client, project, name):
    for path in (
        f"/models/{name}",
        f"/projects/{name}",
        f"/projects/{project}/datasets/{name}",
        f"/projects/{project}/training-jobs/{name}",
        f"/projects/{project}/deployments/{name}",
        f"/engines/{name}",
    ):
        assert client.get(path).status_code == 404
