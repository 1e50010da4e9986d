"""Inference over rows with a deployment on Emissary."""

from __future__ import annotations

import json

import pytest

from airflow_provider_lamini.api.errors import NotFoundError
from airflow_provider_lamini.exceptions import InvalidArgumentError, JobFailedError, WaitTimeoutError
from airflow_provider_lamini.operators.emissary.batch_inference import EmissaryBatchInferenceOperator
from airflow_provider_lamini.results import read_outputs
from tests.support.tasks import TI, WAITING, begin, maker, run_to_end

pytestmark = pytest.mark.any_airflow

ROWS = [{"prompt": f"row {number}", "target": f"row {number % 2}"} for number in range(25)]
REACTIVATE = "POST /v1/projects/ms-1/deployments/dp-1/reactivate"


@pytest.fixture
def infer(emissary, out):
    emissary.new("deployment", ("Deployed",), name="live")
    return maker(
        EmissaryBatchInferenceOperator,
        task_id="infer",
        input=ROWS,
        output=str(out),
        model_name="live",
        project_id="ms-1",
        chunk_size=10,
        **WAITING,
    )


@pytest.mark.parametrize("endpoint", ["completions", "chat"])
def test_each_row_is_answered_once_and_tokens_are_summed(emissary, infer, out, endpoint):
    result = run_to_end(infer(endpoint=endpoint, prompt="Say {prompt}", passthrough=["target"])).result
    rows = list(read_outputs(str(out)))
    assert [row["output"] for row in rows] == [f"SAY ROW {number}" for number in range(25)]
    assert rows[3]["target"] == "row 1"
    sums = {"prompt_tokens": 75, "completion_tokens": 50, "total_tokens": 125}
    assert result["counts"]["sums"] == sums
    assert json.loads((out / "manifest.json").read_text())["counts"]["sums"] == sums
    assert len(emissary.prompts) == 25


def test_options_are_sent(emissary, infer):
    options = {"max_new_tokens": "9", "temperature": "0.5", "top_p": 0.9, "top_k": 40}
    run_to_end(infer(**options, input=["a"], prompt="prompt"))
    sampling = {"temperature": 0.5, "top_p": 0.9, "top_k": 40}
    assert emissary.sent("/v1/completions") == [
        {"model": "live", "prompt": "a", "max_completion_tokens": 9, **sampling}
    ]
    run_to_end(infer(**options, input=["a"], endpoint="chat", system="be brief", on_other_run="replace"))
    messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "a"}]
    assert emissary.sent("/v1/chat/completions") == [
        {"model": "live", "messages": messages, "max_tokens": 9, **sampling}
    ]


def test_conversations_and_parameters_of_a_row_are_sent(emissary, infer, out):
    chat = [
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": "hi"},
        {"role": "user", "content": "bye"},
    ]
    body = {"messages": [{"role": "user", "content": "again"}], "max_tokens": 5, "top_k": 3, "model": "other"}
    rows = [
        {"talk": chat, "heat": 0.25, "who": "you are {x}"},
        {"talk": json.dumps(body), "heat": None, "who": None},
        {"talk": [*chat, {"role": "assistant", "content": "dropped"}], "heat": "", "who": ""},
    ]
    overrides = {"temperature": "heat", "system": "who"}
    arguments = {"messages": "talk", "overrides": overrides, "system": "brief", "temperature": 1, "top_k": 7}
    run_to_end(infer(endpoint="chat", input=rows, **arguments, max_in_flight=1))
    brief = {"role": "system", "content": "brief"}
    assert emissary.sent("/v1/chat/completions") == [
        {
            "model": "live",
            "messages": [{"role": "system", "content": "you are {x}"}, *chat],
            "temperature": 0.25,
            "top_k": 7,
        },
        {
            "model": "live",
            "messages": [brief, *body["messages"]],
            "max_tokens": 5,
            "temperature": 1.0,
            "top_k": 3,
        },
        {"model": "live", "messages": [brief, *chat], "temperature": 1.0, "top_k": 7},
    ]
    assert [row["output"] for row in read_outputs(str(out))] == ["BYE", "AGAIN", "BYE"]


