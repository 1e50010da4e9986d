"""The progress line in a task's log."""

from __future__ import annotations

import pytest

from airflow_provider_lamini.api.errors import UnavailableError
from airflow_provider_lamini.jobs.progress import Progress, ProgressLog, describe, duration
from airflow_provider_lamini.jobs.state import JobProgress, JobState, JobStatus, PollHistory, ProgressUnit


def history(done: float, unit: ProgressUnit = ProgressUnit.ROWS) -> PollHistory:
    return PollHistory(JobStatus("7", JobState.RUNNING, "running", JobProgress(done, unit, 100)))


def test_rows_of_finished_chunks_and_of_running_jobs_are_added_up():
    progress = Progress(jobs=2, done=400, total=1000, skipped=200, since=100.0)
    line = progress.line({"a": history(30), "b": history(70)}, now=130.0)
    assert line == "500 of 1,000 rows done, 2 job(s) in progress, 10 rows/s, about 50 s left"


@pytest.mark.parametrize("unit", [ProgressUnit.STEPS, ProgressUnit.PERCENT])
def test_steps_and_percent_are_not_added_to_rows(unit):
    progress = Progress(jobs=2, done=400, total=1000, skipped=400, since=100.0)
    line = progress.line({"a": history(70, unit)}, now=130.0)
    assert line == "400 of 1,000 rows done, 2 job(s) in progress"


def test_no_speed_is_shown_before_a_row_is_done():
    progress = Progress(jobs=1, done=200, total=1000, skipped=200, since=100.0)
    assert progress.line({"a": PollHistory()}, now=130.0) == "200 of 1,000 rows done, 1 job(s) in progress"


def test_work_that_is_not_counted_in_rows_shows_the_platforms_words():
    line = Progress(jobs=1).line({"a": PollHistory(JobStatus("7", JobState.RUNNING, "TRAINING MODEL"))})
    assert line == "job a: TRAINING MODEL"


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (
            JobStatus("7", JobState.RUNNING, "Training", JobProgress(75, ProgressUnit.PERCENT)),
            "Training (75%)",
        ),
        (
            JobStatus("7", JobState.RUNNING, "Training", JobProgress(120, ProgressUnit.STEPS, 5000)),
            "Training (step 120 of 5,000)",
        ),
        (
            JobStatus(
                "7", JobState.RUNNING, "Training", JobProgress(1, ProgressUnit.STEPS), "step 1, loss 2"
            ),
            "Training (step 1, loss 2)",
        ),
        (JobStatus("7", JobState.INACTIVE, "Deactivated"), "Deactivated (inactive)"),
    ],
)
def test_a_status_is_described_with_its_progress(status, text):
    assert describe(status) == text


def test_failed_polls_are_reported_with_their_reason():
    line = Progress(jobs=1).line({"a": PollHistory(error=UnavailableError("no response"), errors=3)})
    assert line.startswith("Could not read the status of a job (3 time(s) in a row); will retry: no response")


def test_no_remaining_time_is_shown_while_polls_fail():
    progress = Progress(jobs=1, done=400, total=1000, skipped=0, since=100.0)
    failing = PollHistory(error=UnavailableError("no response"), errors=1)
    line = progress.line({"a": failing}, now=130.0)
    assert line.endswith("(400 of 1,000 rows done, 1 job(s) in progress at the last successful poll)")
    assert "left" not in line


def test_an_outage_is_one_warning_and_its_end_is_logged():
    lines: list[tuple[str, str]] = []
    log = ProgressLog(
        Progress(jobs=1),
        info=lambda line: lines.append(("info", line)),
        warn=lambda line: lines.append(("warning", line)),
    )
    good = PollHistory(JobStatus("7", JobState.RUNNING, "TRAINING"))
    failing = PollHistory(good.status, UnavailableError("no response"), errors=1)
    for history in (good, failing, failing, good):
        log.report({"a": history})
    assert [level for level, _ in lines] == ["info", "warning", "info", "info", "info"]
    assert [line for _, line in lines][3:] == ["The platform answers again.", "job a: TRAINING"]


def test_the_numbers_survive_serialization():
    progress = Progress(jobs=3, done=1, total=2, skipped=1, since=5.5)
    assert Progress.from_payload(progress.payload(), jobs=3) == progress


@pytest.mark.parametrize(("seconds", "text"), [(4.2, "4 s"), (90, "2 min"), (5400, "1.5 h")])
def test_durations_are_formatted_for_users(seconds, text):
    assert duration(seconds) == text
