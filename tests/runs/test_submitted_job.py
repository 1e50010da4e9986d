"""The life of one job, without an operator: attach, submit once, wait, judge, return."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import pytest

from airflow_provider_lamini.api.errors import BadRequestError, JobNotFoundError, UnavailableError
from airflow_provider_lamini.exceptions import (
    InvalidArgumentError,
    JobCancelledError,
    JobFailedError,
    JobLostError,
    KeyRefusedError,
    TaskKilledError,
    UnreadableRecordError,
    WaitTimeoutError,
)
from airflow_provider_lamini.jobs.event import EndedJob, JobEvent, LostJob
from airflow_provider_lamini.jobs.kinds import JobKind
from airflow_provider_lamini.jobs.state import JobState, JobStatus
from airflow_provider_lamini.runs import submitted_job
from airflow_provider_lamini.runs.job_spec import (
    Accept,
    Fail,
    JobSpec,
    OrphanSearch,
    Prepared,
    Resume,
    SubmissionOptions,
    find_new_job,
)
from airflow_provider_lamini.runs.outcome import Done, WaitFor
from airflow_provider_lamini.runs.submission_record import NoRecord, record_store
from airflow_provider_lamini.runs.submitted_job import SubmittedJob
from tests.support.task_runs import MemoryHook, task_run
from tests.support.tasks import TI, log_lines


@dataclass
class Platform:
    """A platform that keeps jobs in memory.

    :param jobs: the state of each job, by id
    :param failures: what the next requests raise, by operation
    """

    jobs: dict[str, JobState] = field(default_factory=dict)
    failures: dict[str, Exception] = field(default_factory=dict)
    resumed: list[str] = field(default_factory=list)

    def submit(self):
        job_id = str(len(self.jobs) + 1)
        self.jobs[job_id] = JobState.RUNNING
        self._fail("submit")
        return job_id

    def status(self, job_id):
        self._fail("status")
        return JobStatus(job_id, self.jobs[job_id], self.jobs[job_id].name)

    def cancel(self, job_id):
        self._fail("cancel")
        self.jobs[job_id] = JobState.CANCELLED

    def resume(self, job_id):
        self._fail("resume")
        self.resumed.append(job_id)
        self.jobs[job_id] = JobState.RUNNING

    def _fail(self, operation):
        if operation in self.failures:
            raise self.failures.pop(operation)

    @property
    def kind(self):
        return JobKind(
            name="toy/work",
            title="toy",
            status=lambda job_id: lambda: self.status(job_id),
            cancel=lambda job_id: lambda: self.cancel(job_id),
            resume=lambda job_id: lambda: self.resume(job_id),
        )


class Toy(JobSpec):
    """A job with few needs."""

    def __init__(self, platform, size=1, *, found=OrphanSearch.UNKNOWN, bad_end=None):
        self.platform = platform
        self.kind = platform.kind
        self.size = size
        self.found = found
        self.bad_end = bad_end
        self.links = []
        self.on_prepare = lambda _: None

    def fingerprint_inputs(self):
        return {"size": self.size}

    @contextmanager
    def prepare(self, mark):
        self.on_prepare(mark)
        yield Prepared(create=self.create, before=[], numbers={"size": self.size}, not_started=(OSError,))

    def create(self):
        return self.platform.submit()

    def find_orphaned_job(self, submission):
        assert submission.before == []
        return self.found

    def result(self, job_id, status, submission):
        return {"job": job_id, "status": status.raw, "size": submission and submission.numbers["size"]}

    def result_without_waiting(self, job_id, submission):
        return {"job": job_id, "size": submission.numbers["size"]}

    def on_bad_end(self, job_id, status, submission):
        return self.bad_end or super().on_bad_end(job_id, status, submission)

    def publish_link(self, job_id):
        self.links.append(job_id)


@pytest.fixture
def platform():
    return Platform()


@pytest.fixture
def place(tmp_path):
    return str(tmp_path)


@pytest.fixture
def run(platform, place):
    """Returns a function that runs a try until it has to wait, or to its end."""

    def run(spec=None, ti=TI, event=None, task=None, **options):
        task = task or task_run(ti)
        options = {"state_path": place, **options}
        return task.run(SubmittedJob(task, spec or Toy(platform), SubmissionOptions(**options)), event)

    return run


def ended(state, job_id="1", **values):
    return JobEvent(ended={job_id: EndedJob(state, state.name, **values)}, deadline=time.time())


def record(place, ti=TI):
    return record_store(task_run(ti), place)


def lost_answer():
    return UnavailableError("the answer is lost", may_have_started=True)


# ---- submit and attach ----------------------------------------------------------------------------------


def test_a_job_is_submitted_and_its_result_returned(platform, run, place):
    spec = Toy(platform)
    outcome = run(spec)
    assert (outcome.kind, outcome.job_ids) == ("toy/work", ["1"])
    assert abs(outcome.submitted_at - time.time()) < 5
    assert spec.links == ["1"]
    assert record(place).read().job_id == "1"
    assert run(event=ended(JobState.SUCCEEDED)) == Done({"job": "1", "status": "SUCCEEDED", "size": 1})


def test_a_retry_attaches_to_the_job(platform, run, place):
    first = run()
    with log_lines() as lines:
        assert run(ti=TI.retried()) == first
    assert "Attached to toy job 1." in lines
    assert record(place).read().attached_at is not None
    assert len(platform.jobs) == 1


def test_a_job_that_has_already_succeeded_is_not_waited_for(platform, run):
    run()
    platform.jobs["1"] = JobState.SUCCEEDED
    assert run(ti=TI.retried()).result["job"] == "1"


def test_a_status_that_cannot_be_read_is_left_to_polling(platform, run):
    run()
    platform.failures["status"] = UnavailableError("503")
    with log_lines() as lines:
        assert isinstance(run(ti=TI.retried()), WaitFor)
    assert "Could not read the status of job 1; continuing to poll: 503" in lines


def test_without_waiting_the_same_job_is_returned_unless_it_has_failed(platform, run):
    assert run(wait=False) == Done({"job": "1", "size": 1})
    assert run(wait=False) == Done({"job": "1", "size": 1})
    platform.jobs["1"] = JobState.FAILED
    assert run(wait=False) == Done({"job": "2", "size": 1})


def test_without_a_record_each_try_submits_and_the_log_warns(platform, run):
    with log_lines() as lines:
        run(state_path=None)
        run(state_path=None, ti=TI.retried())
    assert sum("no place for a submission record" in line for line in lines) == 2
    assert len(platform.jobs) == 2


def test_a_refusal_leaves_no_record(platform, run, place):
    platform.failures["submit"] = BadRequestError("no such size")
    with pytest.raises(BadRequestError):
        run()
    assert record(place).read() is None


def test_a_wrong_argument_that_only_the_submission_finds_leaves_no_record(platform, run, place):
    spec = Toy(platform)

    def refuse(_):
        raise ValueError("size is wrong")

    spec.on_prepare = refuse
    with pytest.raises(InvalidArgumentError, match="size is wrong"):
        run(spec)
    assert record(place).read() is None


def test_a_submission_that_another_process_superseded_is_not_sent(platform, run, place):
    """Between the intent and the paid call, another process has begun."""

    def supersede(_):
        known = record(place).read()
        record(place).write(replace(known, mark="of the other process"))

    spec = Toy(platform)
    spec.on_prepare = supersede
    with pytest.raises(JobLostError, match="Another process of this task is submitting a toy job"):
        run(spec)
    assert not platform.jobs


def test_what_an_orphan_is_found_by_is_recorded_before_the_job_is_created(platform, run, place):
    recorded = []
    spec = Toy(platform)
    spec.create = lambda: recorded.append(record(place).read()) or platform.submit()
    run(spec)
    assert [(known.job_id, known.before, known.numbers) for known in recorded] == [(None, [], {"size": 1})]


def test_an_error_after_which_nothing_is_started_leaves_no_record(platform, run, place):
    platform.failures["submit"] = OSError("the file is gone")
    with pytest.raises(OSError, match="the file is gone"):
        run()
    assert record(place).read() is None


@pytest.mark.parametrize(
    ("lists", "found"),
    [
        ([{"old": True, "new": True}], "new"),
        ([{"old": True}, {"old": True, "new": True}], "new"),
        ([{"old": True}, {"old": True}], OrphanSearch.NOT_STARTED),
        ([{"new": True, "newer": True}], OrphanSearch.UNKNOWN),
        ([{"new": True, "newer": False}], OrphanSearch.UNKNOWN),
        ([{"new": False}], OrphanSearch.UNKNOWN),
    ],
)
def test_a_job_is_found_only_if_it_is_the_one_new_job_in_the_list(lists, found):
    answers = iter(lists)
    assert find_new_job(lambda: next(answers), ["old"], 0.0) == found
    assert not list(answers)


# ---- the answer was lost --------------------------------------------------------------------------------


@pytest.fixture
def orphaned(platform, run):
    """A try has died while it submitted: job 1 runs, and no record has its id."""
    platform.failures["submit"] = lost_answer()
    with pytest.raises(UnavailableError):
        run()
    assert list(platform.jobs) == ["1"]


@pytest.mark.usefixtures("orphaned")
def test_an_orphaned_job_is_found(platform, run, place):
    assert run(Toy(platform, found="1"), TI.retried()).job_ids == ["1"]
    assert record(place).read().job_id == "1"


@pytest.mark.usefixtures("orphaned")
def test_a_job_that_was_not_started_is_submitted(platform, run):
    assert run(Toy(platform, found=OrphanSearch.NOT_STARTED), TI.retried()).job_ids == ["2"]


@pytest.mark.usefixtures("orphaned")
def test_a_job_that_nobody_can_find_is_left_to_a_person(platform, run):
    with pytest.raises(JobLostError, match=r"^Check the platform for a toy job, then clear the task"):
        run(ti=TI.retried())
    assert len(platform.jobs) == 1
    assert run(ti=TI.retried(), submit_unknown=True).job_ids == ["2"]


# ---- changed arguments and force_new --------------------------------------------------------------------


def test_changed_arguments_cancel_the_job_and_submit_a_new_one(platform, run):
    run()
    assert run(Toy(platform, size=2)).job_ids == ["2"]
    assert platform.jobs["1"] is JobState.CANCELLED


def test_changed_arguments_may_fail_the_task(platform, run):
    run()
    with pytest.raises(InvalidArgumentError, match="toy job 1 with other arguments"):
        run(Toy(platform, size=2), cancel_changed=False)
    assert platform.jobs == {"1": JobState.RUNNING}


def test_changed_arguments_after_the_job_has_ended_submit_a_new_one(platform, run):
    run()
    platform.failures["cancel"] = BadRequestError("it has ended")
    assert run(Toy(platform, size=2)).job_ids == ["2"]


def test_force_new_submits_once_for_each_clear(run):
    first = TI
    cleared = first.retried().cleared()
    tries = [first, first.retried(), cleared, cleared.retried()]
    assert [run(ti=ti, force_new=True).job_ids for ti in tries] == [["1"], ["1"], ["2"], ["2"]]


def test_a_damaged_record_stops_the_task_unless_a_new_job_is_forced(platform, run, tmp_path):
    run()
    (file,) = tmp_path.glob("submission-*.json")
    file.write_text("{")
    with pytest.raises(UnreadableRecordError):
        run(ti=TI.retried())
    assert len(platform.jobs) == 1
    assert run(ti=TI.retried(), force_new=True).job_ids == ["2"]


# ---- a bad end ------------------------------------------------------------------------------------------


def test_a_job_that_failed_fails_the_task_and_a_retry_submits_a_new_one(run):
    run()
    with pytest.raises(JobFailedError, match=r"Toy job 1 ended as FAILED.* A retry submits a new job"):
        run(event=ended(JobState.FAILED))
    assert run(ti=TI.retried()).job_ids == ["2"]


def test_a_failure_may_keep_the_job(platform, run):
    run()
    spec = Toy(platform, bad_end=Fail("Look at it.", keep_record=True))
    with pytest.raises(JobFailedError, match="Look at it"):
        run(spec, event=ended(JobState.FAILED))
    assert run(ti=TI.retried()).job_ids == ["1"]


def test_a_partial_result_may_be_accepted(platform, run):
    run()
    outcome = run(Toy(platform, bad_end=Accept()), event=ended(JobState.PARTLY_SUCCEEDED))
    assert outcome.result["status"] == "PARTLY_SUCCEEDED"


def test_a_job_is_resumed_and_the_resumes_are_counted(platform, run, place):
    run()
    platform.jobs["1"] = JobState.FAILED
    outcome = run(Toy(platform, bad_end=Resume(2)), event=ended(JobState.FAILED))
    assert outcome.job_ids == ["1"]
    assert platform.resumed == ["1"]
    assert (record(place).read().resumes, record(place).read().resuming) == (1, None)


def test_a_refusal_to_resume_fails_the_task(platform, run, place):
    run()
    platform.failures["resume"] = BadRequestError("no checkpoint")
    with pytest.raises(JobFailedError, match="cannot be resumed: no checkpoint A retry submits a new job"):
        run(Toy(platform, bad_end=Resume()), event=ended(JobState.FAILED))
    assert record(place).read() is None


def test_a_resume_whose_answer_is_lost_is_not_repeated(platform, run, place, monkeypatch):
    """The try dies before it knows; the next one finds the job running, and counts the resume."""
    monkeypatch.setattr(submitted_job, "RESUME_TIMEOUT", 0.0)
    run()
    platform.failures |= {"resume": lost_answer(), "status": UnavailableError("503")}
    with pytest.raises(UnavailableError):
        run(Toy(platform, bad_end=Resume(1)), event=ended(JobState.FAILED))
    assert record(place).read().resuming == 1
    assert run(Toy(platform), TI.retried()).job_ids == ["1"]
    assert (record(place).read().resumes, record(place).read().resuming) == (1, None)


def test_a_resume_that_never_arrived_does_not_count(platform, run, place, monkeypatch):
    """The job is not running by then, so the next try requests the resume once more."""
    monkeypatch.setattr(submitted_job, "RESUME_TIMEOUT", 0.0)
    run()
    platform.jobs["1"] = JobState.FAILED
    platform.failures["resume"] = lost_answer()
    with pytest.raises(type(lost_answer())):
        run(Toy(platform, bad_end=Resume(1)), event=ended(JobState.FAILED))
    assert (record(place).read().resumes, record(place).read().resuming) == (0, 1)
    assert run(Toy(platform, bad_end=Resume(1)), TI.retried()).job_ids == ["1"]
    assert platform.resumed == ["1"]
    assert (record(place).read().resumes, record(place).read().resuming) == (1, None)


def test_without_a_record_a_job_is_not_resumed(platform):
    task = task_run()
    job = SubmittedJob(task, Toy(platform, bad_end=Resume()), SubmissionOptions(), NoRecord("test"))
    with pytest.raises(JobFailedError):
        task.run(job, ended(JobState.FAILED))
    assert platform.resumed == []


def test_a_job_that_vanished_is_submitted_by_the_retry(run, place):
    run()
    event = JobEvent(lost={"1": LostJob("404", vanished=True)}, deadline=time.time())
    with pytest.raises(JobLostError, match="A retry submits a new job"):
        run(event=event)
    assert record(place).read() is None


def test_a_job_whose_status_is_unreadable_is_kept(run, place):
    run()
    event = JobEvent(lost={"1": LostJob("400", vanished=False)}, deadline=time.time())
    with pytest.raises(JobLostError, match="may still run and bill; a retry polls it again") as caught:
        run(event=event)
    assert not isinstance(caught.value, KeyRefusedError)
    assert record(place).read().job_id == "1"


def test_a_result_that_cannot_be_read_keeps_the_job(platform, run, place):
    class Broken(Toy):
        def result(self, *_):
            raise JobNotFoundError("404")

    run()
    with log_lines() as lines, pytest.raises(JobNotFoundError):
        run(Broken(platform), event=ended(JobState.SUCCEEDED))
    assert any("its result could not be read" in line for line in lines)
    assert record(place).read().job_id == "1"


# ---- cancelled, by whom? --------------------------------------------------------------------------------


def test_a_job_cancelled_by_the_kill_of_the_previous_try_is_submitted_again(run):
    run()
    run(ti=TI.retried())
    assert run(ti=TI.retried(), event=ended(JobState.CANCELLED)).job_ids == ["2"]


def test_a_job_that_a_person_cancels_fails_the_task(run):
    run()
    with pytest.raises(JobCancelledError):
        run(event=ended(JobState.CANCELLED))
    run()
    run(ti=TI.retried())
    with pytest.raises(JobCancelledError):
        run(event=ended(JobState.CANCELLED, "2", last_alive_at=time.time() + 1000))


# ---- the deadline ---------------------------------------------------------------------------------------


def deadline(job_id="1"):
    return JobEvent(deadline=time.time(), timed_out=True, pending=(job_id,))


LAST = TI.retried()


def test_a_timeout_leaves_the_job_to_the_retry(platform, run):
    run()
    with pytest.raises(WaitTimeoutError, match="toy job 1 may still run and bill; the retry attaches to it"):
        run(event=deadline())
    assert platform.jobs["1"] is JobState.RUNNING


def test_the_last_timeout_cancels_the_job_and_a_clear_resumes_it(platform, run, place):
    run(ti=LAST)
    with pytest.raises(WaitTimeoutError, match="toy job 1 is cancelled, because no retry follows"):
        run(ti=LAST, event=deadline())
    assert platform.jobs["1"] is JobState.CANCELLED
    assert run(ti=LAST.cleared()).job_ids == ["1"]
    assert platform.resumed == ["1"]
    assert record(place).read().stopped_at is None


def test_a_kind_that_cannot_be_resumed_is_submitted_again_after_the_last_timeout(platform, run):
    def once_only():
        spec = Toy(platform)
        spec.kind = replace(spec.kind, resume=None)
        return spec

    run(once_only(), LAST)
    with pytest.raises(WaitTimeoutError):
        run(once_only(), LAST, deadline())
    assert run(once_only(), LAST.cleared()).job_ids == ["2"]


def test_what_is_deleted_is_not_called_cancelled(platform, run):
    spec = Toy(platform)
    spec.kind = replace(spec.kind, cancel_deletes=True)
    run(spec, LAST)
    with pytest.raises(WaitTimeoutError, match="toy job 1 is deleted, because no retry follows"):
        run(spec, LAST, deadline())


@pytest.mark.parametrize(
    ("kind", "options", "reason"),
    [
        ({}, {"cancel_at_deadline": False}, "because on_timeout is leave"),
        ({"cancel": None}, {}, "because the platform cannot cancel it"),
    ],
)
def test_a_job_that_is_left_running_is_named(platform, run, kind, options, reason):
    spec = Toy(platform)
    spec.kind = replace(spec.kind, **kind)
    run(spec, LAST)
    with pytest.raises(WaitTimeoutError, match=f"toy job 1 may still run and bill, {reason}"):
        run(spec, LAST, deadline(), **options)
    assert platform.jobs["1"] is JobState.RUNNING


def test_a_failed_cancellation_is_reported(platform, run):
    run(ti=LAST)
    platform.failures["cancel"] = UnavailableError("503")
    with pytest.raises(WaitTimeoutError, match="Could not cancel the toy job 1; it may still run and bill"):
        run(ti=LAST, event=deadline())


# ---- killed ---------------------------------------------------------------------------------------------


def test_a_killed_task_submits_nothing(platform, run):
    task = task_run()
    task.kill()
    with pytest.raises(TaskKilledError):
        run(task=task)
    assert not platform.jobs


def test_a_kill_during_the_submission_still_reaches_the_job(platform, run, place):
    task, spec = task_run(), Toy(platform)
    spec.create = lambda: task.kill() or platform.submit()
    with (
        log_lines() as lines,
        pytest.raises(
            TaskKilledError, match="while it started toy job 1, which may still run and bill unless the log"
        ),
    ):
        run(spec, task=task)
    assert "cancel_on_kill is off: 1 job keeps running and bills (1)." in lines
    assert record(place).read().job_id == "1"


def test_a_kill_does_not_touch_a_job_that_is_not_waited_for(platform, run):
    task, spec = task_run(), Toy(platform)
    spec.create = lambda: task.kill() or platform.submit()
    with log_lines() as lines:
        assert run(spec, task=task, wait=False).result["job"] == "1"
    assert not any("cancel_on_kill" in line for line in lines)


# ---- options --------------------------------------------------------------------------------------------

RENDERED = {
    "state_path": None,
    "on_changed_input": "fail",
    "on_unknown_submission": "submit",
    "force_new": "true",
    "wait": "no",
    "on_timeout": "leave",
}


def test_options_are_read_from_rendered_templates():
    assert SubmissionOptions.parse(**RENDERED) == SubmissionOptions(
        cancel_changed=False, submit_unknown=True, force_new=True, wait=False, cancel_at_deadline=False
    )


@pytest.mark.parametrize("name", ["on_changed_input", "on_unknown_submission", "force_new", "on_timeout"])
def test_a_wrong_option_is_named(name):
    with pytest.raises(InvalidArgumentError, match=name):
        SubmissionOptions.parse(**RENDERED | {name: "perhaps"})


def test_the_connections_folder_keeps_the_record_if_the_task_names_none(platform, run, place):
    hook = MemoryHook(records=place)
    run(task=task_run(hook=hook), state_path=None)
    assert run(task=task_run(TI.retried(), hook=hook), state_path=None).job_ids == ["1"]
    assert len(platform.jobs) == 1
