"""The record of a submission in a file under ``state_path``."""

from __future__ import annotations

import os

import pytest

from airflow_provider_lamini.runs.submission_record import Submission, UnreadableRecordError, record_store
from airflow_provider_lamini.runs.task import TaskRun

OWNER = {"dag_id": "weekly", "task_id": "train", "run_id": "run-1", "map_index": -1}


def store(tmp_path):
    return record_store({}, OWNER, str(tmp_path), None)


def test_a_record_is_read_as_it_was_written_until_it_is_forgotten(tmp_path):
    submission = Submission(fingerprint="f", mark="m", intended_at=1.5, before=["1"], numbers={"rows": 2})
    store(tmp_path).write(submission)
    store(tmp_path).write(submission.submitted("7", 2.5))
    assert store(tmp_path).read() == submission.submitted("7", 2.5)
    store(tmp_path).forget()
    assert store(tmp_path).read() is None


def test_another_task_has_another_record(tmp_path):
    store(tmp_path).write(Submission(fingerprint="f", mark="m", intended_at=1.0))
    assert record_store({}, OWNER | {"map_index": 1}, str(tmp_path), None).read() is None


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff", b"[]", b'{"version": 2}', b'{"version": 1, "more": 1}']
)
def test_a_record_that_cannot_be_read_stops_the_task(tmp_path, content):
    store(tmp_path).write(Submission(fingerprint="f", mark="m", intended_at=1.0))
    (file,) = tmp_path.glob("submission-*.json")
    file.write_bytes(content)
    with pytest.raises(UnreadableRecordError):
        store(tmp_path).read()


def test_what_a_writer_that_was_killed_has_left_is_removed(tmp_path):
    """Of any task: the folder is shared, and the task whose file it was may never run again."""
    left = tmp_path / f".submission-{'0' * 32}.json.{'ab' * 8}.airflow-provider-lamini-tmp"
    left.write_text("half")
    assert store(tmp_path).read() is None
    assert left.exists()
    os.utime(left, (0, 0))
    assert store(tmp_path).read() is None
    assert not left.exists()
