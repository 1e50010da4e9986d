"""A bad argument fails before anything is sent, names itself, and does not show a prompt."""

from __future__ import annotations

import pytest

from airflow_provider_lamini.platforms.lamini.api import (
    batches,
    chat,
    classifiers,
    completions,
    datasets,
    embeddings,
    evaluation,
    memory_rag,
    models,
    training,
)

SECRET = "the patient's name"


def tune(**finetune_args):
    return lambda: training.train(model_name="m", finetune_args=finetune_args)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: completions.complete(model_name="", prompt="p"), "model_name: "),
        (lambda: completions.complete(model_name=None, prompt="p"), "model_name: Field required"),
        (lambda: completions.complete(model_name="m", prompt=[]), "prompt is an empty list"),
        (
            lambda: completions.complete(model_name="m", prompt=None),
            "prompt must be a list of texts, not None",
        ),
        (
            lambda: completions.complete(model_name="m", prompt=[SECRET, 7]),
            "prompt 1 must be a text, not an int",
        ),
        (lambda: completions.complete(model_name="m", prompt={SECRET: 1}), "not a dict"),
        (lambda: completions.complete(model_name="m", prompt="p", max_new_tokens=0), "max_new_tokens: "),
        (
            lambda: completions.complete(model_name="m", prompt="p", output_type={"a": "text"}),
            "output_type: 'a'",
        ),
        (lambda: completions.start_streaming(model_name="m", prompt=[SECRET]), "prompt: .*string"),
        (lambda: completions.streaming_result(""), "id must not be ''"),
        (lambda: completions.streaming_result(".."), "id must not be '..'"),
        (lambda: completions.streaming_result(None), "id must be a text or a whole number"),
        (
            lambda: batches.start_completions(model_name="m", prompt=SECRET),
            "prompt must be a list of texts, not a str",
        ),
        (lambda: batches.start_completions(model_name="m", prompt=[SECRET, None]), "prompt 1 must be a text"),
        (lambda: batches.start_embeddings(prompt=[b"x"]), "prompt 0 must be a text, not bytes"),
        (lambda: embeddings.embed(prompt=[]), "prompt is an empty list"),
        (lambda: chat.complete(model="m", messages=[]), "messages: "),
        (
            lambda: chat.complete(model="m", messages=[{"role": "user"}]),
            r"messages\.0\.content: Field required",
        ),
        (
            lambda: chat.complete(model="m", messages=[{"role": "user", "content": "u"}], temperature=-1),
            "temperature: ",
        ),
        (
            lambda: chat.complete(
                model="m", messages=[{"role": "u", "content": "c"}], response_format={"type": "yaml"}
            ),
            r"response_format\.type: ",
        ),
        (lambda: memory_rag.train(model_name="m", files=[]), "files is empty"),
        (lambda: memory_rag.train(model_name="", files=[]), "model_name: "),
        (lambda: memory_rag.complete(prompt="p", job_id=True), "job_id: "),
        (lambda: memory_rag.complete(prompt="p", job_id=1, rag_query_size=0), "rag_query_size: "),
        (lambda: training.job("a/../b" if False else " "), "job_id must not be ''"),
        (lambda: training.train(model_name="m", data=[]), "data is an empty list"),
        (lambda: training.train(model_name="m", data=[{"input": "i"}, SECRET]), "data 1 must be an object"),
        (lambda: training.train(model_name="m", train_type="other"), "train_type: "),
        (lambda: training.train(model_name="m", gpu_config={"gpus": -1}), r"gpu_config\.gpus: "),
        (tune(max_length=3000), r"finetune_args\.max_length: Input should be a power of two"),
        (tune(max_length=16384), r"finetune_args\.max_length: "),
        (tune(optim="sgd"), r"finetune_args\.optim: "),
        (tune(index_method="IndexX"), r"finetune_args\.index_method: "),
        (tune(index_pq_nbits=17), r"finetune_args\.index_pq_nbits: "),
        (tune(index_hnsw_m=3), r"finetune_args\.index_hnsw_m: "),
        (tune(index_hnsw_efConstruction=513), r"finetune_args\.index_hnsw_efConstruction: "),
        (tune(learning_rate=0), r"finetune_args\.learning_rate: "),
        (tune(max_steps="many"), r"finetune_args\.max_steps: "),
        (
            lambda: datasets.upload(upload_base_path="x", data="rows"),
            "data must be a list of rows, not a str",
        ),
        (lambda: datasets.count(dataset_id="d", num_datapoints=-1), "num_datapoints: "),
        (lambda: classifiers.initialize(name="n", model_name="m", classes={}), "classes: "),
        (lambda: classifiers.add(project_name="p", dataset_name="d", data={"a": []}), r"data\.a: "),
        (lambda: classifiers.classify(model_id="m", prompt="p", threshold=1.5), "threshold: "),
        (lambda: classifiers.classify(model_id="", prompt="p"), "model_id must not be ''"),
        (lambda: models.download(""), "hf_model_name: "),
        (lambda: models.download("m", "picture"), "model_type: "),
        (
            lambda: evaluation.run(
                test_model_id="m", test_eval_type="t", eval_data=[{"input": SECRET}], eval_data_id="d"
            ),
            r"eval_data\.0\.target: Field required",
        ),
    ],
)
def test_the_error_names_an_invalid_argument(make, words):
    with pytest.raises(ValueError, match=words) as caught:
        make()
    assert SECRET not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_arguments_are_passed_to_the_platform():
    call = training.train(
        model_name="m",
        finetune_args={"max_steps": 5, "brand_new": {"a": None}},
        extra={"priority": "low", "model_name": "loses against the argument"},
    )
    assert call.json == {
        "model_name": "m",
        "finetune_args": {"max_steps": 5, "brand_new": {"a": None}},
        "priority": "low",
    }


def test_omitted_arguments_are_not_sent():
    """So that the platform's defaults stay the platform's."""
    assert completions.complete(model_name="m", prompt="p").json == {"model_name": "m", "prompt": "p"}
    assert training.train(model_name="m", finetune_args={"max_steps": 5}).json == {
        "model_name": "m",
        "finetune_args": {"max_steps": 5},
    }
    assert embeddings.embed(prompt="p").json == {"prompt": "p"}


def test_a_call_does_not_show_its_prompts_or_tokens():
    for call in (
        completions.complete(model_name="m", prompt=SECRET),
        models.download("m", private_hf_token=SECRET),
    ):
        assert SECRET not in repr(call)


def test_request_models_accept_both_spellings_of_the_output_type():
    for name in ("output_type", "out_type"):
        found = completions.CompletionsV1Request.model_validate(
            {"model_name": "m", "prompt": "p", name: {"answer": "str"}}
        )
        assert found.output_type == {"answer": "str"}
