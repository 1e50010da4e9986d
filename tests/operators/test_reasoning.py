"""What a reasoning model thinks is dropped, or kept in a column of its own."""

from __future__ import annotations

import pytest

from airflow_provider_lamini.exceptions import InvalidArgumentError
from airflow_provider_lamini.operators.emissary.batch_inference import EmissaryBatchInferenceOperator
from airflow_provider_lamini.results import read_outputs
from tests.support.tasks import maker, run_to_end

pytestmark = pytest.mark.any_airflow

PROMPTS = ["a </think> one <think>", "b", "three <think>"]
"""The model gives their words in reverse order."""
KEPT = [("a", "one"), ("b", None), (None, "three")]


@pytest.fixture
def thinker(inference):
    """Makes batch inference with a model that thinks."""
    return lambda **arguments: inference(
        **{
            "input": PROMPTS,
            "max_failed_rows": 1,
            "row_retries": 1,
            "deferrable": False,
            **arguments,
        }
    )


@pytest.mark.parametrize("endpoint", ["batch", "completions", "chat"])
def test_thoughts_are_kept_in_a_column(thinker, rows, endpoint):
    run_to_end(thinker(reasoning="keep", endpoint=endpoint))
    assert [(row["output"], row["reasoning"]) for row in rows()] == KEPT
    assert list(rows()[0]) == ["index", "output", "reasoning", "finish_reason", "error"]


def test_by_default_they_are_dropped(thinker, rows):
    run_to_end(thinker())
    assert [row["output"] for row in rows()] == [output for output, _ in KEPT]
    assert "reasoning" not in rows()[0]


def test_a_run_that_reuses_outputs_reuses_the_thoughts(thinker, tmp_path, out):
    run_to_end(thinker(reasoning="keep"))
    again = str(tmp_path / "again")
    ended = run_to_end(thinker(reasoning="keep", output=again, reuse_from=str(out)))
    assert ended.result["counts"]["reused"] == 2
    assert [(row["output"], row["reasoning"]) for row in read_outputs(again)] == KEPT


def test_the_column_cannot_be_a_passthrough_column_as_well(thinker):
    with pytest.raises(InvalidArgumentError, match="the output has its own column 'reasoning'"):
        run_to_end(
            thinker(input=[{"prompt": "a", "reasoning": 1}], reasoning="keep", passthrough=["reasoning"])
        )
    with pytest.raises(InvalidArgumentError, match="reasoning must be one of drop, keep"):
        run_to_end(thinker(reasoning="yes"))


@pytest.mark.parametrize("endpoint", ["completions", "chat"])
def test_thoughts_of_a_deployment_are_kept(emissary, out, endpoint):
    emissary.generate = lambda text: text
    answers = ["<think>one</think>a", "b", "two\n</think>\n\nc"]
    arguments = {"input": answers, "output": str(out), "model_name": "base"}
    infer = maker(EmissaryBatchInferenceOperator, task_id="infer", **arguments)
    run_to_end(infer(endpoint=endpoint, reasoning="keep"))
    assert [row["reasoning"] for row in read_outputs(str(out))] == ["one", None, "two"]
