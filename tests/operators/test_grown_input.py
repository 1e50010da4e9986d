"""An input that grows between or within tries: with `on_changed_input="extend"` only the new rows are sent."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_lamini.exceptions import InvalidArgumentError
from airflow_provider_lamini.results import read_outputs
from tests.support.tasks import begin, resume, run_to_end
from tests.support.upstream import text_for

pytestmark = pytest.mark.any_airflow

PROMPTS = [f"row {number} of all" for number in range(5)]
MORE = [f"row {number} of all" for number in range(5, 8)]
EXTEND = {"on_changed_input": "extend", "chunk_size": 2, "deferrable": False}


def table(prompts, **others):
    return [{"id": number, "prompt": prompt, **others} for number, prompt in enumerate(prompts)]


def lines(prompts, **others):
    return "".join(json.dumps(row) + "\n" for row in table(prompts, **others))


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_text(lines(PROMPTS))
    return path


def check(out, prompts):
    found = list(read_outputs(str(out)))
    assert [row["index"] for row in found] == list(range(len(prompts)))
    assert [row["output"] for row in found] == list(map(text_for, prompts))


@pytest.mark.parametrize("endpoint", ["batch", "completions"])
def test_only_the_new_rows_of_a_run_that_has_ended_are_sent(inference, engine, source, out, endpoint):
    make = inference(input=str(source), passthrough=["id"], endpoint=endpoint, **EXTEND)
    run_to_end(make)
    source.write_text(lines(PROMPTS + MORE))
    ended = run_to_end(make)
    assert Counter(engine.prompts) == Counter(PROMPTS + MORE)
    check(out, PROMPTS + MORE)
    assert ended.result["counts"]["rows"] == 8
    assert ended.result["chunks"] == 5


def test_a_new_file_at_the_end_of_a_pattern_extends_the_input(inference, engine, source, out):
    make = inference(input=str(source.parent / "*.jsonl"), **EXTEND)
    run_to_end(make)
    (source.parent / "in2.jsonl").write_text(lines(MORE))
    run_to_end(make)
    assert Counter(engine.prompts) == Counter(PROMPTS + MORE)
    check(out, PROMPTS + MORE)


def test_a_list_that_has_grown_extends_the_input(inference, engine, out):
    run_to_end(inference(input=PROMPTS, **EXTEND))
    run_to_end(inference(input=PROMPTS + MORE, **EXTEND))
    assert Counter(engine.prompts) == Counter(PROMPTS + MORE)
    check(out, PROMPTS + MORE)


@pytest.mark.usefixtures("object_store")
def test_a_run_in_an_object_store_is_extended(inference, engine):
    place = {"output": "memory://bucket/out", **EXTEND}
    run_to_end(inference(input=PROMPTS, **place))
    run_to_end(inference(input=PROMPTS + MORE, **place))
    assert Counter(engine.prompts) == Counter(PROMPTS + MORE)
    check("memory://bucket/out", PROMPTS + MORE)


def test_jobs_that_run_while_the_input_grows_stay_valid(platform, inference, engine, source, out):
    platform.control.hold()
    make = inference(input=str(source), passthrough=["id"], on_changed_input="extend", chunk_size=2)
    deferral = begin(make)
    source.write_text(lines(PROMPTS + MORE, note="a longer line than before"))
    platform.control.release()
    deferral.wait()
    run_to_end(make)
    assert sorted(job["total"] for job in platform.control.jobs()) == [2, 2, 2, 2]
    assert Counter(engine.prompts) == Counter(PROMPTS + MORE)
    check(out, PROMPTS + MORE)


def test_a_task_that_resumes_goes_on_with_the_rows_that_were_added_while_it_waited(
    inference, engine, source, out
):
    make = inference(input=str(source), on_changed_input="extend", chunk_size=5)
    deferral = begin(make)
    event = deferral.wait()
    source.write_text(lines(PROMPTS + MORE))
    with pytest.raises(TaskDeferred):
        resume(make, deferral, event)
    run_to_end(make)
    assert Counter(engine.prompts) == Counter(PROMPTS + MORE)
    check(out, PROMPTS + MORE)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            table([*PROMPTS[:3], "other", *PROMPTS[4:], *MORE]),
            r"Row 3 of a list of 8 rows is not what was sent",
        ),
        (table([MORE[0], *PROMPTS]), r"Row 0 of a list of 6 rows is not what was sent"),
        (table(PROMPTS[:4]), r"has fewer than the 5 rows that were sent before"),
        ([{**row, "id": 9} for row in table(PROMPTS + MORE)], r"Row 0 of a list of 8 rows is not"),
    ],
)
def test_an_input_that_has_changed_otherwise_is_refused_and_nothing_is_sent(
    inference, engine, out, rows, message
):
    make = inference(input=table(PROMPTS), passthrough=["id"], **EXTEND)
    result = run_to_end(make).result
    with pytest.raises(InvalidArgumentError, match=message):
        run_to_end(inference(input=rows, passthrough=["id"], **EXTEND))
    assert sorted(engine.prompts) == PROMPTS
    assert run_to_end(make).result == result
    check(out, PROMPTS)


def test_without_the_option_the_error_names_it(inference, engine):
    run_to_end(inference(input=PROMPTS, deferrable=False))
    with pytest.raises(
        InvalidArgumentError, match=r"another input \(5 rows then, 8 now\).*on_changed_input='extend'"
    ):
        run_to_end(inference(input=PROMPTS + MORE, deferrable=False))
    assert sorted(engine.prompts) == PROMPTS


@pytest.mark.parametrize("output_format", ["jsonl", "parquet"])
def test_vectors_are_extended_unless_a_column_would_get_another_type(platform, embed, out, output_format):
    def make(rows):
        return embed(input=rows, passthrough=["id"], output_format=output_format, **EXTEND)

    run_to_end(make(table(PROMPTS)))
    run_to_end(make(table(PROMPTS + MORE)))
    assert [row["id"] for row in read_outputs(str(out))] == list(range(8))
    assert sum(job["total"] for job in platform.control.jobs()) == 8
    texts = [*table(PROMPTS + MORE), {"id": "x", "prompt": "a"}]
    if output_format == "jsonl":
        run_to_end(make(texts))
        assert list(read_outputs(str(out)))[-1]["id"] == "x"
    else:
        with pytest.raises(InvalidArgumentError, match="'id' was of the type integer"):
            run_to_end(make(texts))


@pytest.mark.parametrize("wait", [True, False])
def test_rows_with_their_keys_in_another_order_or_in_other_files_are_the_same(
    inference, engine, source, out, wait
):
    make = inference(input=str(source.parent / "*.jsonl"), passthrough=["id"], chunk_size=2, deferrable=wait)
    first = begin(make).wait() if wait else run_to_end(make).result
    rows = [dict(reversed(row.items())) for row in table(PROMPTS)]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows[:3]))
    (source.parent / "in2.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[3:]))
    ended = run_to_end(make)
    assert sorted(engine.prompts) == PROMPTS
    check(out, PROMPTS)
    assert wait or ended.result == first


def test_other_rows_that_were_not_sent_yet_are_sent_as_they_are_now(inference, engine, source, out):
    make = inference(input=str(source), chunk_size=2, max_in_flight=1)
    begin(make).wait()
    source.write_text(lines([*PROMPTS[:4], "corrected"]))
    run_to_end(make)
    assert sorted(engine.prompts) == ["corrected", *PROMPTS[:4]]
    check(out, [*PROMPTS[:4], "corrected"])


@pytest.mark.parametrize("endpoint", ["batch", "completions"])
def test_a_run_on_a_sample_can_go_on_with_all_rows(inference, engine, source, out, endpoint):
    given = {"input": str(source), "passthrough": ["id"], "endpoint": endpoint, **EXTEND}
    run_to_end(inference(**given, limit_rows=3))
    check(out, PROMPTS[:3])
    run_to_end(inference(**given, limit_rows=4))
    check(out, PROMPTS[:4])
    ended = run_to_end(inference(**given))
    assert Counter(engine.prompts) == Counter(PROMPTS)
    check(out, PROMPTS)
    assert ended.result["counts"]["rows"] == 5


def test_a_run_on_a_sample_goes_on_only_if_the_user_says_so_and_gets_no_smaller(inference, engine, source):
    given = {"input": str(source), **EXTEND}
    run_to_end(inference(**given, limit_rows=3))
    with pytest.raises(InvalidArgumentError, match=r"3 rows then, 5 now.*on_changed_input='extend'"):
        run_to_end(inference(**given | {"on_changed_input": "fail"}))
    with pytest.raises(
        InvalidArgumentError, match=r"fewer than the 3 rows that were sent before \(limit_rows counts\)"
    ):
        run_to_end(inference(**given, limit_rows=2))
    run_to_end(inference(**given, limit_rows=3))
    assert Counter(engine.prompts) == Counter(PROMPTS[:3])
