"""Runs over rows on object stores: how many requests they send, what they are sure of, and what a crash leaves."""

from __future__ import annotations

from itertools import count

import pytest

from airflow_provider_lamini.exceptions import InvalidArgumentError, JobLostError, StorageError
from airflow_provider_lamini.results import read_outputs
from airflow_provider_lamini.rows.errors import LedgerLostError
from airflow_provider_lamini.rows.ledger.document import load
from airflow_provider_lamini.rows.ledger.ledger import Ledger
from airflow_provider_lamini.rows.storage.folder import OutputFolder
from tests.support.platforms import submissions
from tests.support.tasks import TI, begin, execute, log_lines, run_to_end

OUT = "memory://bucket/out"
CHUNKS = 12
MANY = {
    "input": [f"row {number} of many" for number in range(2 * CHUNKS)],
    "chunk_size": 2,
    "max_in_flight": 8,
}


@pytest.fixture
def make(inference, object_store):
    """Makes operators that write to the object store, in many small chunks."""
    del object_store
    return lambda **more: inference(output=OUT, **MANY | {"deferrable": True} | more)


def indices():
    return [row["index"] for row in read_outputs(OUT)]


@pytest.mark.parametrize("deferrable", [True, False])
def test_a_chunk_takes_few_requests(make, object_store, deferrable):
    ended = run_to_end(make(deferrable=deferrable))
    # The store in memory opens what it writes, and lists more often than it is asked to.
    calls = [call for call in object_store.calls if call not in ("open", "ls")]
    # A look at a name is a HEAD and a list on S3. What is looked at is there from the start: nothing per chunk.
    # Some are a run's own, two of them for the links to manifest and report.
    assert len(calls) <= 8 * CHUNKS + 12
    assert calls.count("info") <= 3 + 2 * len(ended.deferrals)
    assert object_store.calls_of("rm_file", "errors-") == object_store.calls_of("rm_file", "chunk-") == []
    assert indices() == list(range(2 * CHUNKS))


@pytest.mark.parametrize("deferrable", [True, False])
def test_the_ledger_is_not_written_for_each_chunk(make, object_store, deferrable):
    run_to_end(make(deferrable=deferrable))
    written = len(object_store.calls_of("pipe_file", "_ledger.json"))
    assert written <= CHUNKS


class Killed(BaseException):
    """The process ends here."""


@pytest.fixture
def kill_at_record(monkeypatch):
    """Ends the process when the id of a job has been recorded, or just before."""

    def arm(number, *, before):
        record, calls = Ledger.record_job_id, count(1)

        def dying(*args, **kwargs):
            last = next(calls) == number
            if last and before:
                raise Killed
            recorded = record(*args, **kwargs)
            if last:
                raise Killed
            return recorded

        monkeypatch.setattr(Ledger, "record_job_id", dying)
        return lambda: monkeypatch.setattr(Ledger, "record_job_id", record)

    return arm


def test_of_chunks_that_are_intended_together_only_those_after_the_last_id_are_sent_again(
    platform, make, kill_at_record, monkeypatch
):
    """The ledger intends seven jobs, three of which have an id in a file: the fourth is unknown, the others were not begun."""
    monkeypatch.setattr(Ledger, "late_answer", 0.0)
    revive = kill_at_record(4, before=False)
    with pytest.raises(Killed):
        execute(make(on_unknown_submission="fail")())
    revive()
    assert submissions(platform) == 4
    assert sum(map(len, load(OutputFolder(OUT)).intents())) == 7
    with pytest.raises(JobLostError, match="Check the platform for a job"):
        execute(make(on_unknown_submission="fail")(), TI.retried())
    run_to_end(make(on_unknown_submission="submit"), TI.retried())
    assert submissions(platform) == CHUNKS
    assert indices() == list(range(2 * CHUNKS))


def test_a_job_whose_id_was_lost_is_the_only_unknown_one(platform, make, kill_at_record, monkeypatch):
    monkeypatch.setattr(Ledger, "late_answer", 0.0)
    revive = kill_at_record(4, before=True)
    with pytest.raises(Killed):
        execute(make()())
    revive()
    run_to_end(make(on_unknown_submission="submit"), TI.retried())
    assert submissions(platform) == CHUNKS + 1
    assert indices() == list(range(2 * CHUNKS))


