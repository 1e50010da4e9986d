"""Embeddings, completions and chat, run by Airflow: templates, mapping, XComs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from airflow_provider_lamini.results import read_outputs
from tests.support.demo import EXAMPLES, first_tickets
from tests.support.platforms import posts
from tests.support.upstream import DIMENSIONS, TEXT_MODEL, text_for, vector_for

pytestmark = [pytest.mark.dags, pytest.mark.usefixtures("airflow_db", "platform")]

FILE = Path(__file__).with_name("direct_request_dags.py")


@pytest.fixture
def run(load_dags, tmp_path):
    """Returns a function that runs a Dag in this process, including its triggers, and returns the Dag run."""

    def to_end(name):
        ended = load_dags(FILE)[name].test(run_conf={"model": TEXT_MODEL, "output": str(tmp_path)})
        states = {(ti.task_id, ti.map_index): str(ti.state) for ti in ended.get_task_instances()}
        assert set(states.values()) == {"success"}, states
        return ended

    return to_end


def kept(tmp_path, name):
    return json.loads((tmp_path / f"{name}.json").read_text())


def test_vectors_are_written_to_parquet_or_returned(run, tmp_path, platform):
    pytest.importorskip("pyarrow")
    docs = [{"id": number, "title": f"title {number}"} for number in range(5)]
    (tmp_path / "docs.jsonl").write_text("".join(json.dumps(doc) + "\n" for doc in docs))
    ended = run("embeddings")
    result = kept(tmp_path, "folder")
    assert result["output"] == str(tmp_path / ended.run_id)
    assert (result["counts"]["ok"], result["chunks"], result["dimensions"]) == (5, 3, DIMENSIONS)
    assert [(row["id"], row["embedding"]) for row in read_outputs(result["output"])] == [
        (doc["id"], pytest.approx(vector_for(f"{doc['title']} on parcels"), abs=1e-6)) for doc in docs
    ]
    vectors = [pytest.approx(vector_for(text)) for text in ("a", "b of parcels")]
    assert kept(tmp_path, "few")["embeddings"] == vectors
    assert posts(platform) == {"POST /v1/batch_embeddings": 3, "POST /v1/embedding": 1}


def test_an_output_can_be_part_of_the_next_prompt(run, tmp_path, engine):
    run("texts")
    found = kept(tmp_path, "chat")
    first = f"{text_for('about parcels')} again"
    assert found["outputs"] == [text_for(first), "c b"]
    sent = [body["messages"] for body in engine.bodies if "messages" in body]
    assert [{"role": "system", "content": "You know parcels."}, {"role": "user", "content": first}] in sent


def test_prompts_can_be_mapped_and_mapped_results_can_be_an_input(run, tmp_path):
    run("mapped")
    one, several = kept(tmp_path, "mapped")
    assert one["output"] == "two one"
    assert several["outputs"] == ["four three", "six five"]
    assert kept(tmp_path, "vectors")["embeddings"] == [pytest.approx(vector_for(text)) for text in "AB"]


def test_the_example_finds_the_requested_ticket(load_dags, tmp_path, platform):
    pytest.importorskip("pyarrow")
    tickets = first_tickets(tmp_path, 250)
    wanted = tickets.rows[123]
    ended = load_dags(EXAMPLES / "embedding_refresh.py")["dag"].test(
        run_conf={
            "input": str(tickets.file),
            "output": str(tickets.output),
            "question": f"{wanted['subject']}\n{wanted['body']}",
        }
    )
    states = {ti.task_id: str(ti.state) for ti in ended.get_task_instances()}
    assert states == dict.fromkeys(["embed_tickets", "embed_question", "nearest"], "success")
    found = next(ti for ti in ended.get_task_instances() if ti.task_id == "nearest").xcom_pull("nearest")
    assert len(found) == 3
    assert found[0] == {"ticket": wanted["ticket_id"], "subject": wanted["subject"]}
    rows = list(read_outputs(str(tickets.output / ended.run_id)))
    assert [row["ticket_id"] for row in rows] == [ticket["ticket_id"] for ticket in tickets.rows]
    assert posts(platform) == {"POST /v1/batch_embeddings": 3, "POST /v1/embedding": 1}
