"""The tokens of each row, and its model, beside its output."""

from __future__ import annotations

import pytest

from airflow_provider_lamini.exceptions import BudgetExceededError, InvalidArgumentError
from airflow_provider_lamini.operators.emissary.batch_inference import EmissaryBatchInferenceOperator
from airflow_provider_lamini.operators.results_to_table import ResultsToTableOperator
from airflow_provider_lamini.results import merge_shards, read_outputs, read_shards
from tests.support import emissary_platform
from tests.support.databases import CONN_ID, sqlite
from tests.support.platforms import connect
from tests.support.tasks import maker, run_to_end
from tests.support.upstream import text_for

pytestmark = pytest.mark.any_airflow

COLUMNS = [
    "index",
    "output",
    "model",
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "finish_reason",
    "error",
]
PROMPTS = ["one", "one two", "one two three"]
"""The engine counts words, and answers with as many."""


@pytest.fixture
def chats(inference):
    """Makes inference over a few conversations, which reports tokens."""
    return lambda **arguments: inference(**{"input": PROMPTS, "endpoint": "chat", **arguments})


@pytest.fixture
def deployed(emissary, out):
    """Makes inference with a deployment; each of its answers has 3 and 2 tokens."""
    emissary.new("deployment", ("Deployed",), name="live")
    arguments = {"input": PROMPTS, "output": str(out), "model_name": "live"}
    return maker(EmissaryBatchInferenceOperator, task_id="infer", **arguments)


def used(rows):
    return [tuple(row[name] for name in COLUMNS[2:6]) for row in rows]


@pytest.mark.parametrize("deferrable", [True, False])
def test_tokens_are_beside_the_output(chats, rows, platform, deferrable):
    counts = run_to_end(chats(row_usage="true", deferrable=deferrable)).result["counts"]
    model = platform.models[0]
    assert used(rows()) == [(model, 1, 1, 2), (model, 2, 2, 4), (model, 3, 3, 6)]
    assert list(rows()[0]) == COLUMNS
    assert counts["sums"] == {"prompt_tokens": 6, "completion_tokens": 6, "total_tokens": 12}


def test_by_default_they_are_only_summed(chats, rows):
    run_to_end(chats())
    assert list(rows()[0]) == ["index", "output", "finish_reason", "error"]


def test_a_row_has_the_model_that_it_was_sent_to(chats, rows, platform):
    first, second = platform.models[:2]
    given = [{"prompt": "a", "own": second}, {"prompt": "a b", "own": None}]
    run_to_end(chats(input=given, overrides={"model_name": "own"}, row_usage=True))
    assert used(rows()) == [(second, 1, 1, 2), (first, 2, 2, 4)]


def test_the_tokens_of_all_answers_to_a_row_are_its_own(chats, rows, platform):
    given = {"row_usage": True, "row_retries": 2, "max_failed_rows": 1}
    run_to_end(chats(check=lambda output: output != text_for("one two"), **given))
    model = platform.models[0]
    assert used(rows()) == [(model, 1, 1, 2), (model, 6, 6, 12), (model, 3, 3, 6)]
    assert rows()[1]["error"] is not None


def test_the_tokens_of_an_answer_are_kept_if_the_platform_refuses_the_row_afterwards(
    chats, rows, platform, monkeypatch
):
    connect(
        monkeypatch, platform, extra={"retry_budget": 2, "prices": {"*": {"input": 1000, "output": 3000}}}
    )
    platform.control.fault(".*/chat/completions", skip=1, status=400)
    given = {"row_usage": True, "row_retries": 1, "max_failed_rows": 1}
    counts = run_to_end(chats(input=["one two"], check=lambda _: False, **given)).result["counts"]
    assert counts["failures"] == {"rejected": 1}
    assert used(rows()) == [(platform.models[0], 2, 2, 4)]
    assert counts["sums"] == {
        "prompt_tokens": 2,
        "completion_tokens": 2,
        "total_tokens": 4,
        "cost": pytest.approx(0.008),
    }


def test_a_row_that_was_not_sent_or_is_copied_has_used_nothing(chats, platform, tmp_path, out):
    given = {"row_usage": True, "on_bad_row": "error", "max_failed_rows": 1}
    run_to_end(chats(input=["one", ""], **given))
    again = str(tmp_path / "again")
    counts = run_to_end(
        chats(input=["one", "", "two three"], output=again, reuse_from=str(out), **given)
    ).result["counts"]
    assert (counts["reused"], counts["sums"]["total_tokens"]) == (1, 4)
    nothing = (None,) * 4
    assert used(read_outputs(again)) == [nothing, nothing, (platform.models[0], 2, 2, 4)]


def test_the_tokens_of_a_chunk_that_was_paused_are_kept(engine, chats, rows):
    given = {"input": ["a b"] * 25, "chunk_size": 10, "max_in_flight": 4, "row_usage": True}
    engine.tokens_per_second = 20  # so that few rows of the second chunk were sent when the first one ends
    with pytest.raises(BudgetExceededError):
        run_to_end(chats(max_total_tokens=1, **given))
    engine.tokens_per_second = 100_000
    counts = run_to_end(chats(**given)).result["counts"]
    assert sum(row["total_tokens"] for row in rows()) == counts["sums"]["total_tokens"] == 100


