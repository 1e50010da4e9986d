"""Real Dags with indexes and classifiers, and the examples, run by Airflow against the local platform."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.support.demo import EXAMPLES
from tests.support.platforms import posts
from tests.support.results import rows_in
from tests.support.serving import site
from tests.support.upstream import TEXT_MODEL

pytestmark = [pytest.mark.dags, pytest.mark.usefixtures("airflow_db", "platform")]

FILE = Path(__file__).with_name("knowledge_dags.py")
RAG = "POST /alpha/memory-rag"


@pytest.fixture(autouse=True)
def state_path(tmp_path, monkeypatch):
    """A folder for submission records, needed by Airflow versions without a task state store."""
    monkeypatch.setenv("AIRFLOW__LAMINI__STATE_PATH", str(tmp_path / "state"))


def run(dag, **conf):
    """Run a Dag in this process, including its triggers, and return each task's result."""
    ended = dag.test(run_conf={"model": TEXT_MODEL, **conf})
    tasks = ended.get_task_instances()
    assert {str(ti.state) for ti in tasks} == {"success"}, {ti.task_id: str(ti.state) for ti in tasks}
    return {ti.task_id: ti.xcom_pull(ti.task_id) for ti in tasks if ti.map_index == -1}


def test_a_query_waits_for_an_index_whose_build_did_not_wait(load_dags, tmp_path, platform):
    docs = tmp_path / "docs"
    (docs / "more").mkdir(parents=True)
    (docs / "a.md").write_text("# Alpha\n\nAlpha is the first letter.")
    (docs / "more" / "b.txt").write_text("Beta is the second letter.")
    (docs / "left-out.txt").write_text("Gamma is the third letter.")
    results = run(load_dags(FILE)["without_waiting"], docs=str(docs), output=str(tmp_path))
    assert results["build"]["files"] == 2
    assert results["ask"]["counts"]["ok"] == 2
    found = rows_in(tmp_path / "answers")
    assert [row["name"] for row in found] == ["alpha", "beta"]
    assert all("letter" in row["output"] for row in found)  # the engine repeats the passages in reverse
    (job,) = platform.control.jobs()
    assert job["kind"] == "memory_rag"


def test_a_classifier_is_trained_and_used_with_native_templates(load_dags, tmp_path, platform):
    results = run(load_dags(FILE)["native"], output=str(tmp_path))
    assert results["train"]["created"] == 1
    assert results["classify"]["model_id"] == results["train"]["model_id"]
    assert results["classify"]["class"] == "spam"  # it has the same words as the example
    assert len(results["classify"]["classes"]) == 1
    assert posts(platform)["POST /v2/classifier/initialize"] == 1


def test_the_rag_example_refreshes_with_as_little_work_as_possible(load_dags, tmp_path, platform):
    pages = tmp_path / "site"
    shutil.copytree(EXAMPLES / "data" / "help_site", pages)
    listed = "returns.md\nshipping.md\nhub.md\n"
    (pages / "pages.txt").write_text(listed)  # each page is a task
    dag = load_dags(EXAMPLES / "rag_index_refresh.py")["refresh"].dag
    with site(pages) as url:

        def night():
            return run(dag, site=url, folder=str(tmp_path / "rag"))["refresh"]

        built = night()
        assert (built["action"], built["files"]) == ("built", len(listed.split()))
        answers = load_dags(EXAMPLES / "answer_from_index.py")["dag"]
        answered = run(answers, index=built["index_id"], output=str(tmp_path / "answers"))["answer"]
        assert answered["counts"]["ok"] == 2
        assert night()["action"] == "unchanged"
        (pages / "warranty.md").write_text("# Warranty\n\nEverything has a warranty of two years.\n")
        (pages / "pages.txt").write_text(listed + "warranty.md\n")
        added = night()
        assert (added["action"], added["added"], added["index_id"]) == ("added", 1, built["index_id"])
        (pages / "pages.txt").write_text(listed.replace("hub.md\n", ""))
        rebuilt = night()
        assert (rebuilt["action"], rebuilt["removed"], rebuilt["files"]) == ("rebuilt", 2, 2)
    sent = posts(platform)
    work = [sent[f"{RAG}/{what}"] for what in ("train", "add-index", "completions")]
    assert work == [2, 1, 6]


def test_the_classifier_example_trains_evaluates_and_classifies(load_dags, tmp_path, platform):
    """The engine's vectors are arbitrary, so this requires no accuracy."""
    data = tmp_path / "data"
    data.mkdir()
    for name, rows in (("support_tickets", 40), ("tickets_examples", 50), ("tickets_held_out", 100)):
        lines = (EXAMPLES / "data" / f"{name}.jsonl").read_text().splitlines(keepends=True)
        (data / f"{name}.jsonl").write_text("".join(lines[:rows]))
    dag = load_dags(EXAMPLES / "classifier_train_and_classify.py")["train"].dag
    conf = {"data": str(data), "output": str(tmp_path / "out"), "accuracy": 0}
    results = run(dag, **conf)
    assert (results["train"]["created"], results["train"]["examples"]) == (1, 50)
    assert (results["evaluate"]["passed"], results["evaluate"]["rows"]) == (True, 100)
    assert results["classify"]["counts"]["ok"] == 40
    assert [row["ticket_id"] for row in rows_in(tmp_path / "out", "**/part-*.jsonl")][:2] == [
        "T-10023",
        "T-10024",
    ]
    again = run(dag, **conf)
    assert again["train"]["created"] == 0
    assert posts(platform)["POST /v2/classifier/initialize"] == 1
    assert posts(platform)["POST /v2/classifier/train"] == 1


def test_the_examples_and_the_held_out_rows_are_different_tickets_of_the_demo():
    def rows(name):
        text = (EXAMPLES / "data" / f"{name}.jsonl").read_text(encoding="utf-8")
        return {row["ticket_id"]: row for row in map(json.loads, text.splitlines())}

    examples, held_out, tickets = rows("tickets_examples"), rows("tickets_held_out"), rows("support_tickets")
    assert (len(examples), len(held_out)) == (50, 100)
    assert not examples.keys() & held_out.keys()
    for ticket_id, row in (examples | held_out).items():
        ticket = tickets[ticket_id]
        assert row == {
            "ticket_id": ticket_id,
            "subject": ticket["subject"],
            "body": ticket["body"],
            "category": ticket["expected_category"],
        }
