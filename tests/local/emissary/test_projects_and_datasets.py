"""Projects and their datasets: what may be uploaded, when it is ready, and what a deletion takes along."""

from __future__ import annotations

import json

import httpx
import pytest

from airflow_provider_lamini.platforms.emissary.api.datasets import MAX_UPLOAD_BYTES
from tests.support.emissary_api import ROWS, as_lines
from tests.support.local_platform import wait_until
from tests.support.scripted_tuning import BASE

PAIRS = [
    ("input", "output"),
    ("prompt", "completion"),
    ("text", "label"),
    ("question", "answer"),
]


def upload(client, project, content, file_name="rows.jsonl", **data):
    return client.post(f"/projects/{project}/datasets", files={"file": (file_name, content)}, data=data)


def test_a_project_without_a_body_gets_a_name(client):
    created = client.post("/projects").json()
    assert created["name"] == created["id"]
    assert created["id"].startswith("ms-")


def test_a_project_shows_what_it_holds_until_it_is_deleted_with_it(client, project, control):
    dataset = client.dataset(project)
    control.hold(kind="emissary_training")
    job = client.train(project, base_model=BASE, train_dataset_id=dataset)
    deployment = client.deploy(project, BASE, 0, name="base")
    shown = client.get(f"/projects/{project}").json()
    held = [[item["id"] for item in shown[kind]] for kind in ("datasets", "training_jobs", "deployments")]
    assert held == [[dataset], [job], [deployment]]
    assert client.delete(f"/projects/{project}").status_code == 204
    assert client.get(f"/projects/{project}").status_code == 404
    assert client.get(f"/projects/{project}/training-jobs").status_code == 404
    assert client.post("/completions", json={"model": "base", "prompt": "a"}).status_code == 404
    assert control.jobs("emissary_training") == []


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_rows_may_have_these_columns(client, project, pair):
    rows = [{pair[0]: "a question", pair[1]: "an answer", "other": 1}]
    dataset = client.dataset(project, rows)
    job = client.trained(project, base_model=BASE, train_dataset_id=dataset)
    deployment = client.deploy(project, job, 1, name="live")
    client.wait_for_deployment(project, deployment)
    response = client.post("/completions", json={"model": "live", "prompt": "a question"}).json()
    assert response["choices"][0]["text"] == "an answer"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.jsonl", as_lines(ROWS)),
        ("rows.json", json.dumps(ROWS)),
        ("rows.csv", "input,output\n" + "".join(f"{row['input']},{row['output']}\n" for row in ROWS)),
    ],
)
def test_these_files_are_datasets_and_can_be_downloaded_as_they_were_sent(client, project, name, content):
    created = upload(client, project, content, name, name="tickets").json()
    assert (created["name"], created["is_uploaded"]) == ("tickets", True)
    shown = client.get(f"/projects/{project}/datasets/{created['id']}").json()
    url = shown["dataset_download_url"]
    assert httpx.get(url).text == content
    assert httpx.get(url.replace("sig=", "sig=x")).status_code == 403


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "no rows"),
        ("\n\n", "no rows"),
        ("[]", "no rows"),
        ('{"input": "a", "output": "b"}\n{"input": "secret"', "row 1 (counted from 0) is not valid JSON"),
        ('["secret"]', "row 0 (counted from 0) is not an object"),
        ('{"input": "secret"}', "lacks the texts 'input' and 'output', or"),
        ('{"input": "secret", "output": " "}', "has an empty 'output'"),
        ('{"input": 1, "output": "b"}', "row 0 (counted from 0) lacks the texts"),
        ("[" * 100_000, "not a valid JSON array"),
        ("{" * 100_000, "row 0 (counted from 0) is not valid JSON"),
        (b"\xff\xfe", "not UTF-8"),
    ],
)
def test_a_file_that_cannot_be_learned_from_is_refused_without_repeating_it(client, project, content, said):
    response = upload(client, project, content)
    assert response.status_code == 400
    assert said in response.json()["error"]
    assert "secret" not in response.text
    assert client.get(f"/projects/{project}/datasets").json() == []


def test_a_file_above_5_mb_and_a_form_without_a_file_are_refused(client, project):
    assert "at most 5000000" in upload(client, project, b"x" * (MAX_UPLOAD_BYTES + 1)).json()["error"]
    response = client.post(f"/projects/{project}/datasets", data={"name": "nothing"})
    assert (response.status_code, "file" in response.json()["error"]) == (400, True)


def test_a_dataset_can_be_used_once_it_is_uploaded(client, project, platform):
    platform.http.post("/_control/delays", json={"upload": 0.3}).raise_for_status()
    dataset = client.dataset(project)
    path = f"/projects/{project}/datasets/{dataset}"
    body = {"base_model": BASE, "train_dataset_id": dataset}
    assert not client.get(path).json()["is_uploaded"]
    refused = client.post(f"/projects/{project}/training-jobs", json=body)
    assert (refused.status_code, "not uploaded yet" in refused.json()["error"]) == (400, True)
    wait_until(lambda: client.get(path).json()["is_uploaded"])
    client.trained(project, **body)


def test_a_deleted_dataset_and_a_dataset_of_another_project_are_not_found(client, project):
    other = client.project("other")
    dataset = client.dataset(project)
    assert client.get(f"/projects/{other}/datasets/{dataset}").status_code == 404
    assert client.delete(f"/projects/{other}/datasets/{dataset}").status_code == 404
    assert client.delete(f"/projects/{project}/datasets/{dataset}").status_code == 204
    assert client.delete(f"/projects/{project}/datasets/{dataset}").status_code == 404


def test_everything_below_a_project_that_does_not_exist_is_not_found(client):
    for path in ("datasets", "training-jobs", "deployments"):
        assert client.get(f"/projects/ms-unknown/{path}").json()["code"] == "object_not_found"
    assert upload(client, "ms-unknown", as_lines(ROWS)).status_code == 404
    body = {"training_job_id": BASE, "checkpoint": 0}
    assert client.post("/projects/ms-unknown/deployments", json=body).status_code == 404
    body = {"base_model": BASE, "train_dataset_id": "ds-1"}
    assert client.post("/projects/ms-unknown/training-jobs", json=body).status_code == 404
