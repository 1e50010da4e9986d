"""Our models read every form of an answer that the platform's pages describe."""

from __future__ import annotations

import json

import pytest

from airflow_provider_lamini.api.lamini import (
    batches,
    chat,
    classifier_projects,
    classifiers,
    completions,
    datasets,
    embeddings,
    evaluation,
    memory_rag,
    models,
    platform,
    training,
)


def read(call, answer):
    return call.read(answer if isinstance(answer, bytes) else json.dumps(answer).encode())


def test_the_examples_of_the_structure_are_read(call_with_example, example):
    assert read(call_with_example, example(call_with_example))


# --- inference


@pytest.mark.parametrize(
    ("answer", "outputs", "reasons"),
    [
        ({"outputs": "text", "finish_reason": "stop"}, ["text"], ["stop"]),
        ({"outputs": ["text"], "finish_reason": ["length"]}, ["text"], ["length"]),
        ({"outputs": ["text"], "finish_reason": "timeout"}, ["text"], ["timeout"]),
        ({"outputs": {"answer": "a"}, "finish_reason": "stop"}, [{"answer": "a"}], ["stop"]),
        ({"outputs": [{"answer": "a"}], "finish_reason": ["stop"]}, [{"answer": "a"}], ["stop"]),
        ({"outputs": [None], "finish_reason": [None]}, [None], [None]),
        ({"outputs": [""]}, [""], [None]),
        ({"outputs": ["t"], "finish_reason": None, "added_by_a_server": 1}, ["t"], [None]),
        ({"outputs": ["t"], "finish_reason": ["a new reason"]}, ["t"], ["a new reason"]),
    ],
)
@pytest.mark.parametrize(
    "call",
    [completions.complete(model_name="m", prompt="p"), memory_rag.complete(prompt="p", job_id=1)],
    ids=["completions", "memory rag"],
)
def test_one_prompts_completion_is_read_bare_or_listed(call, answer, outputs, reasons):
    found = read(call, answer)
    assert (found.outputs, found.finish_reason) == (outputs, reasons)


def test_several_completions_are_read_in_order():
    call = completions.complete(model_name="m", prompt=["p", "q"])
    found = read(call, {"outputs": ["a", {"b": 1}], "finish_reason": ["stop", "length"]})
    assert found.outputs == ["a", {"b": 1}]
    assert found.done


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"outputs": []},
        {"outputs": ["one"], "finish_reason": ["stop"]},
        {"outputs": ["a", "b"], "finish_reason": ["stop"]},
        {"outputs": ["a", "b"], "finish_reason": ["stop", 5]},
        {"outputs": ["a", "b"], "finish_reason": {"0": "stop"}},
        {"finish_reason": ["stop", "stop"]},
        {"detail": "hm"},
        ["a", "b"],
        "a",
        None,
    ],
)
def test_completions_that_do_not_fit_the_prompts_are_refused(answer):
    """A row too few or too many would put answers beside the wrong questions."""
    with pytest.raises(ValueError, match=r"expected|prompts|must be"):
        read(completions.complete(model_name="m", prompt=["p", "q"]), answer)


@pytest.mark.parametrize(
    ("prompt", "output_type", "answer", "outputs"),
    [
        ("p", None, {"output": "text"}, ["text"]),
        ("p", None, [{"output": "text"}], ["text"]),
        (["p", "q"], None, [{"output": "a"}, {"output": "b"}], ["a", "b"]),
        (["p", "q"], None, {"output": ["a", "b"]}, ["a", "b"]),
        (["p", "q"], None, {"outputs": ["a", "b"], "finish_reason": ["stop", "stop"]}, ["a", "b"]),
        ("p", {"answer": "str"}, {"answer": "a"}, [{"answer": "a"}]),
        ("p", {"output": "str"}, {"output": "a"}, [{"output": "a"}]),
        ("p", {"outputs": "str"}, {"outputs": "a"}, [{"outputs": "a"}]),
        (
            ["p", "q"],
            {"answer": "str"},
            [{"answer": "a"}, {"answer": "b"}],
            [{"answer": "a"}, {"answer": "b"}],
        ),
    ],
)
def test_the_older_completions_are_read(prompt, output_type, answer, outputs):
    call = completions.complete_v1(model_name="m", prompt=prompt, output_type=output_type)
    assert read(call, answer).outputs == outputs