def test_an_intent_is_renewed_before_a_submission_that_begins_late(platform, make, monkeypatch):
    """A later process waits for an id for 30 s after the intent."""
    monkeypatch.setattr(Ledger, "max_intent_age", 0.0)
    run_to_end(make())
    assert submissions(platform) == CHUNKS
    assert indices() == list(range(2 * CHUNKS))


def test_a_process_that_is_superseded_between_two_submissions_sends_at_most_one_more(
    platform, make, monkeypatch
):
    """It has looked for a claim beside its last write. The later process finds the id of what is sent after it."""
    record, calls = Ledger.record_job_id, count(1)

    def superseded(self, *args, **kwargs):
        recorded = record(self, *args, **kwargs)
        if next(calls) == 3:
            Ledger.resume(OutputFolder(OUT), self.header.owner)
        return recorded

    monkeypatch.setattr(Ledger, "record_job_id", superseded)
    with pytest.raises(LedgerLostError, match="Another process now works"):
        execute(make()())
    assert submissions(platform) == 4
    monkeypatch.setattr(Ledger, "record_job_id", record)
    run_to_end(make(), TI.retried())
    assert submissions(platform) == CHUNKS
    assert indices() == list(range(2 * CHUNKS))


def test_the_log_says_once_that_a_store_creates_an_object_only_once(make):
    with log_lines() as lines:
        run_to_end(make())
    assert sum("Two tries never send the same rows" in line for line in lines) == 1
    assert load(OutputFolder(OUT)).exclusive


def test_a_store_that_ignores_the_condition_is_not_believed(platform, make, object_store):
    object_store.keeps_to_conditions = False
    with log_lines() as lines:
        run_to_end(make())
    assert sum("Let only one try of this task run at a time" in line for line in lines) == 1
    assert load(OutputFolder(OUT)).exclusive is False
    assert submissions(platform) == CHUNKS


@pytest.mark.parametrize("keeps", [True, False])
def test_a_later_try_continues_on_either_kind_of_store(platform, make, object_store, keeps):
    object_store.keeps_to_conditions = keeps
    begin(make())
    run_to_end(make(), TI.retried())
    assert submissions(platform) == CHUNKS
    assert indices() == list(range(2 * CHUNKS))


def test_a_part_that_cannot_be_written_does_not_count_as_done(platform, make, object_store):
    failed = []

    def first_part():
        failing = bool(object_store.calls_of("pipe_file", "part-")) and not failed
        failed.extend([1] * failing)
        return failing

    object_store.fail_while("pipe_file", first_part, OSError("503 SlowDown"))
    with pytest.raises(OSError, match="503 SlowDown"):
        run_to_end(make())
    run_to_end(make(), TI.retried())
    assert submissions(platform) == CHUNKS
    assert indices() == list(range(2 * CHUNKS))


def test_a_store_that_refuses_the_last_look_before_a_submission_leaves_nothing_unknown(
    platform, make, object_store, monkeypatch
):
    """The intent is written, and nothing was sent: the retry submits without asking."""
    monkeypatch.setattr(Ledger, "late_answer", 0.0)
    refused = []

    def first_look_after_an_intent():
        ledger = load_bytes(object_store)
        failing = b'"intended_at"' in ledger and not refused
        refused.extend([1] * failing)
        return failing

    object_store.fail_while("cat_file", first_look_after_an_intent, PermissionError("Access Denied"))
    with pytest.raises((StorageError, InvalidArgumentError)):
        execute(make(on_unknown_submission="fail")())
    assert submissions(platform) == 0
    run_to_end(make(on_unknown_submission="fail"), TI.retried())
    assert submissions(platform) == CHUNKS
    assert indices() == list(range(2 * CHUNKS))


def load_bytes(object_store):
    """The ledger as it is on the store, read without a call that counts."""
    file = object_store.store.get("/bucket/out/_ledger.json")
    return file.getvalue() if file is not None else b""
