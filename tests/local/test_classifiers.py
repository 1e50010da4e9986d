"""Classifiers over HTTP. The engine's vectors have no meaning, but equal texts have equal vectors."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest

from tests.support.contract import check
from tests.support.local_platform import wait_until
from tests.support.upstream import EMBEDDING_MODEL, TEXT_MODEL

if TYPE_CHECKING:
    import httpx

    from tests.support.local_platform import LocalPlatform
    from tests.support.upstream import Upstream

V2 = "/v2/classifier"
CLASSES = {"red": "things that are red", "blue": "things that are blue", "green": "things that are green"}
KNOWN = [f"{name}: {description}" for name, description in CLASSES.items()]
RED, BLUE, _ = KNOWN
EXAMPLES = {"red": ["tomato", "rose"], "blue": ["sky", "sea"], "green": ["grass"]}


@pytest.fixture
def project() -> str:
    return f"colours {uuid4()}"


def initialize(http: httpx.Client, project: str, **more: Any) -> httpx.Response:
    body = {"name": project, "model_name": TEXT_MODEL, "classes": CLASSES, "examples": EXAMPLES, **more}
    return http.post(f"{V2}/initialize", json=body)


def status(http: httpx.Client, job_id: str) -> dict[str, Any]:
    found: dict[str, Any] = check(http.get(f"{V2}/{job_id}/status"), f"{V2}/{{job_id}}/status")
    return found


def train(http: httpx.Client, project: str, **more: Any) -> str:
    """Create a project, train its classifier, and return the id of the model."""
    started = check(initialize(http, project, **more), f"{V2}/initialize")
    assert started == {"job_id": started["job_id"], "status": "CREATED", "model_id": None}
    return completed_model(http, started["job_id"])


def completed_model(http: httpx.Client, job_id: str) -> str:
    wait_until(lambda: status(http, job_id)["status"] == "COMPLETED")
    model_id = status(http, job_id)["model_id"]
    assert str(UUID(model_id)) == model_id
    return str(model_id)


def classify(http: httpx.Client, model_id: str, prompt: str | list[str], **more: Any) -> list[Any]:
    response = http.post(f"{V2}/{model_id}/classify", json={"prompt": prompt, **more})
    found: list[Any] = check(response, f"{V2}/{{model_id}}/classify")["classification"]
    return found


def list_of(http: httpx.Client, project: str, what: str) -> list[Any]:
    found: list[Any] = check(http.get(f"{V2}/{project}/{what}"), f"{V2}/{{project_name}}/{what}")
    return found


def test_a_trained_classifier_recognizes_its_own_descriptions(http: httpx.Client, project: str) -> None:
    model_id = train(http, project)
    found = classify(http, model_id, KNOWN)
    for scores in found:
        assert sorted(score["class_name"] for score in scores) == sorted(CLASSES)
        assert sum(score["prob"] for score in scores) == pytest.approx(1)
        assert scores == sorted(scores, key=lambda score: -score["prob"])
        assert all(list(CLASSES)[score["class_id"]] == score["class_name"] for score in scores)
    assert [scores[0]["class_name"] for scores in found] == list(CLASSES)


def test_a_classifier_can_be_trained_on_descriptions_alone(http: httpx.Client, project: str) -> None:
    for number, examples in enumerate((None, {})):
        model_id = train(http, f"{project} {number}", examples=examples)
        [scores] = classify(http, model_id, RED)
        assert scores[0]["class_name"] == "red"


def test_a_single_text_returns_a_list_of_one(http: httpx.Client, project: str) -> None:
    model_id = train(http, project)
    assert classify(http, model_id, RED) == classify(http, model_id, [RED])
    assert len(classify(http, model_id, [f"text {number}" for number in range(30)])) == 30


def test_top_n_threshold_and_metadata(http: httpx.Client, project: str) -> None:
    model_id = train(http, project)
    [all_scores] = classify(http, model_id, RED)
    assert classify(http, model_id, RED, top_n=2) == [all_scores[:2]]
    second = all_scores[1]["prob"]
    assert classify(http, model_id, RED, threshold=second) == [all_scores[:2]]
    assert classify(http, model_id, [RED, BLUE], threshold=1) == [[], []]
    [[best]] = classify(http, model_id, RED, top_n=1, metadata=True)
    assert best == {**all_scores[0], "metadata": {"description": CLASSES["red"], "examples": 2}}
    for wrong in ({"top_n": 0}, {"threshold": 1.5}, {"prompt": []}, {"prompt": 3}):
        response = http.post(f"{V2}/{model_id}/classify", json={"prompt": "a", **wrong})
        assert response.status_code == 422


def test_the_v1_paths_work_too(http: httpx.Client, project: str) -> None:
    model_id = train(http, project)
    v1 = f"/v1/classifier/{model_id}"
    for prompt in (RED, [RED, BLUE]):
        response = http.post(f"{v1}/classification", json={"prompt": prompt, "top_n": 2})
        found = check(response, "/v1/classifier/{model_id}/classification")
        assert found["classification"] == classify(http, model_id, prompt, top_n=2)
    for prompt, expected in ((RED, "red"), ([RED, BLUE], ["red", "blue"])):
        response = http.post(f"{v1}/prediction", json={"prompt": prompt})
        assert check(response, "/v1/classifier/{model_id}/prediction") == {"prediction": expected}


def test_added_examples_are_used_by_the_next_training(http: httpx.Client, project: str) -> None:
    first = train(http, project)
    body = {"project_name": project, "dataset_name": "more", "data": {"red": ["sky", "blood"]}}
    for added in (2, 0):
        response = check(http.post(f"{V2}/add", json=body), f"{V2}/add")
        assert response == {"project_name": project, "dataset_name": "more", "num_added": added}
    again = check(http.post(f"{V2}/train", json={"name": project}), f"{V2}/train")
    second = completed_model(http, again["job_id"])
    assert second != first
    prob = {
        model: next(s["prob"] for s in classify(http, model, "sky")[0] if s["class_name"] == "red")
        for model in (first, second)
    }
    assert prob[second] > prob[first]
    counts = classify(http, second, "sky", metadata=True)[0]
    assert {score["class_name"]: score["metadata"]["examples"] for score in counts} == {
        "red": 4,
        "blue": 2,
        "green": 1,
    }
    follow = http.post(f"{V2}/train", json={"name": project, "classifier_train_job_id": again["job_id"]})
    completed_model(http, follow.json()["job_id"])


def test_the_contents_of_a_project_are_listed(http: httpx.Client, project: str) -> None:
    first = train(http, project)
    body = {"project_name": project, "dataset_name": "more", "data": {"red": ["blood"]}}
    http.post(f"{V2}/add", json=body).raise_for_status()
    projects = check(http.get(f"{V2}/projects"), f"{V2}/projects")
    [mine] = [one for one in projects if one["project_name"] == project]
    assert (mine["classes"], mine["model_name"]) == (CLASSES, TEXT_MODEL)
    assert list_of(http, project, "datasets") == [
        {"dataset_name": "initial", "num_datapoints": 5, "classes": {"red": 2, "blue": 2, "green": 1}},
        {"dataset_name": "more", "num_datapoints": 1, "classes": {"red": 1}},
    ]
    [job] = list_of(http, project, "jobs")
    assert job == {"job_id": job["job_id"], "status": "COMPLETED", "model_id": first}
    [model] = list_of(http, project, "models")
    assert (model["model_id"], model["job_id"]) == (first, job["job_id"])
    assert 0 <= model["metadata"]["held_out_accuracy"] <= 1
    assert list_of(http, mine["project_id"], "jobs") == [job]


def test_a_dataset_can_be_downloaded_and_deleted(http: httpx.Client, project: str) -> None:
    train(http, project)
    awkward = ['with "quotes"', "over\nlines", "Łódź"]
    body = {"project_name": project, "dataset_name": "more", "data": {"red": awkward, "blue": ["x"]}}
    http.post(f"{V2}/add", json=body).raise_for_status()
    content = http.get(f"{V2}/{project}/more/download")
    assert content.status_code == 200
    rows = [json.loads(line) for line in content.text.split("\n") if line]
    assert rows == [*({"input": text, "target": "red"} for text in awkward), {"input": "x", "target": "blue"}]
    url = f"{V2}/{project}/more"
    deleted = check(http.delete(url), f"{V2}/{{project_name}}/{{dataset_name}}")
    assert deleted == {"project_name": project, "dataset_name": "more", "num_deleted": 4}
    assert http.delete(url).status_code == 404
    assert http.get(f"{url}/download").status_code == 404
    assert [one["dataset_name"] for one in list_of(http, project, "datasets")] == ["initial"]


def test_a_model_can_be_registered_with_another_project(http: httpx.Client, project: str) -> None:
    model_id = train(http, project)
    other = f"other {project}"
    train(http, other)
    projects = {one["project_name"]: one["project_id"] for one in http.get(f"{V2}/projects").json()}
    [job] = list_of(http, project, "jobs")
    body = {"project_id": projects[other], "model_id": model_id, "job_id": job["job_id"]}
    assert check(http.post(f"{V2}/register", json=body), f"{V2}/register") == body
    http.post(f"{V2}/register", json=body).raise_for_status()
    assert [one["model_id"] for one in list_of(http, other, "models")].count(model_id) == 1
    for wrong, code in (("project_id", 499), ("model_id", 594), ("job_id", 498)):
        assert http.post(f"{V2}/register", json={**body, wrong: "none-such"}).status_code == code


def test_a_training_can_be_cancelled(http: httpx.Client, platform: LocalPlatform, project: str) -> None:
    platform.control.hold("classifier", after_rows=4)
    job_id = initialize(http, project).json()["job_id"]
    wait_until(lambda: status(http, job_id)["status"] == "TRAINING MODEL")
    for word in ("CANCELLED", "canceled"):
        response = http.post(f"{V2}/update_job", json={"job_id": job_id, "status": word})
        assert check(response, f"{V2}/update_job")["status"] == "CANCELLED"
    assert status(http, job_id)["model_id"] is None
    platform.control.release()
    job_id = http.post(f"{V2}/train", json={"name": project}).json()["job_id"]
    model_id = completed_model(http, job_id)
    # A training that has ended does not change.
    response = http.post(f"{V2}/update_job", json={"job_id": job_id, "status": "CANCELLED"})
    assert response.json() == {"job_id": job_id, "status": "COMPLETED", "model_id": model_id}
    assert http.post(f"{V2}/update_job", json={"job_id": job_id, "status": "COMPLETED"}).status_code == 400
    assert http.post(f"{V2}/update_job", json={"job_id": "no", "status": "CANCELLED"}).status_code == 498


@pytest.mark.parametrize(("state", "word"), [("failed", "FAILED"), ("timed out", "TIMED OUT")])
def test_a_training_can_be_forced_to_fail(
    http: httpx.Client, platform: LocalPlatform, project: str, state: str, word: str
) -> None:
    platform.control.hold("classifier")
    job_id = initialize(http, project).json()["job_id"]
    assert status(http, job_id)["status"] == "CREATED"
    platform.control.end(job_id, state, "because a test says so")
    expected = {"job_id": job_id, "status": word, "model_id": None, "detail": "because a test says so"}
    assert status(http, job_id) == expected
    assert list_of(http, project, "jobs") == [expected]


def test_a_training_fails_if_its_texts_cannot_be_embedded(
    http: httpx.Client, platform: LocalPlatform, project: str, engine: Upstream
) -> None:
    engine.fail(503, times=2)
    train(http, f"patient {project}")
    platform.control.row_fault("nowhere else")
    job_id = initialize(http, project, examples={"red": ["nowhere else"]}).json()["job_id"]
    wait_until(lambda: status(http, job_id)["status"] == "FAILED")
    assert "could not be embedded" in status(http, job_id)["detail"]


def test_an_existing_project_name_returns_497(http: httpx.Client, project: str) -> None:
    model_id = train(http, project)
    response = initialize(http, project)
    assert response.status_code == 497
    assert "already exists" in response.json()["detail"]
    assert [one["model_id"] for one in list_of(http, project, "models")] == [model_id]


def test_unknown_resources_return_their_own_status(http: httpx.Client) -> None:
    data = {"project_name": "no", "dataset_name": "d", "data": {"red": ["x"]}}
    unknown_project = [
        http.post(f"{V2}/train", json={"name": "no"}),
        http.post(f"{V2}/add", json=data),
        *(http.get(f"{V2}/no/{what}") for what in ("datasets", "jobs", "models", "d/download")),
        http.delete(f"{V2}/no/d"),
    ]
    assert [response.status_code for response in unknown_project] == [499] * len(unknown_project)
    assert http.get(f"{V2}/no/status").status_code == 498
    for path in (f"{V2}/no/classify", "/v1/classifier/no/classification", "/v1/classifier/no/prediction"):
        assert http.post(path, json={"prompt": "a"}).status_code == 594


def test_arguments_are_checked_before_a_project_is_created(
    http: httpx.Client, platform: LocalPlatform, project: str
) -> None:
    wrong: list[tuple[dict[str, Any], int]] = [
        ({"classes": {"red": "only one"}, "examples": None}, 422),
        ({"classes": {}}, 422),
        ({"classes": {"red": 1, "blue": "b"}}, 422),
        ({"examples": {"violet": ["x"]}}, 422),
        ({"examples": {"red": []}}, 422),
        ({"name": "a/b"}, 400),
        ({"name": ""}, 422),
        ({"model_name": "none/such"}, 594),
    ]
    for change, code in wrong:
        response = initialize(http, project, **change)
        assert response.status_code == code, (change, response.text)
    platform.control.loading(60, EMBEDDING_MODEL)
    assert initialize(http, project, model_name=EMBEDDING_MODEL).status_code == 513
    platform.control.reset()
    model_id = train(http, project, model_name=EMBEDDING_MODEL)
    body = {"project_name": project, "dataset_name": "d", "data": {"violet": ["x"]}}
    response = http.post(f"{V2}/add", json=body)
    assert response.status_code == 422
    assert "'violet'" in response.json()["detail"][0]["msg"]
    platform.control.loading(60)
    assert http.post(f"{V2}/{model_id}/classify", json={"prompt": "a"}).status_code == 513


def test_a_model_file_can_be_imported_by_another_platform(
    http: httpx.Client, platform: LocalPlatform, project: str
) -> None:
    model_id = train(http, project)
    content = (platform.data / "classifiers" / "models" / f"{model_id}.json").read_bytes()
    uploaded = http.post("/v1/classifier", files={"file": ("model.json", content)}).json()["model_id"]
    assert uploaded != model_id
    assert classify(http, uploaded, [RED, BLUE]) == classify(http, model_id, [RED, BLUE])
    content_json = json.loads(content)
    broken = [b"", b"no model", b"\x80\x04pickle", json.dumps({**content_json, "slopes": [[1.0]]}).encode()]
    broken += [
        json.dumps({**content_json, change: value}).encode()
        for change, value in (("format", "x"), ("sharpness", 0), ("offsets", [1.0]), ("slopes", []))
    ]
    for wrong in broken:
        response = http.post("/v1/classifier", files={"file": ("model.json", wrong)})
        assert response.status_code == 400, response.text
        assert "Not a classifier of the local platform" in response.json()["detail"]
    assert http.post("/v1/classifier", files={"model": ("m", content)}).status_code == 422