def test_rows_of_completions_set_their_own_parameters(emissary, infer):
    rows = [{"prompt": "a", "top": 3, "length": 8.0, "name": "base"}, {"prompt": "b"}]
    overrides = {"top_k": "top", "max_new_tokens": "length", "model_name": "name"}
    run_to_end(infer(input=rows, overrides=overrides, top_k=9, max_in_flight=1))
    assert emissary.sent("/v1/completions") == [
        {"model": "base", "prompt": "a", "max_completion_tokens": 8, "top_k": 3},
        {"model": "live", "prompt": "b", "top_k": 9},
    ]


USER = {"role": "user", "content": "a"}


@pytest.mark.parametrize(
    ("conversation", "words"),
    [
        ({"messages": [USER], "seed": 1}, "has 'seed', which the endpoint does not take"),
        ({"messages": [USER], "tools": []}, "has 'tools', which the endpoint does not take"),
        ({"messages": [USER], "top_k": 0}, "has 'top_k', which must be a whole number"),
        ([{"role": "developer", "content": "d"}, USER], "message 0 whose 'role' the endpoint does not take"),
        ([{**USER, "name": "n"}], "message 0 with 'name', which the endpoint does not take"),
        ([], "has no messages"),
    ],
)
def test_a_conversation_that_the_platform_does_not_take_is_a_bad_row(
    emissary, infer, out, conversation, words
):
    rows = [{"talk": conversation}, {"talk": [USER]}]
    talk = infer(endpoint="chat", messages="talk", input=rows, on_bad_row="error", max_failed_rows=1)
    run_to_end(talk)
    bad, good = read_outputs(str(out))
    assert words in bad["error"]
    assert good["output"] == "A"
    assert len(emissary.prompts) == 1


def test_answers_are_read_as_the_output_type_and_checked(emissary, infer, out):
    texts = ['```json\n{"n": 1}\n```', '{"n": 2}', "none"]
    emissary.generate = lambda prompt: prompt
    run_to_end(
        infer(
            input=texts,
            output_type={"n": "int"},
            check=lambda output: output["n"] < 2,
            max_failed_rows=2,
            row_retries=0,
        )
    )
    good, refused, wrong = read_outputs(str(out))
    assert good["output"] == {"n": 1}
    assert "check did not accept" in refused["error"]
    assert "does not fit output_type" in wrong["error"]


def test_the_policy_for_answers_is_the_same_as_for_lamini(emissary, infer, out):
    emissary.generate = lambda prompt: prompt.strip("-")
    emissary.finish_reason = "length"
    run_to_end(infer(input=["a"], fail_on_length=True, max_failed_rows=1, row_retries=0))
    assert "token limit" in next(iter(read_outputs(str(out))))["error"]
    emissary.finish_reason = "stop"
    run_to_end(infer(input=["-"], accept_answers=["empty"], on_other_run="replace"))
    assert [row["output"] for row in read_outputs(str(out))] == [""]


def test_texts_are_classified_with_probabilities_or_logits(infer, out):
    texts = ["buy this", "hello"]
    run_to_end(infer(endpoint="classification", data_format="probs", input=texts))
    assert [row["output"] for row in read_outputs(str(out))] == [
        {
            "class": "spam",
            "prob": 0.75,
            "classes": [{"class": "spam", "prob": 0.75}, {"class": "ham", "prob": 0.25}],
        },
        {
            "class": "ham",
            "prob": 0.75,
            "classes": [{"class": "ham", "prob": 0.75}, {"class": "spam", "prob": 0.25}],
        },
    ]
    run_to_end(infer(endpoint="classification", input=texts, on_other_run="replace"))
    assert [(row["output"]["class"], row["output"]["logit"]) for row in read_outputs(str(out))] == [
        ("spam", 2.0),
        ("ham", 0.5),
    ]


