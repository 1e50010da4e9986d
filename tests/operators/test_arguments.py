"""Arguments are validated when a task runs, before anything is sent, and each error names the invalid one."""

from __future__ import annotations

import json
import time
from datetime import timedelta

import pytest

from airflow_provider_lamini.exceptions import InvalidArgumentError
from airflow_provider_lamini.operators.embedding import LaminiEmbeddingOperator
from tests.support.platforms import posts
from tests.support.tasks import begin, run_to_end
from tests.support.upstream import text_for

INVALID = {
    "poll_interval": [0, -1, "often", None, True, float("nan"), "inf", "{{ params.x }}"],
    "timeout": [0, "-5", "a day", None, timedelta(0), float("inf")],
    "lamini_conn_id": ["", None],
    "model_name": ["", "  ", None, 7],
    "chunk_size": [0, -1, "ten", 1.5, None, True, ""],
    "max_in_flight": [0, "no", None],
    "row_retries": [-1, "some", None, 0.5],
    "max_failed_rows": [-1, "many", 1.5, "101%", True, [1]],
    "max_new_tokens": [0, "few", -3, "", False],
    "endpoint": ["v2", "", None, "BATCH"],
    "on_other_run": ["overwrite", None],
    "on_changed_input": ["cancel", None],
    "on_unknown_submission": ["maybe", None],
    "prompt": ["", None, 5],
    "passthrough": ["id", [""], [3], ["error"], ["index"], ["id", "id"], {"id": 1}],
    "output_type": [
        "str",
        {},
        {"mood": "text"},
        {"mood": []},
        {"mood": None},
        {"": "str"},
        {"mood": ["a", 1]},
        {"mood": {"a": "str"}},
    ],
    "output": ["", None, 5],
    "input": ["", None, 5, {"prompt": "a"}, b"prompt", "no such prompt", "/no/such/file.jsonl"],
}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param(name, value, id=f"{name}={value!r}")
        for name, values in INVALID.items()
        for value in values
    ],
)
def test_an_invalid_argument_fails_at_once_and_is_named(platform, inference, out, name, value):
    with pytest.raises(InvalidArgumentError) as caught:
        run_to_end(inference(**{name: value}))
    message = str(caught.value)
    assert name in message.lower()
    assert "\n" not in message
    assert len(message) < 500
    assert posts(platform) == {}
    assert not out.exists()


def test_an_invalid_argument_is_not_retried():
    from airflow.providers.common.compat.sdk import AirflowFailException

    assert issubclass(InvalidArgumentError, AirflowFailException)


def test_parsing_a_dag_validates_nothing(inference):
    inference(**{name: values[0] for name, values in INVALID.items()})()


@pytest.mark.parametrize("item", [None, ["a"], b"a", {1: "a"}, {"body": b"a"}, float("nan"), True])
def test_the_error_has_the_number_of_an_item_that_is_not_a_row(platform, inference, out, item):
    with pytest.raises(
        InvalidArgumentError, match=r"^row 2 (of the list|\(item 2 of the list\) has no value)"
    ):
        run_to_end(inference(input=["a", "b", item]))
    assert posts(platform) == {}
    assert not out.exists()


ROWS = [{"id": 1, "body": "one"}, {"id": 2, "text": "two"}]


@pytest.mark.parametrize("kind", ["list", "jsonl"])
def test_a_template_with_a_missing_column_fails_before_anything_is_sent(
    platform, inference, out, tmp_path, kind
):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    rows = ROWS if kind == "list" else str(path)
    with pytest.raises(InvalidArgumentError) as caught:
        run_to_end(inference(input=rows, prompt="About {body}"))
    message = str(caught.value)
    assert ("item 1 of the list" if kind == "list" else "rows.jsonl, line 2") in message
    assert "'body'" in message
    assert "Existing columns: id, text." in message
    assert posts(platform) == {}
    assert not out.exists()


def test_a_passthrough_column_that_no_row_has_fails_before_anything_is_sent(platform, inference, out):
    with pytest.raises(InvalidArgumentError, match=r"'bodi'.*Existing columns: id, body") as caught:
        run_to_end(inference(input=ROWS[:1], prompt="{body}", passthrough=["bodi"]))
    assert "one" not in str(caught.value)
    assert posts(platform) == {}
    assert not out.exists()


