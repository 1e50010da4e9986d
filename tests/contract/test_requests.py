"""Every request that we can build fits the platform's structure, and no operation is left out."""

from __future__ import annotations

import re
from urllib.parse import parse_qs

from airflow_provider_lamini.api.call import Retry

OPERATIONS = {"lamini": 51, "emissary": 35}
STARTS_WORK = {
    "lamini": {
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
    },
    "emissary": {
        "createDataset",
        "createDeployment",
        "createEngine",
        "createGRPOTrainingJob",
        "createProject",
        "createTrainingJob",
        "deployOnEngine",
    },
}
NOT_IN_THE_STRUCTURE = {"lamini": {"train_type", "data"}, "emissary": set()}
"""Fields of a tuning job that the platform's pages name and its structure does not."""
USELESS = {"prediction_v1_post": {"top_n", "threshold", "metadata"}}
"""Fields that change nothing: a prediction is one name and no more."""
NESTED = {
    "train_v1_train_post": {"finetune_args"},
    "createTrainingJob": {"parameters"},
    "createGRPOTrainingJob": {"parameters"},
    "createDeployment": {"schedule"},
}
"""Fields that are objects whose fields the structure names."""

COUNT_TOKENS = {
    "lamini": {"inf_chat_completions_post"},
    "emissary": {
        "getCompletionsFromDeployment",
        "getChatCompletions",
        "getClassificationFromDeployment",
    },
}
TEXTS = {"prompt", "messages", "input", "target", "eval_data"}
"""Fields with texts that a model reads."""


def test_there_is_a_call_for_every_operation(contract):
    assert {call.operation for call in contract.calls} == set(contract.operations)
    assert len(contract.operations) == OPERATIONS[contract.platform]


def test_a_call_has_method_and_path_of_its_operation(contract, each_call):
    method, path, _ = contract.operations[each_call.operation]
    request = contract.as_sent(each_call)
    assert request.method == method
    template = re.sub(r"\\\{\w+\\\}", r"[^/]+", re.escape(path))
    assert re.fullmatch("/prefix" + template, request.url.raw_path.decode().split("?")[0])


def test_a_call_has_the_query_of_its_operation(contract, each_call):
    sent = parse_qs(contract.as_sent(each_call).url.query.decode())
    parameters = contract.operations[each_call.operation][2]["parameters"]
    described = {each["name"]: each for each in parameters if each["in"] == "query"}
    assert set(sent) <= set(described)
    for name, each in described.items():
        assert name in sent or not each["required"]
        if name in sent:
            contract.validate(sent[name][0], each["schema"])


def test_a_call_has_a_valid_body_for_its_operation(contract, each_call):
    described = contract.operations[each_call.operation][2].get("requestBody")
    media, body = contract.body_as_sent(each_call)
    if described is None or not (body or described["required"]):
        assert body is None
        return
    assert {media} == set(described["content"])
    schema = described["content"][media]["schema"]
    contract.validate(body, schema)
    allowed = contract.fields(schema) | NOT_IN_THE_STRUCTURE[contract.platform]
    assert set(body) <= allowed, "a field of another name would be ignored by the platform"
    for name in NESTED.get(each_call.operation, set()) & set(body):
        assert set(body[name]) <= contract.fields(contract.field(schema, name))


def test_the_calls_together_use_every_field_of_the_api_description(contract):
    """So that nothing that the platform can be asked for is out of reach."""
    used = {}
    for call in contract.calls:
        _, body = contract.body_as_sent(call)
        used.setdefault(call.operation, set()).update(body or ())
    for operation, (_, _, described) in contract.operations.items():
        if "requestBody" in described:
            ((_, content),) = described["requestBody"]["content"].items()
            unused = contract.fields(content["schema"]) - used[operation]
            assert unused == USELESS.get(operation, set()), operation


def test_calls_that_start_work_are_never_retried_blindly(contract):
    starts = {call.operation for call in contract.calls if call.retry is Retry.ONLY_IF_NOT_STARTED}
    assert starts == STARTS_WORK[contract.platform]
    for call in contract.calls:
        assert call.retry is Retry.SAFE or contract.operations[call.operation][0] == "POST"


def test_each_call_with_texts_for_a_model_says_where_they_are(contract):
    """A limit of tokens counts them, and nothing else."""
    for call in contract.calls:
        _, body = contract.body_as_sent(call)
        texts = TEXTS & set(body) if isinstance(body, dict) else set()
        assert set(call.prompt_fields) == texts, call.operation


def test_a_call_whose_response_counts_tokens_reads_them(contract):
    counting = {call.operation for call in contract.calls if call.tokens_used is not None}
    assert counting == COUNT_TOKENS[contract.platform]
