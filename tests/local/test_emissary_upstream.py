"""The Emissary API in a process of its own, in front of an upstream engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.emissary_api import LABELLED, ROWS, EmissaryClient
from tests.support.local_platform import LocalPlatform, local_platform, wait_until
from tests.support.upstream import EMBEDDING_MODEL, TEXT_MODEL, Upstream, text_for

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.faults


def complete(client: EmissaryClient, model: str) -> str:
    response = client.post("/completions", json={"model": model, "prompt": "a b"})
    assert response.status_code == 200, response.text
    return str(response.json()["choices"][0]["text"])


def test_models_of_an_upstream_engine_are_deployed_but_not_trained(platform: LocalPlatform) -> None:
    with EmissaryClient(platform.url, platform.key) as client:
        kinds = {model["name"]: model["type"] for model in client.get("/models").json()}
        assert kinds == {TEXT_MODEL: "completion", EMBEDDING_MODEL: "embeddings"}
        assert complete(client, TEXT_MODEL) == text_for("a b")
        project = client.project()
        client.wait_for_deployment(project, client.deploy(project, TEXT_MODEL, 0, name="live"))
        assert complete(client, "live") == text_for("a b")
        body = {"base_model": TEXT_MODEL, "train_dataset_id": client.dataset(project, ROWS)}
        response = client.post(f"/projects/{project}/training-jobs", json=body)
        assert (response.status_code, "upstream engine" in response.json()["error"]) == (501, True)


@pytest.mark.long
def test_a_killed_platform_continues_to_train_and_to_wake(data: Path, engine: Upstream) -> None:
    with local_platform(data, engine.url, arguments=("--reactivation-delay", "1")) as platform:
        with EmissaryClient(platform.url, platform.key) as client:
            project = client.project()
            deployment = client.deploy(project, TEXT_MODEL, 0, name="live", inactive_timeout=2)
            client.wait_for_deployment(project, deployment, "Deactivated")
            path = f"/projects/{project}/deployments/{deployment}/reactivate"
            platform.control.hold(kind="emissary_training", after_rows=4)
            dataset = client.dataset(project, LABELLED)
            job = client.train(
                project, base_model=EMBEDDING_MODEL, task_type="classification", train_dataset_id=dataset
            )
            wait_until(lambda: client.job(project, job)["status"] == "Running")
            assert client.post(path).status_code == 204
        platform.kill()
        platform.restart()
        with EmissaryClient(platform.url, platform.key) as client:
            assert client.deployment(project, deployment)["status"] in ("Reactivating", "Deployed")
            client.wait_for_deployment(project, deployment)
            assert complete(client, "live") == text_for("a b")
            wait_until(lambda: client.job(project, job)["status"] == "Success")
            client.wait_for_deployment(project, client.deploy(project, job, 1, name="classes"))
            scores = client.post("/classification", json={"model": "classes", "input": "late"}).json()
            assert scores["data"][0]["logits"].keys() == {"login", "shipping"}