@pytest.mark.parametrize("answer", [{"text": "a"}, ["a"], "a", [{"output": "a"}, {"output": "b"}], None])
def test_the_older_completions_refuse_what_they_cannot_place(answer):
    with pytest.raises(ValueError, match=r"expected|prompts"):
        read(completions.complete_v1(model_name="m", prompt="p"), answer)


@pytest.mark.parametrize("ask", [batches.completions_result, completions.streaming_result])
@pytest.mark.parametrize(
    ("answer", "outputs", "reasons", "done"),
    [
        ({}, [], [], False),
        ({"outputs": [], "finish_reason": []}, [], [], False),
        ({"outputs": ["a", None], "finish_reason": ["stop", None]}, ["a", None], ["stop", None], False),
        (
            {"outputs": ["a", {"b": 1}], "finish_reason": ["stop", "length"]},
            ["a", {"b": 1}],
            ["stop", "length"],
            True,
        ),
        ({"outputs": ["so far"], "finish_reason": [None]}, ["so far"], [None], False),
        ({"outputs": "so far", "finish_reason": None}, ["so far"], [None], False),
        ({"outputs": ["a", "b"], "finish_reason": "stop"}, ["a", "b"], ["stop", "stop"], True),
    ],
)
def test_a_result_is_read_from_its_first_empty_answer_on(ask, answer, outputs, reasons, done):
    found = read(ask("1"), answer)
    assert (found.outputs, found.finish_reason, found.done) == (outputs, reasons, done)


@pytest.mark.parametrize(
    ("answer", "total", "done"),
    [
        ({}, 0, 0),
        ({"outputs": [], "finish_reason": []}, 0, 0),
        ({"outputs": ["a", None, None], "finish_reason": ["stop", None, None]}, 3, 1),
        ({"outputs": ["a", "b"], "finish_reason": ["stop", "timeout"]}, 2, 2),
        ({"outputs": ["a", {"b": [1, {}]}], "finish_reason": "stop"}, 2, 2),
        ({"outputs": [None, None], "finish_reason": None}, 2, 0),
    ],
)
def test_progress_counts_finish_reasons(answer, total, done):
    assert read(batches.completions_progress("1"), answer) == batches.BatchProgress(total, done)


@pytest.mark.parametrize("call", [batches.completions_progress("1"), batches.completions_result("1")])
@pytest.mark.parametrize("answer", [[], "x", {"finish_reason": 5, "outputs": ["a"]}, b"{", b""])
def test_a_result_of_another_form_is_refused(call, answer):
    with pytest.raises(ValueError, match=r".+"):
        read(call, answer)


@pytest.mark.parametrize(
    "call",
    [
        batches.start_completions(model_name="m", prompt=["p"]),
        batches.start_embeddings(prompt=["p"]),
        completions.start_streaming(model_name="m", prompt="p"),
    ],
    ids=lambda call: call.operation,
)
def test_the_id_of_started_work_is_a_text_even_where_a_server_counts(call):
    assert read(call, {"id": "2af8"}) == "2af8"
    assert read(call, {"id": 17}) == "17"