def test_the_tokens_of_a_row_that_was_sent_before_and_after_a_pause_are_summed(engine, chats, rows, platform):
    paused: list[str] = []

    def accept_after_the_pause(output):
        return output != text_for("one two three four") or bool(paused)

    given = {
        "input": ["one", "one two three four"],
        "chunk_size": 1,
        "row_retries": 1,
        "row_usage": True,
        "check": accept_after_the_pause,
    }
    engine.tokens_per_second = (
        4  # so that the first chunk ends, and with it the budget, before the second row is answered
    )
    with pytest.raises(BudgetExceededError):
        run_to_end(chats(max_total_tokens=1, **given))
    paused.append("yes")
    engine.tokens_per_second = 100_000
    counts = run_to_end(chats(**given)).result["counts"]
    model = platform.models[0]
    assert used(rows()) == [(model, 1, 1, 2), (model, 8, 8, 16)]
    assert counts["sums"]["total_tokens"] == 18


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_tokens_are_beside_passthrough_columns_of_any_input(chats, rows, tmp_path, suffix):
    path = tmp_path / f"in.{suffix}"
    if suffix == "jsonl":
        path.write_text('{"text": "a b", "id": 7}\n')
    elif suffix == "csv":
        path.write_text("text,id\na b,7\n")
    else:
        pa = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        parquet.write_table(pa.table({"text": ["a b"], "id": [7]}), path)
    run_to_end(chats(input=str(path), prompt="text", passthrough=["id"], row_usage=True, reasoning="keep"))
    (row,) = rows()
    assert [int(row["id"]), row["prompt_tokens"], row["completion_tokens"]] == [7, 2, 2]
    assert list(row) == ["index", "id", "output", "reasoning", *COLUMNS[2:]]


def test_shards_and_tables_have_the_tokens(chats, platform, tmp_path, monkeypatch):
    pytest.importorskip("airflow.providers.sqlite")
    shards = [str(tmp_path / name) for name in ("a", "b")]
    for shard in shards:
        run_to_end(chats(output=shard, row_usage=True))
    merged = merge_shards(shards, str(tmp_path))
    assert merged["counts"]["sums"]["total_tokens"] == 24
    assert [row["total_tokens"] for row in read_shards(str(tmp_path))] == [2, 4, 6, 2, 4, 6]
    database = sqlite(tmp_path)
    database.connect(monkeypatch)
    database.run("CREATE TABLE answers (number INTEGER, model TEXT, tokens INTEGER)")
    columns = {"number": "index", "model": "model", "tokens": "total_tokens"}
    arguments = {
        "results": shards[0],
        "conn_id": CONN_ID,
        "table": "answers",
        "columns": columns,
        "key": None,
    }
    run_to_end(maker(ResultsToTableOperator, task_id="load", **arguments)())
    model = platform.models[0]
    assert database.rows("SELECT * FROM answers ORDER BY number") == [
        (0, model, 2),
        (1, model, 4),
        (2, model, 6),
    ]


@pytest.mark.parametrize("endpoint", ["batch", "completions"])
@pytest.mark.parametrize("dry_run", [False, True])
def test_an_endpoint_without_tokens_is_refused_before_anything_is_sent(inference, engine, endpoint, dry_run):
    with pytest.raises(
        InvalidArgumentError, match="row_usage cannot be true: this endpoint reports no tokens"
    ):
        run_to_end(inference(endpoint=endpoint, row_usage=True, dry_run=dry_run))
    assert not engine.prompts


def test_wrong_arguments_are_refused(chats, deployed):
    with pytest.raises(InvalidArgumentError, match="row_usage must be true or false"):
        run_to_end(chats(row_usage="rows"))
    with pytest.raises(InvalidArgumentError, match="the output has its own column 'model'"):
        run_to_end(chats(input=[{"prompt": "a", "model": 1}], passthrough=["model"], row_usage=True))
    with pytest.raises(InvalidArgumentError, match="row_usage cannot be true"):
        run_to_end(deployed(endpoint="embeddings", target="prompt", row_usage=True))


def test_a_folder_without_the_columns_belongs_to_another_run(chats):
    run_to_end(chats())
    with pytest.raises(Exception, match="on_other_run"):
        run_to_end(chats(row_usage=True))


@pytest.mark.parametrize("endpoint", ["completions", "chat", "classification"])
def test_a_deployment_reports_the_tokens_of_each_row(deployed, out, endpoint):
    run_to_end(deployed(endpoint=endpoint, row_usage=True))
    assert used(read_outputs(str(out))) == [("live", 3, 2, 5)] * 3


@pytest.mark.parametrize("usage", [None, {}])
def test_nothing_is_claimed_about_tokens_that_are_not_reported(deployed, out, monkeypatch, usage):
    monkeypatch.setattr(emissary_platform, "USAGE", usage)
    run_to_end(deployed(row_usage=True))
    assert used(read_outputs(str(out))) == [("live", None, None, None)] * 3
