"""Decorated functions as mapped and unmapped tasks, run by Airflow, with deferrals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from airflow_provider_lamini.results import read_outputs
from tests.support.demo import EXAMPLES
from tests.support.platforms import submissions
from tests.support.upstream import TEXT_MODEL, text_for, vector_for
from tests.test_docs import DOCS, blocks

pytestmark = [pytest.mark.dags, pytest.mark.usefixtures("airflow_db")]

FILE = Path(__file__).with_name("taskflow_dags.py")


@pytest.fixture
def run(load_dags, tmp_path):
    """Returns a function that runs a Dag in this process, including its triggers, and returns the run's folder."""

    def to_end(name, file=FILE):
        ended = load_dags(file)[name].test(run_conf={"model": TEXT_MODEL, "output": str(tmp_path)})
        states = {(ti.task_id, ti.map_index): str(ti.state) for ti in ended.get_task_instances()}
        assert set(states.values()) == {"success"}, states
        return tmp_path / ended.run_id

    return to_end


def outputs_in(folder):
    return [row["output"] for row in read_outputs(str(folder))]


def test_functions_are_mapped_by_expand_and_by_expand_kwargs(run, tmp_path, platform):
    folder = run("lamini")

    def kept(name):
        return json.loads((tmp_path / f"{name}.json").read_text())

    for task, index, product, count in [
        ("infer", 0, "cams", 2),
        ("infer", 1, "hubs", 2),
        ("infer_kwargs", 0, "a", 1),
        ("infer_kwargs", 1, "b", 3),
    ]:
        prompts = [f"{{{{ {product} }}}} {number} 1 {index}" for number in range(count)]
        assert outputs_in(folder / f"{task}-{index}") == list(map(text_for, prompts))
        assert (tmp_path / f"infer-{product}-{count}.calls").read_text() == "x"
    assert submissions(platform) == 8
    vectors = [pytest.approx(vector_for(text)) for text in "AB"]
    assert [one["embeddings"] for one in kept("embed")] == [[vector] for vector in vectors]
    assert kept("embed_kwargs")[0]["embeddings"] == [pytest.approx(vector_for("C"))]
    assert [one["output"] for one in kept("complete")] == [
        text_for(f"{first} two {{{{ params.model }}}}") for first in ("one", "1")
    ]
    assert kept("complete_kwargs")[0]["output"] == text_for("3 4 {{ params.model }}")
    assert kept("single") == text_for("one two {{ params.model }}")


def test_the_mapping_that_the_page_shows_gives_each_task_a_folder(run, tmp_path, platform):
    (code,) = (block for block in blocks(DOCS / "taskflow.md", "python") if ".expand(" in block)
    model, store = "meta-llama/Llama-3.1-8B-Instruct", "s3://summaries"
    assert model in code
    assert store in code
    page = tmp_path / "page" / "mapped_reviews.py"
    page.parent.mkdir()
    code = code.replace("\n):\n", "\n) as mapped_reviews:\n")
    page.write_text(code.replace(model, TEXT_MODEL).replace(store, str(tmp_path)))
    folder = run("mapped_reviews", page)
    prompt = "Summarize in one sentence: {}".format
    for task, texts in {
        "summarize-0": ["It hums."],
        "summarize-1": ["It came broken.", "It is bright."],
        "others-0": ["It is late."],
    }.items():
        assert outputs_in(folder / task) == [text_for(prompt(text)) for text in texts]
    assert submissions(platform) == 3


@pytest.mark.usefixtures("knowledge")
def test_classifications_are_mapped(run, tmp_path):
    run("classes")
    found = {
        name: [
            [answer["class"] for answer in one["outputs"]]
            for one in json.loads((tmp_path / f"{name}.json").read_text())
        ]
        for name in ("classify", "classify_kwargs")
    }
    assert found == {"classify": [["spam", "ham"], ["eggs", "ham"]], "classify_kwargs": [["ham", "ham"]]}


def test_requests_to_a_deployment_are_mapped(run, emissary):
    emissary.new("deployment", ("Deployed",), name="live")
    folder = run("emissary")
    assert [outputs_in(folder / f"ask-{index}") for index in range(2)] == [["ABOUT CAMS"], ["ABOUT HUBS"]]
    assert outputs_in(folder / "ask_kwargs-0") == ["ABOUT DISKS"]


def test_the_example_summarizes_the_answers_to_the_prompts_of_a_function(
    load_dags, tmp_path, platform, engine
):
    conf = {
        "model": TEXT_MODEL,
        "output": str(tmp_path),
        "data": str(EXAMPLES / "data" / "tickets_by_product"),
    }
    ended = load_dags(EXAMPLES / "taskflow_tickets.py")["dag"].test(run_conf=conf)
    states = {(ti.task_id, ti.map_index): str(ti.state) for ti in ended.get_task_instances()}
    assert states == {
        ("categorize", 0): "success",
        ("categorize", 1): "success",
        ("summarize", -1): "success",
    }
    rows = [row for index in range(2) for row in read_outputs(str(tmp_path / ended.run_id / str(index)))]
    assert len({row["ticket_id"] for row in rows}) == 30
    assert engine.prompts[-1].startswith("The most frequent topics of today's tickets:")
    assert submissions(platform) == 2
