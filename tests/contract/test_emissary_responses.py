"""Every documented form of a response of Emissary is parsed, with the quirks of its API."""

from __future__ import annotations

import json

import httpx
import pytest

from airflow_provider_lamini.api.client import Client
from airflow_provider_lamini.api.errors import AuthenticationError, BadRequestError, NotFoundError
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
from tests.contract.conftest import EMISSARY
from tests.support.contract import read, samples

EXAMPLES = {call.operation: call for call in EMISSARY.calls}
SUCCESSES = [
    (call, status, described.get("content", {}).get("application/json", {}).get("schema"))
    for call in EXAMPLES.values()
    for status, described in EMISSARY.operations[call.operation][2]["responses"].items()
    if status.startswith("2")
]
RESPONSES = [
    (call, body)
    for call, _, schema in SUCCESSES
    if schema is not None
    for body in samples(EMISSARY, schema)
    if not isinstance(body, dict) or [] not in (body.get("choices"), body.get("data"))
]
"""Without responses that the structure allows and that contain nothing."""
WITHOUT_CONTENT = [call for call, status, _ in SUCCESSES if status == "204"]
REFUSALS = [
    (call, int(status))
    for call in EXAMPLES.values()
    for status in EMISSARY.operations[call.operation][2]["responses"]
    if status.startswith("4")
]
ERRORS = {400: BadRequestError, 401: AuthenticationError, 404: NotFoundError}


def answer_of(call, status, body=b""):
    """What a client makes of one response of the platform."""
    settings = ClientSettings(
        dialect=EMISSARY_DIALECT, base_url="http://platform.test", key="k", retry_budget=0
    )
    transport = httpx.MockTransport(lambda _: httpx.Response(status, content=body))
    with Client(settings, transport=transport) as client:
        return client.send(call)


@pytest.mark.parametrize(
    ("call", "body"), RESPONSES, ids=[f"{n}-{call.operation}" for n, (call, _) in enumerate(RESPONSES)]
)
def test_every_documented_response_is_parsed(call, body):
    (schema,) = (schema for other, _, schema in SUCCESSES if other is call)
    EMISSARY.validate(body, schema)
    parsed = read(call, body)
    for model, item in zip(parsed, body, strict=True) if isinstance(body, list) else [(parsed, body)]:
        assert_same(model, item)


def assert_same(model, body):
    """No field of a response is lost, and none changes its value."""
    if isinstance(body, dict):
        fields = model if isinstance(model, dict) else dict(model)
        spelled = {"prompt_token_details": "prompt_tokens_details"}
        for name, value in body.items():
            assert_same(fields[name if name in fields else spelled[name]], value)
    elif isinstance(body, list):
        for part, item in zip(model, body, strict=True):
            assert_same(part, item)
    else:
        assert model == body


def test_ten_operations_answer_without_content():
    assert len(WITHOUT_CONTENT) == 10


@pytest.mark.parametrize("call", WITHOUT_CONTENT, ids=lambda call: call.operation)
def test_a_response_without_content_is_a_success(call):
    assert answer_of(call, 204) is None
    assert answer_of(call, 200, b"{}") is None


@pytest.mark.parametrize("call", WITHOUT_CONTENT, ids=lambda call: call.operation)
def test_a_web_page_is_no_success(call):
    with pytest.raises(Exception, match="web page"):
        answer_of(call, 200, b"<html>maintenance</html>")


@pytest.mark.parametrize(
    ("call", "status"), REFUSALS, ids=[f"{call.operation}-{status}" for call, status in REFUSALS]
)
def test_every_documented_error_says_what_the_platform_says(call, status):
    described = EMISSARY.resolve(EMISSARY.operations[call.operation][2]["responses"][str(status)])
    content = described.get("content")
    if content is None:
        with pytest.raises(BadRequestError, match="400"):
            answer_of(call, status)
        return
    body = samples(EMISSARY, content["application/json"]["schema"])[0] | {"error": "the reason"}
    with pytest.raises(ERRORS[status], match="the reason") as caught:
        answer_of(call, status, json.dumps(body).encode())
    assert (caught.value.status, caught.value.detail) == (status, "the reason")
    assert not caught.value.may_have_started


