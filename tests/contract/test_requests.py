"""Every request that we can build fits the platform's structure, and no operation is left out."""

from __future__ import annotations

import json
import re
from email import message_from_bytes
from urllib.parse import parse_qs

from jsonschema import Draft202012Validator

from airflow_provider_lamini.api.call import Retry

STARTS_WORK = {
    "add_v2_classifier_add_post",
    "batch_completion_v1_batch_completions_post",
    "batch_embeddings_post",
    "data_post",
    "eval_run_post",
    "initialize_v2_classifier_initialize_post",
    "local_data_post",
    "memory_rag_add_index_post",
    "memory_rag_train_post",
    "register_v2_classifier_register_post",
    "resume_training_job_v1_train_jobs__job_id__resume_post",
    "streaming_completions_v3_streaming_completions_post",
    "train_v1_train_post",
    "train_v2_classifier_train_post",
}
NOT_IN_THE_STRUCTURE = {"train_type", "data"}
"""Fields of a tuning job that the platform's pages name and its structure does not."""
USELESS = {"prediction_v1_post": {"top_n", "threshold", "metadata"}}
"""Fields that change nothing: a prediction is one name and no more."""


def test_there_is_a_call_for_every_operation(known, calls):
    assert {call.operation for call in calls} == set(known)
    assert len(known) == 51


def test_a_call_has_method_and_path_of_its_operation(each_call, known, as_sent):
    method, path, _ = known[each_call.operation]
    request = as_sent(each_call)
    assert request.method == method
    template = re.sub(r"\\\{\w+\\\}", r"[^/]+", re.escape(path))
    assert re.fullmatch("/prefix" + template, request.url.raw_path.decode().split("?")[0])


def test_a_call_has_the_query_of_its_operation(each_call, known, as_sent, spec):
    sent = parse_qs(as_sent(each_call).url.query.decode())
    described = {
        each["name"]: each for each in known[each_call.operation][2]["parameters"] if each["in"] == "query"
    }
    assert set(sent) <= set(described)
    for name, each in described.items():
        assert name in sent or not each["required"]
        validate(sent[name][0], each["schema"], spec)


def test_a_call_has_a_valid_body_for_its_operation(each_call, known, as_sent, spec):
    described = known[each_call.operation][2].get("requestBody")
    request = as_sent(each_call)
    if described is None:
        assert request.content == b""
        return
    ((media, content),) = described["content"].items()
    assert request.headers["content-type"].split(";")[0] == media
    body = json.loads(request.content) if media == "application/json" else form(request)
    validate(body, content["schema"], spec)
    allowed = fields(content["schema"], spec) | NOT_IN_THE_STRUCTURE
    assert set(body) <= allowed, "a field of another name would be ignored by the platform"
    if "finetune_args" in body:
        assert set(body["finetune_args"]) <= set(spec["components"]["schemas"]["FinetuneArgs"]["properties"])


def test_the_calls_together_use_every_field_of_the_api_description(known, calls, as_sent, spec):
    """So that nothing that the platform can be asked for is out of reach."""
    used = {}
    for call in calls:
        request = as_sent(call)
        if request.content:
            is_json = request.headers["content-type"] == "application/json"
            body = json.loads(request.content) if is_json else form(request)
            used.setdefault(call.operation, set()).update(body)
    for operation, (_, _, described) in known.items():
        if "requestBody" in described:
            ((_, content),) = described["requestBody"]["content"].items()
            unused = fields(content["schema"], spec) - used[operation]
            assert unused == USELESS.get(operation, set()), operation


def test_calls_that_start_work_are_never_retried_blindly(known, calls):
    assert {call.operation for call in calls if call.retry is Retry.ONLY_IF_NOT_STARTED} == STARTS_WORK
    for call in calls:
        assert call.retry is Retry.SAFE or known[call.operation][0] == "POST"


def validate(value, schema, spec):
    Draft202012Validator({**schema, "components": spec["components"]}).validate(value)


def fields(schema, spec):
    """The names of the fields that a schema describes."""
    if "$ref" in schema:
        schema = spec["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
    inherited = [fields(each, spec) for each in schema.get("allOf", [])]
    return set(schema.get("properties", {})).union(*inherited)


def form(request):
    """The parts of a form, as the structure describes them: files as a list of texts."""
    head = f"Content-Type: {request.headers['content-type']}\r\n\r\n".encode()
    body = {}
    for part in message_from_bytes(head + request.content).get_payload():
        name = part.get_param("name", header="content-disposition")
        content = part.get_payload(decode=True).decode()
        if part.get_filename():
            body.setdefault(name, []).append(content)
        else:
            body[name] = content
    return body
