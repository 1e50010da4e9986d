"""Our models read every form of a response about texts and vectors that the platform's pages describe."""

from __future__ import annotations

import pytest

from airflow_provider_lamini.platforms.lamini.api import batches, chat, completions, embeddings, memory_rag
from tests.support.contract import read


@pytest.mark.parametrize(
    ("body", "outputs", "reasons"),
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
def test_the_completion_of_one_prompt_is_parsed_with_and_without_a_list(call, body, outputs, reasons):
    found = read(call, body)
    assert (found.outputs, found.finish_reason) == (outputs, reasons)


def test_several_completions_keep_their_order():
    call = completions.complete(model_name="m", prompt=["p", "q"])
    found = read(call, {"outputs": ["a", {"b": 1}], "finish_reason": ["stop", "length"]})
    assert found.outputs == ["a", {"b": 1}]
    assert found.done


@pytest.mark.parametrize(
    "body",
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
def test_completions_that_do_not_match_the_prompts_are_refused(body):
    """A row too few or too many would put answers beside the wrong questions."""
    with pytest.raises(ValueError, match=r"expected|prompts|must be"):
        read(completions.complete(model_name="m", prompt=["p", "q"]), body)


@pytest.mark.parametrize(
    ("prompt", "output_type", "body", "outputs"),
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
def test_responses_of_the_older_completions_are_parsed(prompt, output_type, body, outputs):
    call = completions.complete_v1(model_name="m", prompt=prompt, output_type=output_type)
    assert read(call, body).outputs == outputs


@pytest.mark.parametrize("body", [{"text": "a"}, ["a"], "a", [{"output": "a"}, {"output": "b"}], None])
def test_invalid_responses_of_the_older_completions_are_refused(body):
    with pytest.raises(ValueError, match=r"expected|for 1 prompt"):
        read(completions.complete_v1(model_name="m", prompt="p"), body)


@pytest.mark.parametrize("ask", [batches.completions_result, completions.streaming_result])
@pytest.mark.parametrize(
    ("body", "outputs", "reasons", "done"),
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
def test_a_batch_result_is_parsed_even_while_it_is_empty(ask, body, outputs, reasons, done):
    found = read(ask("1"), body)
    assert (found.outputs, found.finish_reason, found.done) == (outputs, reasons, done)


@pytest.mark.parametrize(
    ("body", "total", "done"),
    [
        ({}, 0, 0),
        ({"outputs": [], "finish_reason": []}, 0, 0),
        ({"outputs": ["a", None, None], "finish_reason": ["stop", None, None]}, 3, 1),
        ({"outputs": ["a", "b"], "finish_reason": ["stop", "timeout"]}, 2, 2),
        ({"outputs": ["a", {"b": [1, {}]}], "finish_reason": "stop"}, 2, 2),
        ({"outputs": [None, None], "finish_reason": None}, 2, 0),
    ],
)
def test_progress_counts_finish_reasons(body, total, done):
    assert read(batches.completions_progress("1"), body) == batches.BatchProgress(total, done)


@pytest.mark.parametrize("call", [batches.completions_progress("1"), batches.completions_result("1")])
@pytest.mark.parametrize("body", [[], "x", {"finish_reason": 5, "outputs": ["a"]}, b"{", b""])
def test_an_unexpected_batch_result_is_refused(call, body):
    with pytest.raises(ValueError, match=r".+"):
        read(call, body)


@pytest.mark.parametrize(
    "call",
    [
        batches.start_completions(model_name="m", prompt=["p"]),
        batches.start_embeddings(prompt=["p"]),
        completions.start_streaming(model_name="m", prompt="p"),
    ],
    ids=lambda call: call.operation,
)
def test_the_id_of_a_job_is_a_text_even_if_the_server_sends_a_number(call):
    assert read(call, {"id": "2af8"}) == "2af8"
    assert read(call, {"id": 17}) == "17"


@pytest.mark.parametrize(
    ("body", "vectors"),
    [
        ({"embedding": [0.5, -1, 2e-3]}, [[0.5, -1.0, 0.002]]),
        ({"embedding": [[0.5, 1]]}, [[0.5, 1.0]]),
    ],
)
def test_the_vector_of_one_text_is_parsed_flat_or_nested(body, vectors):
    assert read(embeddings.embed(prompt="p"), body) == vectors
    assert read(embeddings.embed(prompt=["p"]), body) == vectors


@pytest.mark.parametrize(
    "body",
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
def test_vectors_that_do_not_match_the_texts_are_refused(body):
    with pytest.raises(ValueError, match=r".+"):
        read(embeddings.embed(prompt=["p", "q"]), body)


@pytest.mark.parametrize("body", [{}, {"embedding": []}, {"embedding": None}, b"", b"null", b"[]", b" \n"])
def test_a_batch_of_vectors_is_not_done_while_it_is_empty(body):
    assert read(batches.embeddings_result("1"), body) is None
    assert read(batches.embeddings_progress("1"), body) == 0


def test_a_batch_of_vectors_is_parsed():
    body = {"embedding": [[1, 2], [3, 4]]}
    assert read(batches.embeddings_result("1"), body) == [[1.0, 2.0], [3.0, 4.0]]
    assert read(batches.embeddings_progress("1"), body) == 2
    assert read(batches.embeddings_progress("1"), {"embedding": [1, 2, 3]}) == 1


def test_a_chat_response_is_parsed():
    call = chat.complete(model="m", messages=[{"role": "user", "content": "u"}])
    choice = {"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}
    found = read(call, {"id": "x", "object": "chat.completion", "choices": [choice], "usage": usage})
    assert (found.content, found.finish_reason, found.usage.total_tokens) == ("hi", "stop", 4)
    parts = {"message": {"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}}
    assert read(call, {"choices": [parts]}) == chat.ChatResponse("ab", None, None)
    assert read(call, {"choices": [{"message": {"content": None}, "finish_reason": "length"}]}).content == ""
    with pytest.raises(ValueError, match="choices"):
        read(call, {"choices": []})


@pytest.mark.parametrize(
    "body",
    [
        {"object": "list", "data": [{"id": "a", "object": "model"}, {"id": "b"}]},
        ["a", "b"],
        [{"model_name": "a"}, {"id": "b"}],
        {"models": ["a", {"name": "b"}]},
    ],
)
def test_chat_models_are_listed(body):
    assert read(chat.models(), body) == ["a", "b"]
