"""Inference with deployments and base models."""

from __future__ import annotations

import math

import pytest

from tests.support.emissary_api import LABELLED
from tests.support.scripted_tuning import BASE, VECTORS

CHAT = {"messages": [{"role": "user", "content": "hello"}]}


def test_base_models_answer_without_a_deployment(client):
    done = client.post("/completions", json={"model": BASE, "prompt": "hello", "top_k": 1, "top_p": 0.5})
    assert done.json()["choices"][0]["text"] == f"{BASE}: hello"
    assert done.json()["usage"]["prompt_tokens_details"] is None
    chat = client.post("/chat/completions", json={"model": BASE, **CHAT}).json()
    assert chat["choices"][0]["message"] == {"role": "assistant", "content": f"{BASE}: hello"}
    assert chat["usage"]["total_tokens"] == 2


def test_two_texts_are_compared_by_what_was_asked_for(client, project):
    deployment = client.deploy(project, VECTORS, 0, name="vectors")
    client.wait_for_deployment(project, deployment)
    for model in (VECTORS, "vectors"):
        body = {"model": model, "input": "a", "target": "b"}
        plain = client.post("/embeddings", json=body).json()["response"]
        assert plain.keys() == {"input_embedding", "target_embedding", "cosine_score"}
        asked = client.post("/embeddings", json={**body, "manhattan": True, "euclidean": True}).json()
        assert asked["response"]["manhattan_distance"] == asked["response"]["euclidean_distance"] == 0.0
        assert asked["response"]["cosine_score"] == pytest.approx(1.0)


def test_a_classifier_answers_logits_or_probabilities(client, project):
    labelled = client.dataset(project, LABELLED)
    job = client.trained(project, base_model=VECTORS, task_type="classification", train_dataset_id=labelled)
    deployment = client.deploy(project, job, 1, name="classes")
    client.wait_for_deployment(project, deployment)
    assert client.deployment(project, deployment)["metadata"] == {"labels": ["login", "shipping"]}
    body = {"model": "classes", "input": "hello"}
    response = client.post("/classification", json=body).json()
    assert (response["model"], response["usage"]["completion_tokens"]) == (deployment, 0)
    logits = response["data"][0]["logits"]
    probs = client.post("/classification", json={**body, "data_format": "probs"}).json()["data"][0]["probs"]
    assert sum(probs.values()) == pytest.approx(1.0)
    total = sum(map(math.exp, logits.values()))
    assert probs == pytest.approx({label: math.exp(logit) / total for label, logit in logits.items()})


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/completions", {"model": "unknown", "prompt": "secret"}, 404),
        ("/completions", {"model": VECTORS, "prompt": "secret"}, 400),
        ("/completions", {"model": BASE}, 400),
        ("/completions", {"model": BASE, "prompt": "secret", "temperature": 3}, 400),
        ("/completions", {"model": BASE, "prompt": "secret", "max_completion_tokens": 0}, 400),
        ("/chat/completions", {"model": "unknown", **CHAT}, 404),
        ("/chat/completions", {"model": BASE, "messages": []}, 400),
        ("/embeddings", {"model": BASE, "input": "secret", "target": "b"}, 400),
        ("/embeddings", {"model": VECTORS, "input": "secret"}, 400),
        ("/embeddings", {"model": "unknown", "input": "secret", "target": "b"}, 404),
        ("/classification", {"model": BASE, "input": "secret"}, 400),
        ("/classification", {"model": "unknown", "input": "secret"}, 404),
        ("/classification", {"model": BASE, "input": "secret", "data_format": "words"}, 400),
    ],
)
def test_what_cannot_be_answered_is_refused_without_repeating_it(client, path, body, status):
    response = client.post(path, json=body)
    assert response.status_code == status
    assert "secret" not in response.text


def test_each_deployment_answers_only_its_task(client, project):
    deployment = client.deploy(project, BASE, 0, name="texts")
    client.wait_for_deployment(project, deployment)
    body = {"model": "texts", "input": "a", "target": "b"}
    for path in ("/embeddings", "/classification"):
        assert client.post(path, json=body).status_code == 400


def test_faults_answer_in_the_form_of_the_api(client, control):
    control.fault("/emissary/v1/completions", status=500)
    control.fault("/emissary/v1/projects", status=404)
    control.row_fault("hello")
    response = client.post("/completions", json={"model": BASE, "prompt": "a"})
    assert response.json() == {"status": 500, "error": "An injected fault."}
    assert client.get("/projects").json()["code"] == "object_not_found"
    assert client.post("/chat/completions", json={"model": BASE, **CHAT}).status_code == 500
    client.undocumented.clear()
    assert client.post("/chat/completions", json={"model": BASE, **CHAT}).status_code == 200


def test_requests_are_counted_without_ids(client, project, control):
    client.get(f"/projects/{project}")
    assert control.stats()["requests"]["GET /emissary/v1/projects/{id}"] == 1
