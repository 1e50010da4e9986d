from __future__ import annotations

from airflow_provider_lamini.jobs import answers
from airflow_provider_lamini.jobs.answers import Answers
from airflow_provider_lamini.platforms.lamini.api.batches import completions_result

BODY = b'{"outputs": ["a", "b"], "finish_reason": ["stop", "length"]}'


def kept(**bodies):
    found = Answers()
    for job_id, body in bodies.items():
        found.keep(completions_result(job_id).path, body)
    return found


def test_what_was_kept_is_read_as_if_it_were_fetched():
    call = completions_result("j1").map(lambda answer: answer.outputs)
    assert kept(j1=BODY).read(call) == ["a", "b"]


def test_an_answer_is_read_once():
    found = kept(j1=BODY)
    assert found.read(completions_result("j1")) is not None
    assert found.read(completions_result("j1")) is None


def test_another_job_has_no_answer():
    assert kept(j1=BODY).read(completions_result("j2")) is None


def test_what_cannot_be_read_is_left_to_the_request():
    """Its failure is then told as any other."""
    found = kept(j1=b"<html>", j2=b'"text"', j3=b"[" * 100_000)
    assert [found.read(completions_result(job_id)) for job_id in ("j1", "j2", "j3")] == [None] * 3


def test_there_is_room_for_so_much_only(monkeypatch):
    monkeypatch.setattr(answers, "MOST", 2 * len(BODY))
    found = kept(j1=BODY, j2=BODY, j3=BODY)
    assert found.read(completions_result("j3")) is None
    assert found.read(completions_result("j1")) is not None
    found.keep(completions_result("j3").path, BODY)
    assert found.read(completions_result("j3")) is not None


def test_a_job_that_is_looked_at_twice_takes_room_once(monkeypatch):
    monkeypatch.setattr(answers, "MOST", 2 * len(BODY))
    found = kept(j1=b"old" + BODY)
    found.keep(completions_result("j1").path, BODY)
    found.keep(completions_result("j2").path, BODY)
    assert found.read(completions_result("j1")) is not None
    assert found.read(completions_result("j2")) is not None
