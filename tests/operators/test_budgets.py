"""What a run may cost: refused before anything is sent where that is known, stopped between chunks otherwise."""

from __future__ import annotations

import json

import pytest

from airflow_provider_lamini.exceptions import (
    BudgetExceededError,
    InvalidArgumentError,
    TooManyFailedRowsError,
)
from airflow_provider_lamini.results import read_outputs
from airflow_provider_lamini.rows.storage.folder import WORK
from tests.support.platforms import posts
from tests.support.tasks import log_lines, run_to_end
from tests.support.upstream import text_for

pytestmark = pytest.mark.any_airflow

PROMPTS = [f"row {number:02} of all" for number in range(25)]
CHARACTERS = sum(map(len, PROMPTS))
each_endpoint = pytest.mark.parametrize("endpoint", ["batch", "completions", "chat"])


@each_endpoint
@pytest.mark.parametrize(
    ("limit", "message"),
    [
        ({"max_rows": 24}, "max_rows allows 24 rows, and the input has 25"),
        ({"max_input_chars": CHARACTERS - 1}, f"max_input_chars allows {CHARACTERS - 1} characters"),
    ],
)
def test_a_larger_input_is_refused_before_anything_is_sent(engine, inference, endpoint, limit, message):
    with pytest.raises(InvalidArgumentError, match=message):
        run_to_end(inference(input=PROMPTS, endpoint=endpoint, **limit))
    assert not engine.prompts


@each_endpoint
def test_an_input_within_its_limits_is_processed(inference, endpoint):
    with log_lines() as lines:
        ended = run_to_end(
            inference(input=PROMPTS, endpoint=endpoint, max_rows="25", max_input_chars=CHARACTERS)
        )
    assert ended.result["counts"]["ok"] == 25
    assert any(f"25 rows, {CHARACTERS} characters of prompts" in line for line in lines)


@pytest.mark.parametrize("suffix", ["jsonl", "parquet", "csv"])
def test_characters_of_a_file_are_those_of_its_prompts(inference, tmp_path, suffix):
    path = tmp_path / f"in.{suffix}"
    texts = [*PROMPTS, "naïve 🎉"]
    if suffix == "jsonl":
        path.write_text("".join(f'{{"t": "{text}", "n": 5}}\n' for text in texts))
    elif suffix == "csv":
        path.write_text("t,n\n" + "".join(f"{text},5\n" for text in texts))
    else:
        pa = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        parquet.write_table(pa.table({"t": texts, "n": [5] * len(texts)}), path)
    result = run_to_end(inference(input=str(path), prompt="Say: {t} {n} {t}", dry_run=True)).result
    assert result["characters"] == sum(len(f"Say: {text} 5 {text}") for text in texts)
    assert result["rows"] == 26


@each_endpoint
@pytest.mark.parametrize("deferrable", [True, False])
def test_a_sample_of_the_rows_is_processed(inference, endpoint, deferrable, out):
    ended = run_to_end(inference(input=PROMPTS, endpoint=endpoint, limit_rows=12, deferrable=deferrable))
    assert ended.result["counts"]["rows"] == 12
    assert [row["index"] for row in read_outputs(str(out))] == list(range(12))


def test_a_sample_smaller_than_a_chunk_sends_nothing_else(engine, inference, rows):
    run_to_end(inference(input=[*PROMPTS[:3], ""], limit_rows=3))
    assert sorted(engine.prompts) == PROMPTS[:3]
    assert [row["output"] for row in rows()] == [text_for(prompt) for prompt in PROMPTS[:3]]


@each_endpoint
def test_a_dry_run_counts_and_sends_and_writes_nothing(engine, inference, out, endpoint):
    result = run_to_end(
        inference(
            input=[*PROMPTS, ""], endpoint=endpoint, dry_run="true", on_bad_row="error", max_failed_rows=1
        )
    ).result
    assert (result["dry_run"], result["rows"], result["characters"]) == (True, 26, CHARACTERS)
    assert result["failures"] == {"no_prompt": 1}
    assert not engine.prompts
    assert not list(out.glob("*.jsonl"))
    assert not (out / "_ledger.json").exists()


def test_a_dry_run_finds_what_a_run_would_refuse(inference):
    with pytest.raises(InvalidArgumentError, match="row 25"):
        run_to_end(inference(input=[*PROMPTS, ""], dry_run=True))


@pytest.mark.parametrize("chunk_size", [5, 1000])
@pytest.mark.parametrize("deferrable", [True, False])
def test_tokens_are_counted_over_all_tries_and_end_the_run_also_within_a_chunk(
    engine, inference, deferrable, chunk_size
):
    given = {
        "input": PROMPTS,
        "endpoint": "chat",
        "chunk_size": chunk_size,
        "max_in_flight": 2,
        "deferrable": deferrable,
    }
    for _ in range(2):
        with pytest.raises(
            BudgetExceededError,
            match=r"used (56|64) tokens, and max_total_tokens allows 50\. [78] of 25 rows",
        ):
            run_to_end(inference(max_total_tokens=50, **given))
        assert len(engine.prompts) in (7, 8)  # one request may be under way
    with log_lines() as lines:
        ended = run_to_end(inference(max_total_tokens=199, **given))
    counts = ended.result["counts"]
    assert (counts["ok"], repr(counts["sums"]["total_tokens"])) == (
        25,
        "200",
    )  # also in a later try a whole number
    assert sorted(engine.prompts) == PROMPTS
    assert any("more than max_total_tokens=199, but all rows were answered" in line for line in lines)