def test_the_error_does_not_repeat_a_prompt_passed_as_a_column(inference):
    with pytest.raises(InvalidArgumentError, match="name of a column") as caught:
        run_to_end(inference(input=ROWS, prompt="Tell me the secret word"))
    assert "secret" not in str(caught.value)


def test_a_row_that_cannot_be_parsed_is_named(platform, inference, out, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "a"}\n{"prompt": \n')
    with pytest.raises(InvalidArgumentError, match=r"rows\.jsonl, line 2"):
        run_to_end(inference(input=str(path)))
    assert posts(platform) == {}
    assert not out.exists()


def test_an_output_folder_inside_a_file_is_rejected(platform, inference, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidArgumentError, match="file"):
        run_to_end(inference(output=str(tmp_path / "file" / "out")))
    assert posts(platform) == {}


def test_an_output_folder_that_contains_the_input_is_rejected(platform, inference, tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a"}\n')
    with pytest.raises(InvalidArgumentError, match="contains files of the input"):
        run_to_end(inference(input=str(tmp_path / "rows.jsonl"), output=str(tmp_path)))
    assert posts(platform) == {}
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]


def test_numbers_can_be_strings_as_templates_render_them(inference, rows):
    before = time.time()
    ended = run_to_end(
        inference(
            input=[f"row {number}" for number in range(5)],
            chunk_size="2",
            max_in_flight="3",
            max_new_tokens="8",
            poll_interval="0.5",
            timeout="20.5",
            row_retries="2",
            max_failed_rows="50%",
        )
    )
    assert ended.result["chunks"] == 3
    assert len(ended.deferrals[0].trigger["job_ids"]) == 3
    assert ended.deferrals[0].trigger["poll_interval"] == 0.5
    assert ended.deferrals[0].trigger["deadline"] - before == pytest.approx(20.5, abs=0.5)
    assert len(rows()) == 5


def test_prompts_that_a_template_turned_into_numbers_become_strings_again(inference, rows):
    """``render_template_as_native_obj`` turns ``"7"`` into a number."""
    run_to_end(inference(input=[7, 2.5, "seven"]))
    assert [row["output"] for row in rows()] == ["7", "2.5", "seven"]


def test_a_timeout_can_be_a_timedelta(inference):
    before = time.time()
    deferral = begin(inference(timeout=timedelta(minutes=2)))
    assert deferral.trigger["deadline"] - before == pytest.approx(120, abs=1)


def test_a_tuple_of_prompts_is_a_list_too(inference, rows):
    run_to_end(inference(input=("a b", "c d")))
    assert [row["output"] for row in rows()] == [text_for("a b"), text_for("c d")]


def test_the_error_names_a_missing_connection(inference, out):
    from airflow.providers.common.compat.sdk import AirflowNotFoundException

    with pytest.raises(AirflowNotFoundException, match="lamini_elsewhere"):
        run_to_end(inference(lamini_conn_id="lamini_elsewhere"))
    assert not out.exists()


def test_a_prompt_above_the_limit_is_rejected_and_one_at_the_limit_is_sent(platform, inference, out):
    with_limit = lambda limit: inference(input=["short", "longer", "the longest"], max_prompt_chars=limit)  # noqa: E731
    with pytest.raises(
        InvalidArgumentError, match=r"item 2 of the list.* 11 characters, .* allows 10"
    ) as caught:
        run_to_end(with_limit(10))
    assert "longest" not in str(caught.value)
    assert posts(platform) == {}
    assert not out.exists()
    assert run_to_end(with_limit("11")).result["counts"]["ok"] == 3


def test_the_limit_also_holds_for_vectors_in_the_result(platform):
    make = lambda **given: LaminiEmbeddingOperator(  # noqa: E731
        task_id="embed", input=["short", "longer"], **given
    )
    with pytest.raises(InvalidArgumentError, match="row 1 of the list: the prompt has 6 characters"):
        run_to_end(lambda: make(max_prompt_chars=5))
    assert posts(platform) == {}
    assert len(run_to_end(lambda: make(max_prompt_chars=6)).result["embeddings"]) == 2
