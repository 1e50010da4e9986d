"""An index is queried with one prompt, a few, or rows from storage to storage."""

from __future__ import annotations

import asyncio
import json

import pytest

from airflow_provider_lamini.api.errors import InvalidRequestError, JobNotFoundError
from airflow_provider_lamini.exceptions import (
    AnswerError,
    InvalidArgumentError,
    JobFailedError,
    KeyRefusedError,
    TooManyFailedRowsError,
    WaitTimeoutError,
)
from airflow_provider_lamini.operators.memory_rag_query import LaminiMemoryRagQueryOperator
from tests.support.knowledge_platform import RAG, Scripted
from tests.support.results import rows_in
from tests.support.tasks import WAITING, begin, log_lines, maker, resume, run_to_end

FILES = {
    "a.md": b"alpha is first",
    "b.md": b"beta is second",
    "c.md": b"alpha again",
    "d.md": b"alpha, thrice",
}
PROMPTS = ["alpha where?", "beta where?", "gamma where?"]
ANSWERS = ["alpha is first / alpha again / alpha, thrice", "beta is second", "nothing"]
ASKED = f"POST {RAG}/completions"
SLOW = ("CREATED", *["TRAINING MODEL"] * 1000)


@pytest.fixture
def index(knowledge):
    made = Scripted(("COMPLETED",))
    made.files = FILES
    knowledge.indexes["1"] = made
    return made


@pytest.fixture
def query(index, tmp_path):  # noqa: ARG001 - the operator asks it
    """Returns a function that takes arguments and returns a factory of operators."""
    return maker(LaminiMemoryRagQueryOperator, task_id="ask", index_id="1", input=PROMPTS, **WAITING)


def test_the_result_of_one_prompt_is_its_answer(knowledge, query):
    ended = run_to_end(query(input=PROMPTS[0], index_id=1))
    assert ended.result == {"index_id": "1", "output": ANSWERS[0], "finish_reason": "stop"}
    assert knowledge.sent(f"{RAG}/completions") == [{"prompt": PROMPTS[0], "job_id": "1"}]


def test_the_results_of_a_few_prompts_are_in_order(query):
    result = run_to_end(query()).result
    assert result == {"index_id": "1", "outputs": ANSWERS, "finish_reasons": ["stop"] * 3}


@pytest.mark.parametrize("kept", [False, True])
def test_a_token_limit_cannot_be_kept(knowledge, query, tmp_path, kept):
    output = str(tmp_path / "out") if kept else None
    with pytest.raises(InvalidArgumentError, match="this endpoint reports no tokens"):
        run_to_end(query(output=output, max_total_tokens=100))
    assert not knowledge.sent(f"{RAG}/completions")


@pytest.mark.parametrize("kept", [False, True])
def test_answers_of_an_earlier_run_are_not_reused(knowledge, query, tmp_path, kept):
    earlier = str(tmp_path / "earlier")
    run_to_end(query(output=earlier, reuse_from=""))
    asked = len(knowledge.sent(f"{RAG}/completions"))
    with pytest.raises(InvalidArgumentError, match="reuse_from is not for queries"):
        run_to_end(query(output=str(tmp_path / "out") if kept else None, reuse_from=earlier))
    assert len(knowledge.sent(f"{RAG}/completions")) == asked == len(PROMPTS)


def test_the_arguments_of_a_query_are_sent(knowledge, query):
    given = {"rag_query_size": "1", "model_name": "other", "max_new_tokens": 7}
    ended = run_to_end(query(input=PROMPTS[0], **given))
    assert ended.result["output"] == "alpha is first"
    assert knowledge.sent(f"{RAG}/completions")[0] == {
        "prompt": PROMPTS[0],
        "job_id": "1",
        "rag_query_size": 1,
        "model_name": "other",
        "max_new_tokens": 7,
    }


def test_an_output_type_is_sent_and_the_answer_validated(knowledge, query):
    with pytest.raises(AnswerError, match="does not fit output_type"):
        run_to_end(query(input=PROMPTS[0], output_type='{"place": "str"}'))
    assert knowledge.sent(f"{RAG}/completions")[0]["output_type"] == {"place": "str"}


def test_rows_from_storage_are_answered(knowledge, query, tmp_path):
    source = tmp_path / "in.jsonl"
    source.write_text(
        "".join(json.dumps({"id": place, "q": each}) + "\n" for place, each in enumerate(PROMPTS))
    )
    out = tmp_path / "out"
    ended = run_to_end(
        query(input=str(source), prompt="{q} Say so.", output=str(out), passthrough=["id"], chunk_size=2)
    )
    assert [(row["id"], row["output"], row["finish_reason"]) for row in rows_in(out)] == [
        (number, answer, "stop") for number, answer in enumerate(ANSWERS)
    ]
    assert ended.result["counts"]["ok"] == 3
    assert ended.result["chunks"] == 2
    assert (ended.result["model"], ended.result["index_id"]) == (None, "1")
    assert sorted(body["prompt"] for body in knowledge.sent(f"{RAG}/completions")) == sorted(
        f"{prompt} Say so." for prompt in PROMPTS
    )


