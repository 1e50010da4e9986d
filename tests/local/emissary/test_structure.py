"""The platform serves exactly the operations of the Emissary API, and the provider's calls can use all of them."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any

from airflow_provider_lamini.api.call import FilePart
from airflow_provider_lamini.api.client import Client
from airflow_provider_lamini.api.settings import ClientSettings
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
from airflow_provider_lamini.platforms.emissary.platform import EMISSARY_DIALECT
from tests.support.emissary_api import CONTRACT, LABELLED, ROWS, as_lines
from tests.support.local_platform import wait_until
from tests.support.scripted_tuning import BASE, KEY, VECTORS

if TYPE_CHECKING:
    from airflow_provider_lamini.api.call import Call
    from tests.support.emissary_api import EmissaryClient
    from tests.support.scripted_tuning import TunablePlatform

DOCUMENTED_CODES = {"200", "201", "204", "400"}


def served(platform: TunablePlatform) -> dict[str, tuple[str, str, dict[str, Any]]]:
    document = platform.http.get("/emissary/openapi.json", headers={"X-API-Key": KEY}).json()
    return {
        operation["operationId"]: (method.upper(), path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


def fields(document: dict[str, Any], operation: dict[str, Any]) -> tuple[set[str], set[str]]:
    """The fields of a request body, and those that are required."""
    (content,) = operation["requestBody"]["content"].values()
    schema = content["schema"]
    variants = [variant for variant in schema.get("anyOf", [schema]) if variant.get("type") != "null"]
    schema = variants[0]
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return set(schema["properties"]), set(schema.get("required", ()))


def test_the_served_operations_are_those_of_the_structure(platform):
    def plain(operations: dict[str, tuple[str, str, dict[str, Any]]]) -> dict[str, tuple[str, str]]:
        return {name: (method, path) for name, (method, path, _) in operations.items()}

    assert plain(served(platform)) == plain(CONTRACT.operations)


def test_each_operation_has_the_parameters_and_the_success_of_the_structure(platform):
    for name, (_, _, operation) in served(platform).items():
        described = CONTRACT.operations[name][2]
        parameters = [
            {(item["name"], item["in"], item.get("required", False)) for item in one.get("parameters", [])}
            for one in (operation, described)
        ]
        assert parameters[0] == parameters[1], name
        successes = [{code for code in one["responses"] if code < "300"} for one in (operation, described)]
        assert successes[0] == successes[1], name


def test_each_request_body_has_the_fields_of_the_structure(platform):
    document = platform.http.get("/emissary/openapi.json", headers={"X-API-Key": KEY}).json()
    for name, (_, _, operation) in served(platform).items():
        described = CONTRACT.operations[name][2]
        assert ("requestBody" in operation) == ("requestBody" in described), name
        if "requestBody" in operation:
            assert fields(document, operation) == fields(CONTRACT.structure, described), name


def file_of(rows: list[dict[str, Any]]) -> FilePart:
    content = as_lines(rows).encode()
    return FilePart("rows.jsonl", lambda: io.BytesIO(content), "application/jsonl")


class Caller:
    """Sends the provider's calls, and notes their operations."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.operations: set[str] = set()

    def __call__(self, call: Call[Any]) -> Any:
        self.operations.add(call.operation)
        return self.client.send(call)

    def until(self, call: Call[Any], *words: str) -> None:
        wait_until(lambda: self(call).status in words)


def test_the_provider_can_use_every_operation(platform: TunablePlatform) -> None:
    settings = ClientSettings(base_url=f"{platform.url}/emissary", key=KEY, dialect=EMISSARY_DIALECT)
    with Client(settings) as client:
        send = Caller(client)
        project = send(projects.create("support")).id
        assert project in [item.id for item in send(projects.list_all())]
        _train_and_deploy(send, project)
        _use_an_engine(send, project)
        send(projects.delete(project))
        assert project not in [item.id for item in send(projects.list_all())]
    assert send.operations >= set(CONTRACT.operations)