@pytest.mark.parametrize(
    ("answer", "vectors"),
    [
        ({"embedding": [0.5, -1, 2e-3]}, [[0.5, -1.0, 0.002]]),
        ({"embedding": [[0.5, 1]]}, [[0.5, 1.0]]),
    ],
)
def test_one_texts_vector_is_read_flat_or_nested(answer, vectors):
    assert read(embeddings.embed(prompt="p"), answer) == vectors
    assert read(embeddings.embed(prompt=["p"]), answer) == vectors


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"embedding": []},
        {"embedding": [1.0, 2.0]},
        {"embedding": [[1.0], [1.0, 2.0]]},
        {"embedding": [[], []]},
        {"embedding": [["a"], ["b"]]},
        {"embedding": [[1.0]] * 3},
        {"embedding": "x"},
        [],
    ],
)
def test_vectors_that_do_not_fit_the_texts_are_refused(answer):
    with pytest.raises(ValueError, match=r".+"):
        read(embeddings.embed(prompt=["p", "q"]), answer)


@pytest.mark.parametrize("answer", [{}, {"embedding": []}, {"embedding": None}, b"", b"null", b"[]", b" \n"])
def test_a_batch_of_vectors_is_not_done_while_it_is_empty(answer):
    assert read(batches.embeddings_result("1"), answer) is None
    assert read(batches.embeddings_progress("1"), answer) == 0


def test_a_batch_of_vectors_is_read():
    answer = {"embedding": [[1, 2], [3, 4]]}
    assert read(batches.embeddings_result("1"), answer) == [[1.0, 2.0], [3.0, 4.0]]
    assert read(batches.embeddings_progress("1"), answer) == 2
    assert read(batches.embeddings_progress("1"), {"embedding": [1, 2, 3]}) == 1