def test_texts_are_compared(emissary, infer, out):
    rows = [{"prompt": "a {x}", "target": "a {x}"}, {"prompt": "a", "target": "b"}]
    run_to_end(
        infer(
            endpoint="embeddings",
            input=rows,
            target="{target}",
            measures=["cosine", "manhattan"],
            max_in_flight=1,
        )
    )
    assert [row["output"] for row in read_outputs(str(out))] == [
        {"cosine": 1.0, "manhattan": 2.0},
        {"cosine": 0.0, "manhattan": 2.0},
    ]
    assert emissary.sent("/v1/embeddings")[1] == {
        "model": "live",
        "input": "a",
        "target": "b",
        "cosine": True,
        "manhattan": True,
        "euclidean": False,
    }


def test_texts_with_any_character_are_compared_whole(emissary, infer):
    """As texts with control characters, quotes and brackets, which separate texts elsewhere."""
    pairs = [("a\x1fb", "c"), ("a", "b\x1fc"), ('["a"', '"b"]'), ("a\0\u2028", "\\")]
    rows = [{"prompt": text, "target": target} for text, target in pairs]
    run_to_end(infer(endpoint="embeddings", input=rows, target="target", max_prompt_chars=8, max_in_flight=1))
    sent = [(body["input"], body["target"]) for body in emissary.sent("/v1/embeddings")]
    assert sent == pairs


def test_a_text_that_is_not_unicode_fails_its_row(emissary, infer, out):
    rows = [{"prompt": "a", "target": "\ud800"}, {"prompt": "a", "target": "a"}]
    run_to_end(
        infer(endpoint="embeddings", input=rows, target="target", on_bad_row="error", max_failed_rows=1)
    )
    bad, good = read_outputs(str(out))
    assert "surrogate" in bad["error"]
    assert good["output"] == {"cosine": 1.0}
    assert len(emissary.sent("/v1/embeddings")) == 1


@pytest.mark.parametrize(
    ("value", "reason"),
    [("", "no_prompt"), (" \u200b", "no_prompt"), ([{"role": "user", "content": "a"}], "bad_row")],
)
@pytest.mark.parametrize("column", ["prompt", "target"])
def test_a_row_without_one_of_both_texts_is_not_sent(emissary, infer, column, value, reason):
    rows = [{"prompt": "a", "target": "b"} | {column: value}, {"prompt": "a", "target": "b"}]
    with pytest.raises(InvalidArgumentError, match=rf"{column}.* (is blank|has a conversation)"):
        run_to_end(infer(endpoint="embeddings", input=rows, target="target"))
    keep = {"on_bad_row": "error", "max_failed_rows": 1}
    ended = run_to_end(infer(endpoint="embeddings", input=rows, target="target", **keep))
    assert ended.result["counts"]["failures"] == {reason: 1}
    assert [body["input"] for body in emissary.sent("/v1/embeddings")] == ["a"]


@pytest.mark.parametrize("deferrable", [True, False])
def test_a_parked_deployment_is_woken_first_without_holding_the_worker(emissary, infer, deferrable):
    emissary.deployments["dp-1"].states = ["Deactivated"]
    ended = run_to_end(infer(deferrable=deferrable))
    assert ended.result["counts"]["ok"] == 25
    assert emissary.request_counts[REACTIVATE] == 1
    assert len(ended.deferrals) == deferrable
    for deferral in ended.deferrals:
        assert deferral.trigger["kind"] == "emissary/deployment"


def test_waking_has_a_deadline_of_its_own_and_a_retry_waits_again(emissary, infer):
    emissary.deployments["dp-1"].states = ["Deactivated"]
    emissary.scripts.woken_deployment = ("Reactivating",)
    with pytest.raises(
        WaitTimeoutError, match=r"Deployment live \(ms-1/dp-1\) was not active after 1 s"
    ) as late:
        run_to_end(infer(wake_timeout=1), TI)
    assert "A retry waits again" in str(late.value)
    assert not emissary.prompts
    emissary.deployments["dp-1"].states = ["Reactivating", "Deployed"]
    assert run_to_end(infer(wake_timeout=20), TI.retried()).result["counts"]["ok"] == 25
    assert emissary.request_counts[REACTIVATE] == 1