def _train_and_deploy(send: Caller, project: str) -> None:
    assert BASE in [item.name for item in send(models.list_all())]
    assert send(models.model(VECTORS)).type == "embeddings"
    functions = [item.name for item in send(testing_functions.list_all())]
    rows = send(datasets.upload(project, file=file_of(ROWS), name="rows")).id
    assert [item.name for item in send(datasets.list_all(project))] == ["rows"]
    assert send(datasets.dataset(project, rows)).is_uploaded
    job = send(
        training.train(
            project, base_model=BASE, train_dataset_id=rows, test_functions=functions, name="first"
        )
    )
    one = training.job(project, job.id)
    send.until(one, "Success")
    best = max(item.checkpoint for item in send(checkpoints.list_all(project, job.id)))
    live = send(deployments.create(project, training_job_id=job.id, checkpoint=best, name="live")).id
    send.until(deployments.deployment(project, live), "Deployed")
    assert send(inference.complete(model="live", prompt=ROWS[0]["input"])).choices[0].text
    messages = [{"role": "user", "content": "hello"}]
    assert send(inference.chat(model="live", messages=messages)).choices[0].message.content
    assert [item.id for item in send(deployments.list_all(project))] == [live]
    _classify(send, project)
    rewarded = send(
        training.train_grpo(
            project,
            base_model=BASE,
            train_dataset_id=rows,
            test_functions=functions,
            reward={functions[0]: 1.0},
        )
    ).id
    send(training.cancel(project, rewarded))
    send.until(training.job(project, rewarded), "Cancelled", "Success")
    send(training.delete(project, rewarded))
    assert rewarded not in [item.id for item in send(training.list_jobs(project))]
    send(deployments.delete(project, live))
    send(datasets.delete(project, rows))
    assert job.id in [item.id for item in send(projects.project(project)).training_jobs]


def _classify(send: Caller, project: str) -> None:
    rows = send(datasets.upload(project, file=file_of(LABELLED))).id
    job = send(
        training.train(project, base_model=VECTORS, train_dataset_id=rows, task_type="classification")
    ).id
    send.until(training.job(project, job), "Success")
    deployment = send(
        deployments.create(project, training_job_id=job, checkpoint=1, name="classes", inactive_timeout=2)
    ).id
    one = deployments.deployment(project, deployment)
    send.until(one, "Deployed", "Deactivated")
    wait_until(lambda: send(one).status == "Deactivated")
    send(deployments.reactivate(project, deployment))
    send.until(one, "Deployed")
    scores = send(inference.classify(model="classes", input="late", data_format="probs")).data[0].scores
    assert set(scores) == {"shipping", "login"}
    found = send(inference.compare(model=VECTORS, input="a", target="b", cosine=True))
    assert found.response.cosine_score is not None


def _use_an_engine(send: Caller, project: str) -> None:
    engine = send(engines.create(base_model=BASE, name="shared", task_type="text-generation")).id
    one = engines.engine(engine)
    send.until(one, "Active")
    assert engine in [item.id for item in send(engines.list_all())]
    deployment = send(
        engines.deploy(engine, project_id=project, training_job_id=BASE, checkpoint=0, name="base")
    ).id
    send.until(deployments.deployment(project, deployment), "Deployed")
    send(engines.deactivate(engine))
    send.until(one, "Inactive")
    send(engines.reactivate(engine))
    send.until(one, "Active")
    send(engines.undeploy(engine, deployment_name="base"))
    send(engines.delete(engine))
    assert engine not in [item.id for item in send(engines.list_all())]


def test_an_unknown_path_is_answered_in_the_form_of_the_api(platform: TunablePlatform) -> None:
    response = platform.http.get("/emissary/v1/unknown", headers={"X-API-Key": KEY})
    assert (response.status_code, response.json()["code"]) == (404, "object_not_found")


def test_the_key_belongs_into_its_own_header(platform: TunablePlatform, client: EmissaryClient) -> None:
    for headers in ({}, {"X-API-Key": "wrong"}):
        client.headers = {"Authorization": f"Bearer {KEY}", **headers}  # type: ignore[assignment]
        response = client.get("/projects")
        assert response.status_code == 401
        assert re.search("X-API-Key", response.json()["error"])
    assert (
        platform.http.get("/inf/models", headers={"Authorization": "", "X-API-Key": KEY}).status_code == 401
    )