def test_the_key_is_sent_in_the_platforms_header():
    request = EMISSARY.as_sent(models.list_all())
    assert request.headers["X-API-Key"] == "k"
    assert "authorization" not in request.headers


@pytest.mark.parametrize("details", [None, "2 cached", {"cached_tokens": 2}])
@pytest.mark.parametrize("name", ["prompt_tokens_details", "prompt_token_details"])
def test_the_details_of_prompt_tokens_are_parsed_in_every_form_and_spelling(details, name):
    usage = {"prompt_tokens": 3.0, "completion_tokens": None, "total_tokens": 5, name: details}
    found = read(
        inference.complete(model="m", prompt="p"), {"choices": [{"text": "t"}], "usage": usage}
    ).usage
    assert (found.prompt_tokens, found.completion_tokens, found.total_tokens) == (3, 0, 5)
    assert found.prompt_tokens_details == details


def test_labels_have_scores_in_both_formats():
    call = inference.classify(model="m", input="i")
    assert read(call, {"data": [{"index": 0, "logits": {"a": -3.5}}]}).data[0].scores == {"a": -3.5}
    assert read(call, {"data": [{"index": 0, "probs": {"a": 0.25}}]}).data[0].scores == {"a": 0.25}
    for broken in ({"data": []}, {"data": [{"index": 0}]}, {}):
        with pytest.raises(ValueError, match="data"):
            read(call, broken)


def test_distances_are_missing_unless_they_were_requested():
    scores = {"input_embedding": [0.0, 1], "target_embedding": [1.0, 0], "cosine_score": 0.0}
    found = read(
        inference.compare(model="m", input="i", target="t"), {"id": "rq-1", "response": scores}
    ).response
    assert (found.cosine_score, found.manhattan_distance, found.euclidean_distance) == (0.0, None, None)


@pytest.mark.parametrize("missing", [None, "absent"])
def test_missing_and_null_fields_are_empty(missing):
    def with_null(*names):
        return {} if missing else dict.fromkeys(names)

    job = read(
        training.job("ms-1", "tr-1"),
        {"id": 7, "status": "Brand New"} | with_null("training_loss", "progress", "name", "reward"),
    )
    assert (job.id, job.status, job.training_loss, job.progress) == ("7", "Brand New", [], None)
    project = read(projects.project("ms-1"), {"id": "ms-1"} | with_null("name", "datasets", "deployments"))
    assert (project.name, project.datasets, project.deployments) == (None, [], [])
    deployment = read(
        deployments.deployment("ms-1", "dp-1"), {"id": "dp-1", "status": "Deployed"} | with_null("metadata")
    )
    assert deployment.metadata is None


@pytest.mark.parametrize(
    ("call", "body"),
    [
        (training.job("ms-1", "tr-1"), {"id": "tr-1"}),
        (deployments.deployment("ms-1", "dp-1"), {"status": "Deployed"}),
        (engines.engine("e"), []),
        (datasets.dataset("ms-1", "ds-1"), {}),
        (projects.create(), {"name": "n"}),
        (models.list_all(), {"error": "hm"}),
        (testing_functions.list_all(), [{}]),
        (checkpoints.list_all("ms-1", "tr-1"), [{"model_download_url": "https://x"}]),
        (inference.chat(model="m", messages=[{"role": "user", "content": "u"}]), {"choices": []}),
    ],
    ids=lambda value: getattr(value, "operation", ""),
)
def test_a_response_without_what_we_need_is_refused(call, body):
    with pytest.raises(ValueError, match=r"\w"):
        read(call, body)


def test_urls_of_files_are_not_shown():
    """Whoever has them can read the files, without a key."""
    url = "https://files.test/signed?token=abc"
    dataset = read(datasets.dataset("ms-1", "ds-1"), {"id": "ds-1", "dataset_download_url": url})
    (checkpoint,) = read(checkpoints.list_all("ms-1", "tr-1"), [{"checkpoint": 1, "model_download_url": url}])
    assert dataset.dataset_download_url == checkpoint.model_download_url == url
    assert "signed" not in repr(dataset) + repr(checkpoint)