def test_the_deadline_of_the_task_stays_where_it_was_after_waking(emissary, infer):
    emissary.deployments["dp-1"].states = ["Deactivated"]
    deferral = begin(infer(wake_timeout=5, timeout=3600))
    waking, task = deferral.trigger["deadline"], deferral.trigger["task_deadline"]
    assert 3590 < task - waking < 3600
    assert deferral.wait()["task_deadline"] == task


def test_the_engine_of_a_deployment_is_woken(emissary, infer):
    emissary.new("engine", ("Inactive",))
    emissary.deployments["dp-1"].engine = "engine-1"
    ended = run_to_end(infer(project_id=None, engine_id="engine-1"))
    assert ended.result["counts"]["ok"] == 25
    assert emissary.request_counts["POST /v1/engines/engine-1/reactivate"] == 1


@pytest.mark.parametrize("state", ["Failed", "Terminated", "Cancelled", "TimedOut"])
def test_a_dead_deployment_is_one_clear_error(emissary, infer, state):
    emissary.deployments["dp-1"].states = [state]
    with pytest.raises(
        JobFailedError, match=f"Deployment live in project ms-1 is {state}. It cannot be woken"
    ):
        run_to_end(infer())
    assert not emissary.prompts


def test_a_deployment_that_does_not_exist_is_one_clear_error(infer):
    with pytest.raises(
        JobFailedError, match="There is no deployment other in project ms-1: deploy the checkpoint"
    ):
        run_to_end(infer(model_name="other"))


def test_a_deployment_that_dies_while_rows_are_sent_is_one_error(emissary, infer):
    """It is not an error of each row."""
    with pytest.raises(NotFoundError, match="no such deployment"):
        run_to_end(infer(model_name="gone", project_id=None))
    assert sum(emissary.request_counts.values()) < 25


@pytest.mark.parametrize("engine", [False, True])
def test_a_deployment_that_is_parked_while_rows_are_sent_is_one_error_and_a_retry_continues(
    emissary, infer, engine
):
    """Its rows have not failed: nobody would send them again."""
    deployment = emissary.deployments["dp-1"]
    served = {}
    if engine:
        emissary.new("engine", ("Active",))
        deployment.engine = "engine-1"
        served = {"project_id": None, "engine_id": "engine-1"}

    def park(prompt):
        if len(emissary.prompts) == 14:
            deployment.states = ["Deactivated"]
            for item in emissary.engines.values():
                item.states = ["Inactive"]
        return prompt

    emissary.generate = park
    run = infer(max_in_flight=1, max_failed_rows="100%", retries=1, **served)
    with pytest.raises(JobFailedError, match=r"is (Deactivated|Inactive)\. A retry wakes it"):
        run_to_end(run, TI)
    if engine:
        deployment.states = ["Deployed"]
    sent = len(emissary.prompts)
    counts = run_to_end(run, TI.retried()).result["counts"]
    assert counts["ok"] == 25
    assert len(emissary.prompts) == sent + 15, "the ten rows of the finished chunk are not sent again"


def test_a_deployment_that_ends_while_rows_are_sent_says_to_deploy_again(emissary, infer):
    emissary.generate = lambda _: setattr(emissary.deployments["dp-1"], "states", ["Terminated"]) or "a"
    with pytest.raises(
        JobFailedError, match=r"live is Terminated. It cannot be woken: deploy the checkpoint"
    ):
        run_to_end(infer(max_in_flight=1, max_failed_rows="100%"))


@pytest.mark.parametrize(
    ("status", "words", "failed"), [(400, "the network quota", 1), (429, "too long", 0), (503, "too long", 0)]
)
def test_the_status_of_an_error_decides_whether_a_row_has_failed_and_not_its_words(
    emissary, infer, status, words, failed
):
    """The deployment answers the other rows."""
    emissary.fail["/v1/completions"] = [(status, words)]
    counts = run_to_end(infer(max_failed_rows=1)).result["counts"]
    assert (counts["ok"], counts["failed"]) == (25 - failed, failed)