def test_a_refused_row_is_a_failed_row(query, tmp_path):
    prompts = [*PROMPTS, "refuse this"]
    arguments = {"input": prompts, "output": str(tmp_path / "out"), "max_failed_rows": 1}
    assert run_to_end(query(**arguments)).result["counts"]["failed"] == 1
    with pytest.raises(TooManyFailedRowsError):
        run_to_end(query(**arguments | {"max_failed_rows": 0}))
    with pytest.raises(InvalidRequestError, match="the prompt is refused"):
        run_to_end(query(input=prompts))


def test_a_retry_sends_only_the_remaining_rows(knowledge, query, tmp_path):
    arguments = {"output": str(tmp_path / "out"), "chunk_size": 1, "max_in_flight": 1, "row_retries": 0}
    knowledge.fail[f"{RAG}/completions"] = [(401, "key changed")]
    with pytest.raises(Exception, match="key changed"):
        run_to_end(query(**arguments))
    run_to_end(query(**arguments))
    asked = knowledge.request_counts[ASKED]
    assert asked >= 4
    run_to_end(query(**arguments))
    assert knowledge.request_counts[ASKED] == asked
    assert [row["output"] for row in rows_in(tmp_path / "out")] == ANSWERS


def test_results_of_another_prompt_are_not_mixed(query, tmp_path):
    run_to_end(query(output=str(tmp_path / "out")))
    with pytest.raises(InvalidArgumentError, match="other settings"):
        run_to_end(query(output=str(tmp_path / "out"), rag_query_size=1))


@pytest.mark.parametrize("deferrable", [True, False])
def test_the_task_waits_for_an_index_that_is_being_built(index, query, deferrable):
    index.states = ["CREATED", "TRAINING MODEL", "COMPLETED"]
    ended = run_to_end(query(input=PROMPTS[0], deferrable=deferrable))
    assert ended.result["output"] == ANSWERS[0]
    assert len(ended.deferrals) == deferrable


@pytest.mark.parametrize("states", [["FAILED"], ["CREATED", "FAILED"]])
def test_a_failed_index_is_not_queried(knowledge, index, query, states):
    index.states = states
    with pytest.raises(JobFailedError, match=r"Memory RAG job 1 ended as FAILED.*Build the index again"):
        run_to_end(query())
    assert knowledge.request_counts[ASKED] == 0


def test_the_error_names_a_missing_index(query):
    with pytest.raises(JobNotFoundError, match=r"knows no index 7\. Set index_id") as raised:
        run_to_end(query(index_id="7"))
    assert raised.value.status == 498
    assert "POST /alpha/memory-rag/status" in str(raised.value)


def test_an_index_that_vanishes_during_the_wait_is_an_error(index, query):
    index.states = list(SLOW)
    deferral = begin(query())
    event = {"version": 1, "ended": {}, "timed_out": False, "deadline": deferral.trigger["deadline"]}
    lost = {"1": {"reason": "HTTP 403.", "vanished": False, "refused": True}}
    with pytest.raises(KeyRefusedError, match="403"):
        resume(query(), deferral, {**event, "lost": lost})


def test_waiting_for_an_index_ends_at_the_timeout(index, query):
    index.states = list(SLOW)
    with pytest.raises(WaitTimeoutError):
        run_to_end(query(timeout=1))


def test_killing_a_waiting_task_does_not_affect_the_build(index, query):
    index.states = list(SLOW)
    with log_lines() as lines:
        asyncio.run(begin(query()).make_trigger().on_kill())
    assert any("cannot be cancelled" in line for line in lines)


@pytest.mark.parametrize(
    "wrong",
    [
        {"index_id": ""},
        {"index_id": None},
        {"index_id": True},
        {"input": None},
        {"input": True},
        {"input": ""},
        {"input": ["x"] * 101},
        {"input": [5.0, None]},
        {"input": "missing.jsonl"},
        {"input": "missing.jsonl", "output": "/tmp/x"},
        {"prompt": ""},
        {"prompt": "{missing}"},
        {"model_name": ""},
        {"rag_query_size": 0},
        {"rag_query_size": "three"},
        {"max_new_tokens": "0"},
        {"output_type": {"a": "date"}},
        {"output_type": "str"},
        {"max_failed_rows": "some"},
    ],
)
def test_a_wrong_argument_fails_before_anything_is_sent(knowledge, query, wrong):
    with pytest.raises(InvalidArgumentError):
        run_to_end(query(**wrong))
    assert knowledge.request_counts[ASKED] == 0


def test_neither_prompts_nor_the_key_are_in_the_log(knowledge, query, tmp_path):
    with log_lines() as lines:
        run_to_end(query())
        run_to_end(query(output=str(tmp_path / "out")))
    assert lines
    assert not [line for line in lines if "where?" in line or "alpha" in line or knowledge.key in line]