UNCOUNTED = "max_total_tokens cannot be kept: this endpoint reports no tokens"


@pytest.mark.parametrize("chunk_size", [5, 100])
@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize("endpoint", ["batch", "completions"])
def test_a_token_limit_that_cannot_be_kept_is_refused_before_anything_is_sent(
    engine, inference, endpoint, dry_run, chunk_size
):
    given = {"input": PROMPTS, "endpoint": endpoint, "dry_run": dry_run, "chunk_size": chunk_size}
    with pytest.raises(InvalidArgumentError, match=UNCOUNTED):
        run_to_end(inference(max_total_tokens=100, **given))
    assert not engine.prompts


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("endpoint", ["batch", "embedding"])
def test_embeddings_have_no_token_limit(platform, embed, out, endpoint, kept):
    with pytest.raises(InvalidArgumentError, match=UNCOUNTED):
        run_to_end(
            embed(
                input=["a", "b"], output=str(out) if kept else None, endpoint=endpoint, max_total_tokens=100
            )
        )
    assert posts(platform) == {}


def wrong_third(output):
    return output != text_for(PROMPTS[3])


LIMITS = {
    "tokens": ({"max_total_tokens": 1}, {"max_total_tokens": 1_000}, BudgetExceededError),
    "failed rows": ({"check": wrong_third}, {"max_failed_rows": 1}, TooManyFailedRowsError),
}


@pytest.mark.parametrize(
    "sending",
    [
        {"chunk_size": 2, "max_in_flight": 3, "row_retries": 0},
        {"chunk_size": 9, "max_in_flight": 10, "row_retries": 2},
    ],
)
@pytest.mark.parametrize("limit", LIMITS)
def test_at_a_limit_every_answer_is_kept_and_counted_and_nothing_more_is_sent(
    engine, inference, out, limit, sending
):
    reached, enough, error = LIMITS[limit]
    given = {"input": PROMPTS, "endpoint": "chat", **sending, **reached}
    with pytest.raises(error):
        run_to_end(inference(**given))
    sent = list(engine.prompts)
    totals = json.loads((out / "_ledger.json").read_text())["totals"]
    assert totals["sums"]["total_tokens"] == 8 * len(sent)
    engine.prompts.clear()
    with pytest.raises(error):
        run_to_end(inference(**given))
    assert not engine.prompts, "the limit is known before anything is sent"
    counts = run_to_end(inference(**{**given, **enough})).result["counts"]
    wrong = [PROMPTS[3]] if limit == "failed rows" else []
    assert sorted([*sent, *engine.prompts]) == sorted([*PROMPTS, *wrong * sending["row_retries"]])
    assert (counts["ok"], counts["failed"]) == (25 - len(wrong), len(wrong))
    assert counts["sums"]["total_tokens"] == 8 * (len(sent) + len(engine.prompts))
    assert [row["output"] for row in read_outputs(str(out))] == [
        None if prompt in wrong else text_for(prompt) for prompt in PROMPTS
    ]
    assert not list(out.glob(f"{WORK}/chunk-*"))


def test_rows_whose_saved_results_are_gone_are_sent_again(engine, inference, out):
    given = {"input": PROMPTS, "endpoint": "chat", "chunk_size": 10, "max_in_flight": 4}
    with pytest.raises(BudgetExceededError):
        run_to_end(inference(max_total_tokens=1, **given))
    saved = list(out.glob(f"{WORK}/chunk-*"))
    assert saved
    for path in saved:
        path.unlink()
    assert run_to_end(inference(**given)).result["counts"]["ok"] == 25
    assert set(engine.prompts) == set(PROMPTS)
    assert [row["output"] for row in read_outputs(str(out))] == [text_for(prompt) for prompt in PROMPTS]


def test_a_run_that_has_begun_keeps_its_rows_if_its_tokens_are_limited_later(engine, inference, rows):
    given = {"input": PROMPTS, "endpoint": "completions", "chunk_size": 5, "max_in_flight": 1}
    given["check"] = lambda output: output != text_for(PROMPTS[3])
    with pytest.raises(TooManyFailedRowsError):
        run_to_end(inference(**given))
    done, sent = len(rows()), len(engine.prompts)
    with pytest.raises(InvalidArgumentError, match=rf"{UNCOUNTED}.* kept \({done} rows\)"):
        run_to_end(inference(max_total_tokens=100, **given))
    assert len(engine.prompts) == sent


@pytest.mark.parametrize("name", ["max_rows", "max_input_chars", "max_total_tokens", "limit_rows"])
@pytest.mark.parametrize("wrong", [0, -1, "many", 1.5, True])
def test_wrong_limits_are_refused(inference, name, wrong):
    with pytest.raises(InvalidArgumentError, match=f"{name} must be a whole number"):
        run_to_end(inference(input=PROMPTS, **{name: wrong}))


def test_without_an_output_folder_the_same_limits_count(embed):
    with pytest.raises(InvalidArgumentError, match="max_rows allows 1 row,"):
        run_to_end(embed(input=["a", "b"], output=None, max_rows=1))
    assert run_to_end(embed(input=["a", "b"], output=None, dry_run=True)).result["rows"] == 2
    assert len(run_to_end(embed(input=["a", "b"], output=None, limit_rows=1)).result["embeddings"]) == 1
    many = ["a"] * 1000
    assert len(run_to_end(embed(input=many, output=None, limit_rows=2)).result["embeddings"]) == 2
    with pytest.raises(InvalidArgumentError, match="input has 1000 rows; without output, 16 are allowed"):
        run_to_end(embed(input=many, output=None, limit_rows=17))