def test_a_base_model_needs_no_deployment(emissary, infer):
    assert run_to_end(infer(model_name="base", project_id=None)).result["counts"]["ok"] == 25
    assert not [request for request in emissary.request_counts if "deployments" in request]


def test_broken_input_is_refused_before_the_deployment_is_woken(emissary, infer):
    emissary.deployments["dp-1"].states = ["Deactivated"]
    with pytest.raises(InvalidArgumentError, match="column"):
        run_to_end(infer(prompt="{nothing}"))
    assert emissary.request_counts[REACTIVATE] == 0


def test_a_finished_run_wakes_nothing(emissary, infer):
    first = run_to_end(infer(), TI).result
    emissary.deployments["dp-1"].states = ["Deactivated"]
    assert run_to_end(infer(), TI.cleared()).result["counts"] == first["counts"]
    assert emissary.request_counts[REACTIVATE] == 0
    assert len(emissary.prompts) == 25


def test_a_retry_sends_only_what_is_left(emissary, infer):
    emissary.fail["/v1/completions"] = [(401, "not now")]
    with pytest.raises(Exception, match="401"):
        run_to_end(infer(max_in_flight=1), TI)
    assert run_to_end(infer(max_in_flight=1), TI.retried()).result["counts"]["ok"] == 25
    assert set(emissary.prompts) == {row["prompt"] for row in ROWS}
    assert len(emissary.prompts) <= 27, "only rows of unfinished chunks are sent again"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"endpoint": "embeddings"}, "target must be the name of a column"),
        ({"endpoint": "embeddings", "target": "{nothing}"}, "nothing"),
        ({"endpoint": "embeddings", "target": "target", "measures": ["angle"]}, "measures must be one of"),
        ({"system": "s"}, "system is for endpoint='chat'"),
        ({"endpoint": "chat", "system": "For { prompt }"}, r"Did you mean \{prompt\}"),
        ({"endpoint": "chat", "system": "s.txt"}, "system: the file 's.txt' is not in the Dag's folder"),
        ({"messages": "prompt"}, "messages needs endpoint='chat': /v1/completions takes texts"),
        ({"endpoint": "chat", "overrides": {"seed": "s"}}, "overrides has 'seed', which a row cannot set"),
        ({"endpoint": "classification", "top_k": 3}, "top_k needs endpoint='completions' or 'chat'"),
        ({"endpoint": "embeddings", "target": "target", "check": str}, "check needs endpoint='completions'"),
        ({"top_p": 0}, "top_p must be a number above 0 and up to 1"),
        ({"endpoint": "batch"}, "endpoint must be one of completions, chat"),
        ({"output": None}, "output must name the output folder"),
        ({"endpoint": "embeddings", "target": "{target}", "max_total_tokens": 9}, "reports no tokens"),
    ],
)
def test_wrong_arguments_are_refused(emissary, infer, arguments, words):
    with pytest.raises(InvalidArgumentError, match=words):
        run_to_end(infer(**arguments))
    assert not emissary.prompts


@pytest.mark.parametrize("endpoint", ["completions", "chat"])
def test_failed_rows_are_sent_again_by_a_later_run_with_their_index(emissary, infer, out, tmp_path, endpoint):
    rows = [{"id": number, "talk": row["prompt"]} for number, row in enumerate(ROWS)]
    rows[4]["talk"], rows[17]["talk"] = None, " "
    options = {"endpoint": endpoint, "prompt": "{talk}", "passthrough": ["talk", "id"]}
    run_to_end(infer(input=rows, on_bad_row="error", max_failed_rows=2, **options))
    rows[4]["talk"], rows[17]["talk"] = "now four", "now seventeen"
    again = str(tmp_path / "again")
    run_to_end(infer(input=rows, output=again, only_failed_of=str(out), **options))
    assert sorted(emissary.prompts[23:]) == ["now four", "now seventeen"]
    assert [(row["index"], row["id"], row["output"]) for row in read_outputs(again)] == [
        (4, 4, "NOW FOUR"),
        (17, 17, "NOW SEVENTEEN"),
    ]