def test_a_chat_answer_is_read():
    call = chat.complete(model="m", messages=[{"role": "user", "content": "u"}])
    choice = {"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}
    found = read(call, {"id": "x", "object": "chat.completion", "choices": [choice], "usage": usage})
    assert (found.content, found.finish_reason, found.usage.total_tokens) == ("hi", "stop", 4)
    parts = {"message": {"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}}
    assert read(call, {"choices": [parts]}) == chat.ChatAnswer("ab", None, None)
    assert read(call, {"choices": [{"message": {"content": None}, "finish_reason": "length"}]}).content == ""
    with pytest.raises(ValueError, match="choices"):
        read(call, {"choices": []})


@pytest.mark.parametrize(
    "answer",
    [
        {"object": "list", "data": [{"id": "a", "object": "model"}, {"id": "b"}]},
        ["a", "b"],
        [{"model_name": "a"}, {"id": "b"}],
        {"models": ["a", {"name": "b"}]},
    ],
)
def test_the_models_that_can_chat_are_named(answer):
    assert read(chat.models(), answer) == ["a", "b"]


# --- jobs

STATES = [
    "CREATED",
    "LOADING DATA",
    "TRAINING_MODEL",
    "partially completed",
    "timed_out",
    "CANCELED",
    "Brand New",
]


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("job_id", [123, "123"])
def test_a_tuning_job_keeps_the_platforms_word_and_has_a_text_as_id(state, job_id):
    found = read(training.job(123), {"job_id": job_id, "status": state})
    assert (found.job_id, found.status) == ("123", state)
    started = read(training.train(model_name="m"), {"job_id": job_id, "status": state})
    assert (started.job_id, started.status) == ("123", state)


def test_a_whole_tuning_job_is_read():
    history = [
        {"loss": 2.5, "learning_rate": 9e-4, "epoch": 0.5, "step": 10, "remaining_time": 55.5, "new": 1}
    ]
    found = read(
        training.job(5),
        {
            "job_id": 5,
            "status": "COMPLETED",
            "dataset_id": None,
            "model_name": "a" * 64,
            "custom_model_name": None,
            "start_time": "2025-01-01T00:00:00",
            "is_public": False,
            "history": json.dumps(history),
            "resume_count": 1,
            "resume_limit": 10,
            "from_a_newer_server": {"a": 1},
        },
    )
    (step,) = found.steps()
    assert (step.step, step.loss, step.remaining_time) == (10, 2.5, 55.5)
    assert (found.resume_count, found.resume_limit, found.model_name) == (1, 10, "a" * 64)


@pytest.mark.parametrize(
    ("history", "losses"),
    [
        ('[{"loss": 1.5}, {"loss": 1.0}]', [1.5, 1.0]),
        ([{"loss": 1.5}], [1.5]),
        ('[{"loss": 1.5}, {"loss": "broken"}, 7, {"loss": 0.5}]', [1.5, 0.5]),
        ("", []),
        (None, []),
        ("[{", []),
        ("{}", []),
        ("5", []),
        ("[" * 100_000, []),
    ],
)
def test_a_history_is_a_text_within_json_and_never_fails_a_poll(history, losses):
    found = read(training.job(5), {"job_id": 5, "status": "TRAINING MODEL", "history": history})
    assert [step.loss for step in found.steps()] == losses


def test_a_loss_that_is_no_number_is_read_as_such():
    (step,) = read(training.job(5), {"job_id": 5, "status": "x", "history": '[{"loss": NaN}]'}).steps()
    assert step.loss != step.loss


@pytest.mark.parametrize("wrap", [lambda rows: rows, lambda rows: {"jobs": rows}], ids=["bare", "wrapped"])
def test_all_tuning_jobs_are_listed(wrap):
    rows = [{"job_id": 1, "status": "QUEUED"}, {"job_id": "2", "status": "FAILED"}]
    found = read(training.list_jobs(), wrap(rows))
    assert [(job.job_id, job.status) for job in found] == [("1", "QUEUED"), ("2", "FAILED")]
    assert read(training.list_jobs(), wrap([])) == []


@pytest.mark.parametrize("call", [training.cancel(1), training.resume(1)], ids=lambda call: call.operation)
@pytest.mark.parametrize(
    ("answer", "state"),
    [
        ({"status": "CANCELLED"}, "CANCELLED"),
        ({}, None),
        ("CANCELLED", "CANCELLED"),
        (None, None),
        (b"", None),
    ],
)
def test_cancelling_and_resuming_tell_a_state_where_the_platform_does(call, answer, state):
    assert read(call, answer) == state


@pytest.mark.parametrize("answer", [{"cancelled": [1, 2]}, [], b""])
def test_cancelling_all_takes_any_answer(answer):
    read(training.cancel_all(), answer)


def test_an_evaluated_tuning_job_is_read():
    outputs = [{"model_name": "base", "output": "a"}, {"model_name": "tuned", "output": "b"}]
    found = read(training.evaluation(1), {"job_id": 1, "eval_results": [{"input": "i", "outputs": outputs}]})
    assert found.job_id == "1"
    assert found.eval_results[0].outputs[1].output == "b"
    assert read(training.evaluation(1), {}).eval_results == []


@pytest.mark.parametrize("call", [memory_rag.status("1"), memory_rag.status_by_query("1")])
@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize(
    "wrap", [lambda state: state, lambda state: {"outputs": state}], ids=["flat", "nested"]
)
def test_the_state_of_an_index_is_read_flat_or_nested(call, state, wrap):
    assert read(call, wrap({"status": state})) == state


@pytest.mark.parametrize("detail", ["broken.pdf cannot be read", None, "", {"a": 1}])
def test_why_an_index_failed_is_read_where_it_is_a_text(detail):
    told = read(memory_rag.job("1"), {"outputs": {"status": "FAILED", "detail": detail}}).detail
    assert told == (detail if isinstance(detail, str) and detail else None)


@pytest.mark.parametrize("answer", [{}, {"outputs": {}}, {"outputs": "x"}, {"status": None}, [], None, b""])
def test_an_index_without_a_state_is_refused(answer):
    with pytest.raises(ValueError, match=r".+"):
        read(memory_rag.status("1"), answer)


@pytest.mark.parametrize(
    ("detail", "state"),
    [
        ("Memory RAG job 7 status is not COMPLETED, current status: CREATED.", "CREATED"),
        ("status is not COMPLETED, current status: training_model", "training_model"),
        ("status is not COMPLETED, current status: TIMED OUT. Try later", "TIMED OUT"),
        ("no such job", None),
        ("", None),
    ],
)
def test_an_index_that_is_not_ready_tells_its_state_in_the_error(detail, state):
    assert memory_rag.state_in(detail) == state


@pytest.mark.parametrize(
    "answer", [{"job_id": 1, "status": "CREATED"}, {"outputs": {"job_id": "1", "status": "CREATED"}}]
)
def test_a_started_index_is_read(answer):
    found = read(memory_rag.add_index(prompt="p", job_id=1), answer)
    assert (found.job_id, found.status) == ("1", "CREATED")


@pytest.mark.parametrize(
    ("answer", "pairs"),
    [
        (
            [{"Question 1": "q1", "Answer 1": "a1"}, {"Question 2": "q2", "Answer 2": "a2"}],
            [("q1", "a1"), ("q2", "a2")],
        ),
        ([{"Question 1": "q1", "Answer 1": "a1", "Question 2": "q2"}], [("q1", "a1"), ("q2", None)]),
        ({"suggestions": [{"question": "q", "answer": "a"}]}, [("q", "a")]),
        ([], []),
        ([{"other": 1}], []),
    ],
)
def test_suggestions_are_read_as_pairs(answer, pairs):
    found = read(memory_rag.suggestions(1), answer)
    assert [(each.question, each.answer) for each in found] == pairs


def test_a_training_log_is_read():
    assert read(memory_rag.training_log(1), ["one", "two"]) == ["one", "two"]
    assert read(memory_rag.training_log(1), {"training_log": ["one"]}) == ["one"]


@pytest.mark.parametrize(
    ("answer", "job_id", "state", "model"),
    [
        ({"status": "completed", "model_id": "u-1"}, "j", "completed", "u-1"),
        ({"job_id": "j2", "status": "TRAINING_MODEL", "model_id": None}, "j2", "TRAINING_MODEL", None),
        ({"job_id": 9, "status": "FAILED", "error": "why"}, "9", "FAILED", None),
        ({"outputs": {"status": "CREATED"}}, "j", "CREATED", None),
        ({"job_id": "j"}, "j", None, None),
        ({"model_id": "u-1"}, "j", None, "u-1"),
    ],
)
def test_the_state_of_a_classifiers_job_is_read(answer, job_id, state, model):
    found = read(classifiers.status("j"), answer)
    assert (found.job_id, found.status, found.model_id) == (job_id, state, model)


@pytest.mark.parametrize("answer", [{}, {"detail": "hm"}, [], {"status": 5.5, "model_id": {}}])
def test_a_classifiers_job_without_a_state_is_refused(answer):
    with pytest.raises(ValueError, match=r".+"):
        read(classifiers.status("j"), answer)


def test_a_started_classifier_is_read():
    for call in (
        classifiers.initialize(name="n", model_name="m", classes={"a": "about a"}),
        classifiers.train(name="n"),
    ):
        assert read(call, {"job_id": "j"}).job_id == "j"
        assert read(call, {"job_id": 4, "status": "CREATED"}).job_id == "4"


@pytest.mark.parametrize("ask", [classifiers.classify, classifiers.classify_v1])
def test_classes_are_read_one_list_per_text(ask):
    scores = [
        {"class_id": 1, "class_name": "a", "prob": 0.9},
        {"class_name": "b", "prob": 0.1, "metadata": {}},
    ]
    found = read(ask(model_id="m", prompt=["p", "q"]), {"classification": [scores, []]})
    assert [(each.class_name, each.prob) for each in found[0]] == [("a", 0.9), ("b", 0.1)]
    assert found[1] == []
    with pytest.raises(ValueError, match="1 classifications were answered for 2 texts"):
        read(ask(model_id="m", prompt=["p", "q"]), {"classification": [scores]})


def test_a_prediction_is_read_bare_or_listed():
    assert read(classifiers.predict_v1(model_id="m", prompt="p"), {"prediction": "a"}) == ["a"]
    assert read(classifiers.predict_v1(model_id="m", prompt=["p", "q"]), {"prediction": ["a", "b"]}) == [
        "a",
        "b",
    ]
    with pytest.raises(ValueError, match="1 predictions were answered for 2 texts"):
        read(classifiers.predict_v1(model_id="m", prompt=["p", "q"]), {"prediction": "a"})


@pytest.mark.parametrize(
    "answer", [["a", "b"], {"projects": ["a", "b"]}, [{"project_name": "a"}, {"name": "b"}]]
)
def test_projects_are_named(answer):
    assert read(classifier_projects.list_projects(), answer) == ["a", "b"]


@pytest.mark.parametrize("answer", [["a"], {"datasets": ["a"]}, [{"dataset_name": "a", "rows": 3}]])
def test_datasets_of_a_project_are_named(answer):
    assert read(classifier_projects.list_datasets("p"), answer) == ["a"]


def test_jobs_and_models_of_a_project_are_listed():
    (job,) = read(classifier_projects.list_jobs("p"), [{"job_id": 1, "status": "x"}])
    assert job.job_id == "1"
    (model,) = read(classifier_projects.list_models("p"), {"models": [{"model_id": "u", "accuracy": 0.9}]})
    assert (model.model_id, model.model_extra) == ("u", {"accuracy": 0.9})


def test_a_downloaded_dataset_is_given_as_it_is():
    call = classifier_projects.download_dataset(project_name="p", dataset_name="d")
    assert call.read(b"\x00rows") == b"\x00rows"


# --- datasets, models, the platform


def test_datasets_for_tuning_are_read():
    assert read(datasets.upload_base_path(), {"upload_base_path": "azure"}).azure
    assert not read(datasets.upload_base_path(), {"upload_base_path": "/app/data"}).azure
    made = {"dataset_id": "d", "dataset_location": "/data/d"}
    for call in (
        datasets.create(upload_base_path="x"),
        datasets.upload(upload_base_path="x", data=[{"input": "i"}]),
    ):
        assert read(call, made).dataset_location == "/data/d"
    location = read(datasets.existing(dataset_id="d", upload_base_path="x"), {"dataset_location": "/data/d"})
    assert location.dataset_location == "/data/d"


@pytest.mark.parametrize("slash", [True, False])
@pytest.mark.parametrize("wrap", [lambda rows: rows, lambda rows: {"models": rows}], ids=["bare", "wrapped"])
def test_downloaded_models_are_listed(slash, wrap):
    row = {
        "model_id": 3,
        "model_name": "org/m",
        "model_type": "transformer",
        "user_id": "7",
        "status": "available",
    }
    (found,) = read(models.list_downloaded(trailing_slash=slash), wrap([row]))
    assert (found.model_id, found.user_id, found.status) == ("3", "7", "available")
    (bare,) = read(
        models.list_downloaded(trailing_slash=slash), wrap([{"model_name": "x", "model_type": "new"}])
    )
    assert bare.status is None


def test_a_download_tells_its_state():
    found = read(
        models.download("m"), {"model_name": "m", "model_type": "embedding", "status": "downloading"}
    )
    assert found.status == "downloading"


def test_the_version_is_read():
    apis = [{"name": "v1", "path": "/v1"}]
    found = read(platform.version(), {"server": "1.13.6", "client": "3.4.6", "api": apis})
    assert (found.server, found.api[0].path) == ("1.13.6", "/v1")
    assert read(platform.version(), {}).server is None


def test_an_evaluation_is_read():
    call = evaluation.run(
        test_model_id="m", test_eval_type="t", eval_data=[{"input": "i", "target": "t"}], eval_data_id="d"
    )
    prediction = {"input": "i", "target": "t", "test_output": "t", "base_output": None}
    found = read(
        call,
        {
            "eval_job_id": 4,
            "metrics": {"tuned": {"f1": 0.9}},
            "status": "COMPLETED",
            "predictions": [prediction],
        },
    )
    assert found.eval_job_id == "4"
    assert found.metrics == {"tuned": {"f1": 0.9}}
    assert found.predictions[0].test_output == "t"
