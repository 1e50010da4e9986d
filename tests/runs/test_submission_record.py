"""The submission record: in a file under ``state_path``, or in Airflow's task state store."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

import pytest

from airflow_provider_lamini.exceptions import UnreadableRecordError
from airflow_provider_lamini.runs.submission_record import (
    NoRecord,
    Submission,
    record_store,
)
from tests.support.task_runs import MemoryHook, task_run
from tests.support.tasks import TI, TaskInstance, log_lines

SUBMISSION = Submission(fingerprint="f", mark="m", intended_at=1.5, before=["1"], numbers={"rows": 2})


@dataclass(frozen=True)
class LoopTaskInstance(TaskInstance):
    """A task instance of Airflow 3.4, in a task-group loop."""

    region_id: str = "loop"
    region_index: int = 0

    @property
    def iteration(self):
        return self.region_index


class StateStore(dict):
    """Airflow's task state store."""

    def set(self, key, value):
        self[key] = value

    def delete(self, key):
        self.pop(key, None)


def file_store(tmp_path, ti=TI):
    return record_store(task_run(ti), str(tmp_path))


@pytest.fixture(params=["file", "task state store"])
def store(request, tmp_path):
    """Returns a function that opens a task's record, as each process does."""
    state = StateStore()
    if request.param == "file":
        return lambda ti=TI, name="submission": record_store(task_run(ti), str(tmp_path), name)
    return lambda ti=TI, name="submission": record_store(task_run(ti, state_store=state), None, name)


def test_a_record_is_read_as_it_was_written_until_it_is_forgotten(store):
    assert store().read() is None
    store().write(SUBMISSION)
    store().write(SUBMISSION.submitted("7", 2.5))
    assert store().read() == SUBMISSION.submitted("7", 2.5)
    store().forget()
    assert store().read() is None


def test_each_task_has_its_own_record(store):
    store().write(SUBMISSION)
    assert store(TI.retried()).read() == SUBMISSION
    # Airflow keeps the stores of mapped tasks apart by itself.
    assert store(LoopTaskInstance()).read() is None


def test_the_iterations_of_a_loop_have_records_of_their_own(store):
    for number in range(3):
        store(LoopTaskInstance(region_index=number)).write(replace(SUBMISSION, mark=str(number)))
    marks = [store(LoopTaskInstance(region_index=number)).read().mark for number in range(3)]
    assert marks == ["0", "1", "2"]


def test_another_map_index_has_another_file(tmp_path):
    file_store(tmp_path).write(SUBMISSION)
    assert file_store(tmp_path, replace(TI, map_index=1)).read() is None


def test_a_task_may_keep_several_records(store):
    store().write(SUBMISSION)
    assert store(name="dataset").read() is None


def test_keys_in_the_shared_store_begin_with_the_packages_name():
    state = StateStore()
    record_store(task_run(state_store=state), None).write(SUBMISSION)
    assert list(state) == ["airflow_provider_lamini_submission"]
    assert state["airflow_provider_lamini_submission"]["version"] == 1


def test_the_tasks_folder_goes_before_the_connections_and_that_before_the_store(tmp_path):
    state, hook = StateStore(), MemoryHook(records=str(tmp_path / "of the connection"))
    task = task_run(hook=hook, state_store=state)
    record_store(task, str(tmp_path / "of the task")).write(SUBMISSION)
    assert [path.name for path in tmp_path.iterdir()] == ["of the task"]
    record_store(task, None).write(SUBMISSION)
    assert len(list((tmp_path / "of the connection").iterdir())) == 1
    assert not state


def test_without_a_place_nothing_is_kept_and_the_log_says_what_that_means():
    records = record_store(task_run(), None)
    records.write(SUBMISSION)
    assert records.read() is None
    assert isinstance(records, NoRecord)
    with log_lines() as lines:
        records.warn(task_run().log)
    (line,) = lines
    assert "a retry submits again" in line
    assert "as [test] state_path in Airflow's configuration" in line  # the section has the platform's name


def test_a_resume_that_was_only_requested_counts_once_it_has_begun():
    assert replace(SUBMISSION, resumes=1, resuming=2).resumed() == replace(SUBMISSION, resumes=2)
    assert SUBMISSION.resumed(1) == replace(SUBMISSION, resumes=1)
    assert SUBMISSION.resumed() == SUBMISSION


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff", b"[]", b'{"version": 2}', b'{"version": 1, "more": 1}']
)
def test_a_record_that_cannot_be_read_stops_the_task(tmp_path, content):
    file_store(tmp_path).write(SUBMISSION)
    (file,) = tmp_path.glob("submission-*.json")
    file.write_bytes(content)
    with pytest.raises(UnreadableRecordError):
        file_store(tmp_path).read()


def test_the_leftovers_of_a_killed_writer_are_removed(tmp_path):
    """Whichever task it was: the folder is shared, and that task may never run again."""
    left = tmp_path / f".submission-{'0' * 32}.json.{'ab' * 8}.airflow-provider-lamini-tmp"
    left.write_text("half")
    assert file_store(tmp_path).read() is None
    assert left.exists()
    os.utime(left, (0, 0))
    assert file_store(tmp_path).read() is None
    assert not left.exists()
