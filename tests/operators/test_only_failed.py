"""The failed rows of a run are sent again by a later one, and keep their index."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from airflow_provider_lamini.exceptions import InvalidArgumentError, TooManyFailedRowsError
from airflow_provider_lamini.results import merge_shards, read_outputs
from tests.support.databases import CONN_ID, sqlite
from tests.support.platforms import submissions
from tests.support.results import rows_in
from tests.support.tasks import TI, begin, log_lines, run_to_end
from tests.support.upstream import text_for, vector_for

pytestmark = pytest.mark.any_airflow

TEXTS = [f"row {number} of all" for number in range(25)]
FAILED = [2, 20, 21, 22, 23, 24]  # all that contain "row 2"
each_endpoint = pytest.mark.parametrize("endpoint", ["batch", "completions", "chat"])
waiting_ways = pytest.mark.parametrize("deferrable", [True, False])


@pytest.fixture
def given(tmp_path):
    """The input, a file."""
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps({"id": f"T{n}", "prompt": t}) + "\n" for n, t in enumerate(TEXTS)))
    return str(path)


@pytest.fixture
def first(platform, inference, out, given):
    """The output folder of a run in which some rows have failed."""
    platform.control.row_fault("row 2", times=6)
    run_to_end(inference(input=given, max_failed_rows=None, row_retries=0, passthrough=["id"]))
    assert [row["index"] for row in read_outputs(str(out)) if row["error"]] == FAILED
    return str(out)


@pytest.fixture
def again(tmp_path):
    """The output folder of the later run."""
    return str(tmp_path / "again")


@pytest.fixture
def later(first, again, given):
    """The arguments of the later run."""
    return {"input": given, "output": again, "only_failed_of": first, "passthrough": ["id"]}


@each_endpoint
@waiting_ways
def test_only_the_failed_rows_are_sent_with_their_index(later, inference, engine, endpoint, deferrable):
    before = len(engine.prompts)
    ended = run_to_end(inference(**later, endpoint=endpoint, chunk_size=4, deferrable=deferrable))
    assert sorted(engine.prompts[before:]) == sorted(TEXTS[number] for number in FAILED)
    corrected = {row["index"]: row for row in read_outputs(later["output"])}
    assert [(index, row["id"], row["output"]) for index, row in corrected.items()] == [
        (number, f"T{number}", text_for(TEXTS[number])) for number in FAILED
    ]
    assert ended.result["counts"] == ended.result["counts"] | {"rows": 6, "ok": 6, "failed": 0}
    assert ended.result["input"] == later["input"]
    complete = [corrected.get(row["index"], row) for row in read_outputs(later["only_failed_of"])]
    assert [row["output"] for row in complete] == [text_for(text) for text in TEXTS]


@pytest.mark.parametrize("endpoint", ["batch", "embedding"])
@pytest.mark.parametrize("output_format", ["jsonl", "parquet"])
def test_vectors_keep_their_index_too(embed, tmp_path, again, endpoint, output_format):
    pytest.importorskip("pyarrow")
    rows = [{"id": number, "prompt": text} for number, text in enumerate(TEXTS)]
    for number in (3, 12):
        rows[number]["prompt"] = ""
    options = {"endpoint": endpoint, "output_format": output_format, "passthrough": ["prompt", "id"]}
    first = str(tmp_path / "first")
    run_to_end(embed(input=rows, output=first, on_bad_row="error", max_failed_rows=2, **options))
    for number in (3, 12):
        rows[number]["prompt"] = TEXTS[number]
    run_to_end(embed(input=rows, output=again, only_failed_of=first, **options))
    found = list(read_outputs(again))
    assert [(row["index"], row["id"], row["error"]) for row in found] == [(3, 3, None), (12, 12, None)]
    assert [row["embedding"] for row in found] == [
        pytest.approx(vector_for(TEXTS[n]), abs=1e-6) for n in (3, 12)
    ]


@waiting_ways
def test_rows_that_fail_again_can_be_sent_a_third_time(platform, later, inference, tmp_path, deferrable):
    platform.control.row_fault("row 20", times=1)
    platform.control.row_fault("row 23", times=1)
    run_to_end(inference(**later, row_retries=0, max_failed_rows=2, chunk_size=2, deferrable=deferrable))
    third = str(tmp_path / "third")
    run_to_end(inference(**later | {"output": third, "only_failed_of": later["output"]}))
    assert [(row["index"], row["id"], row["error"]) for row in read_outputs(third)] == [
        (20, "T20", None),
        (23, "T23", None),
    ]


def test_a_try_after_a_crash_pays_for_nothing_twice(platform, later, inference, engine):
    make = inference(**later, chunk_size=2)
    before, jobs = len(engine.prompts), submissions(platform)
    begin(make)  # and dies while it waits
    ended = run_to_end(make, TI.retried())
    assert submissions(platform) - jobs == 3
    assert sorted(engine.prompts[before:]) == sorted(TEXTS[number] for number in FAILED)
    assert [row["index"] for row in read_outputs(later["output"])] == FAILED
    assert ended.result["counts"]["ok"] == 6
    run_to_end(make, TI.cleared())
    assert submissions(platform) - jobs == 3


def test_a_direct_run_continues_after_its_finished_chunks(platform, later, inference, engine):
    def make(limit):
        return inference(**later, endpoint="completions", chunk_size=2, row_retries=0, max_failed_rows=limit)

    platform.control.fault("/v2/completions", status=422, times=1)
    with pytest.raises(TooManyFailedRowsError, match="1 of 6 rows failed"):
        run_to_end(make(0))
    done = rows_in(Path(later["output"]))
    before = len(engine.prompts)
    run_to_end(make(1), TI.cleared())
    assert done
    assert {TEXTS[row["index"]] for row in done}.isdisjoint(engine.prompts[before:])
    assert [row["index"] for row in read_outputs(later["output"])] == FAILED


def test_the_rows_of_a_query_are_found_by_their_passthrough_columns(
    platform, inference, tmp_path, again, monkeypatch
):
    pytest.importorskip("airflow.providers.sqlite")
    database = sqlite(tmp_path)
    database.run("CREATE TABLE tickets (id INTEGER, prompt TEXT)")
    database.fill("tickets", list(enumerate(TEXTS)))
    database.connect(monkeypatch)
    first = str(tmp_path / "first")
    platform.control.row_fault("row 2", times=6)
    options = {
        "input": None,
        "input_sql": "SELECT id, prompt FROM tickets ORDER BY id",
        "input_conn_id": CONN_ID,
        "passthrough": ["id"],
    }
    run_to_end(inference(output=first, max_failed_rows=None, row_retries=0, **options))
    make, jobs = inference(output=again, only_failed_of=first, chunk_size=3, **options), submissions(platform)
    begin(make)  # and dies while it waits
    database.run("DELETE FROM tickets")
    run_to_end(make, TI.retried())
    assert submissions(platform) - jobs == 2
    assert [(row["index"], row["id"]) for row in read_outputs(again)] == [(n, n) for n in FAILED]


def test_a_conversation_that_was_corrected_is_sent(inference, out, again, engine):
    talks = [[{"role": "user", "content": text}] for text in TEXTS[:4]]
    rows = [{"id": number, "talk": talk} for number, talk in enumerate(talks)]
    rows[2]["talk"] = None
    options = {"endpoint": "chat", "messages": "talk", "passthrough": ["talk", "id"]}
    run_to_end(inference(input=rows, on_bad_row="error", max_failed_rows=1, **options))
    rows[2]["talk"] = talks[2]
    before = len(engine.bodies)
    run_to_end(inference(input=rows, output=again, only_failed_of=str(out), **options))
    assert [body["messages"] for body in engine.bodies[before:]] == [talks[2]]
    assert [(row["index"], row["talk"], row["error"]) for row in read_outputs(again)] == [(2, talks[2], None)]


@pytest.mark.usefixtures("object_store")
def test_the_earlier_run_may_be_in_an_object_store(platform, inference):
    bucket = "memory://bucket"
    options = {"input": TEXTS}
    platform.control.row_fault("row 2", times=6)
    run_to_end(inference(output=f"{bucket}/first", max_failed_rows=None, row_retries=0, **options))
    run_to_end(inference(output=f"{bucket}/again", only_failed_of=f"{bucket}/first", **options))
    assert [(row["index"], row["output"]) for row in read_outputs(f"{bucket}/again")] == [
        (number, text_for(TEXTS[number])) for number in FAILED
    ]


@pytest.mark.parametrize("argument", ["only_failed_of", "reuse_from"])
def test_the_earlier_run_may_be_its_manifest_or_the_result_of_its_task(inference, tmp_path, argument):
    first = [{"id": 1, "prompt": "a"}, {"id": 2, "prompt": " "}]
    rows = [first[0], first[1] | {"prompt": "b"}]
    passthrough = {"passthrough": ["id"]}
    options = {"on_bad_row": "error", "max_failed_rows": 1}
    result = run_to_end(inference(input=first, **options, **passthrough)).result
    for number, earlier in enumerate([result, result["manifest"], Path(result["manifest"])]):
        later = {argument: earlier, "input": rows, "output": str(tmp_path / str(number)), **passthrough}
        counts = run_to_end(inference(**later)).result["counts"]
        assert (counts["rows"], counts["reused"]) == ((1, 0) if argument == "only_failed_of" else (2, 1))


def test_a_run_without_failed_rows_leaves_nothing_to_send(inference, out, again, platform):
    run_to_end(inference())
    jobs = submissions(platform)
    ended = run_to_end(inference(output=again, only_failed_of=str(out)))
    assert (ended.result["counts"]["rows"], ended.result["parts"]) == (0, [])
    assert submissions(platform) == jobs


def test_a_dry_run_counts_the_failed_rows(later, inference):
    ended = run_to_end(inference(**later, dry_run=True))
    assert ended.result["rows"] == 6


def test_an_input_whose_rows_have_moved_is_refused_before_anything_is_sent(
    later, inference, platform, tmp_path
):
    moved = [{"id": "new", "prompt": "new"}, *({"id": f"T{n}", "prompt": t} for n, t in enumerate(TEXTS))]
    jobs = submissions(platform)
    with pytest.raises(InvalidArgumentError, match=r"row 2 .* is not the row that failed"):
        run_to_end(inference(**later | {"input": moved}))
    assert submissions(platform) == jobs
    assert not list((tmp_path / "again").glob("part*"))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("", "only_failed_of must be a text that is not empty"),
        ("None", "only_failed_of is the text 'None'"),
        (5, "only_failed_of must be a text"),
        ("missing", "has no manifest.json"),
        ("own", "only_failed_of is the output folder itself"),
    ],
)
def test_a_wrong_folder_is_refused(inference, out, wrong, message, platform):
    value = {"missing": f"{out}-missing", "own": f"{out}/"}.get(wrong, wrong)
    jobs = submissions(platform)
    with pytest.raises(InvalidArgumentError, match=message):
        run_to_end(inference(only_failed_of=value))
    assert submissions(platform) == jobs


def test_without_an_output_folder_it_is_refused(embed, tmp_path):
    with pytest.raises(InvalidArgumentError, match="only_failed_of needs output"):
        run_to_end(embed(input="a", output=None, only_failed_of=str(tmp_path)))


def test_a_folder_with_all_rows_is_not_continued_with_the_failed_ones(first, inference, given, again):
    run_to_end(inference(input=given, output=again))
    with pytest.raises(InvalidArgumentError, match="another input"):
        run_to_end(inference(input=given, output=again, only_failed_of=first))


def test_rows_that_could_not_be_read_are_counted_in_the_log(inference, out, again):
    rows = [{"id": number, "prompt": text} for number, text in enumerate(TEXTS[:3])]
    broken, corrected = {"id": {1, 2}, "prompt": TEXTS[3]}, {"id": 3, "prompt": TEXTS[3]}
    options = {"on_bad_row": "error", "max_failed_rows": 1, "passthrough": ["id"]}
    run_to_end(inference(input=[*rows, broken], **options))
    with log_lines() as lines:
        run_to_end(inference(input=[*rows, corrected], output=again, only_failed_of=str(out), **options))
    assert [row["index"] for row in read_outputs(again)] == [3]
    assert any("1 row that could not be read then" in line for line in lines)


@pytest.mark.parametrize("prompt", ["{prompt}", "Say {prompt}"])
def test_rows_that_others_look_like_must_not_have_moved(platform, inference, engine, tmp_path, prompt):
    again = str(tmp_path / "again")

    def write(name, rows):
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return str(path)

    rows = [{"lang": "en", "prompt": text} for text in TEXTS]
    platform.control.row_fault("row 12", times=1)
    first = str(tmp_path / "first")
    options = {"passthrough": ["lang"], "deferrable": False}
    run_to_end(
        inference(
            input=write("a.jsonl", rows),
            output=first,
            max_failed_rows=1,
            row_retries=0,
            prompt=prompt,
            **options,
        )
    )
    options |= {"only_failed_of": first, "output": again}
    before = len(engine.prompts)
    moved = write("moved.jsonl", [{"lang": "en", "prompt": "new"}, *rows])
    with pytest.raises(InvalidArgumentError, match=r"may have moved.*Nothing was sent.*passthrough="):
        run_to_end(inference(input=moved, prompt=prompt, **options))
    corrected = [*rows[:12], {"lang": "en", "prompt": "corrected"}, *rows[13:]]
    with pytest.raises(InvalidArgumentError, match="may have moved"):
        run_to_end(inference(input=write("b.jsonl", corrected), prompt="Other {prompt}", **options))
    assert len(engine.prompts) == before
    run_to_end(inference(input=write("c.jsonl", corrected), prompt=prompt, **options))
    assert [(row["index"], row["error"]) for row in read_outputs(again)] == [(12, None)]
    assert engine.prompts[before:] == [prompt.format(prompt="corrected")]


@pytest.mark.parametrize("kind", ["shards", "their list"])
def test_what_is_no_folder_of_a_run_is_named(inference, again, tmp_path, kind):
    done = run_to_end(inference(output=str(tmp_path / "runs" / "one"), deferrable=False)).result
    merge_shards([done], str(tmp_path / "runs"))
    wrong, message = {
        "shards": (str(tmp_path / "runs"), "Pass the folder of one run"),
        "their list": (str(tmp_path / "runs" / "shards.json"), "Pass the folder of one run"),
    }[kind]
    with pytest.raises(InvalidArgumentError, match=message):
        run_to_end(inference(output=again, only_failed_of=wrong))


# -- the errors files themselves as the input ----------------------------------------------------------------


@pytest.fixture
def whole(platform, inference, given):
    """The result of a run in which some rows have failed, and whose errors files have the prompts."""
    platform.control.row_fault("row 2", times=6)
    return run_to_end(
        inference(input=given, max_failed_rows=None, row_retries=0, passthrough=["id", "prompt"])
    ).result


@pytest.mark.parametrize("form", ["folder", "result", "files", "pattern"])
def test_the_errors_of_a_run_are_an_input_and_keep_their_index(inference, engine, whole, again, form):
    folder = whole["output"]
    given, options = {
        "folder": (folder, {"failed_input_rows": "only"}),
        "result": (whole, {"failed_input_rows": "only"}),
        "files": (whole["errors"], {}),
        "pattern": (f"{folder}/errors-*.jsonl", {}),
    }[form]
    before = len(engine.prompts)
    ended = run_to_end(
        inference(input=given, output=again, passthrough=["id"], chunk_size=4, deferrable=False, **options)
    )
    assert sorted(engine.prompts[before:]) == sorted(TEXTS[number] for number in FAILED)
    assert [(row["index"], row["id"], row["output"]) for row in read_outputs(again)] == [
        (number, f"T{number}", text_for(TEXTS[number])) for number in FAILED
    ]
    assert ended.result["counts"]["ok"] == 6


def test_errors_without_the_column_of_the_prompt_are_refused_with_what_to_pass(first, inference, again):
    with pytest.raises(
        InvalidArgumentError, match=r"passthrough columns of that run, without 'prompt'.*only_failed_of="
    ):
        run_to_end(inference(input=first, failed_input_rows="only", output=again))


def test_a_run_without_errors_gives_none_to_send_and_other_inputs_are_refused(inference, again, out, given):
    run_to_end(inference(deferrable=False))
    only = {"failed_input_rows": "only", "output": again, "deferrable": False}
    assert run_to_end(inference(input=str(out), **only)).result["counts"]["rows"] == 0
    for other in (given, ["a text"]):
        with pytest.raises(InvalidArgumentError, match="needs the output folder of an earlier run"):
            run_to_end(inference(input=other, **only))


def test_the_errors_of_two_runs_are_not_mixed(inference, whole, again, tmp_path):
    other = shutil.copytree(whole["output"], tmp_path / "other")
    with pytest.raises(InvalidArgumentError, match="Pass the errors files of one run at a time"):
        run_to_end(inference(input=[whole["output"], str(other)], failed_input_rows="only", output=again))


def test_the_errors_of_a_run_in_an_object_store_are_an_input(platform, inference, object_store):
    bucket, given = "memory://bucket", {"passthrough": ["prompt"], "deferrable": False}
    platform.control.row_fault("row 2", times=6)
    run_to_end(inference(output=f"{bucket}/first", max_failed_rows=None, row_retries=0, **given))
    run_to_end(inference(input=f"{bucket}/first/errors-*.jsonl", output=f"{bucket}/again", **given))
    manifest = json.loads(object_store.cat_file("/bucket/again/manifest.json"))
    assert [row["index"] for row in read_outputs(f"{bucket}/again")] == FAILED
    assert manifest["only_failed_of"] == f"{bucket}/first"
