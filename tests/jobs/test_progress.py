from __future__ import annotations

import pytest

from airflow_provider_lamini.api.errors import UnavailableError
from airflow_provider_lamini.jobs.progress import Progress, duration
from airflow_provider_lamini.jobs.state import JobState, JobStatus, PollHistory


def seen(done: int) -> PollHistory:
    return PollHistory(status=JobStatus("7", JobState.RUNNING, "running", done, 100))


def test_rows_of_finished_chunks_and_of_running_jobs_are_added_up():
    progress = Progress(jobs=2, done=400, total=1000, skipped=200, since=100.0)
    line = progress.line({"a": seen(30), "b": seen(70)}, now=130.0)
    assert line == "500 of 1,000 rows done, 2 job(s) under way, 10 rows/s, about 50 s left"


def test_no_speed_is_told_before_a_row_is_done():
    progress = Progress(jobs=1, done=200, total=1000, skipped=200, since=100.0)
    assert progress.line({"a": PollHistory()}, now=130.0) == "200 of 1,000 rows done, 1 job(s) under way"


def test_work_that_is_not_counted_in_rows_shows_the_platforms_words():
    line = Progress(jobs=1).line({"a": PollHistory(JobStatus("7", JobState.RUNNING, "TRAINING MODEL"))})
    assert line == "job a: TRAINING MODEL"


def test_looks_that_fail_are_told_with_their_reason():
    line = Progress(jobs=1).line({"a": PollHistory(error=UnavailableError("no answer"), errors=3)})
    assert line.endswith("the last 3 look(s) failed, trying on: no answer")


def test_the_numbers_survive_the_way_through_the_trigger():
    progress = Progress(jobs=3, done=1, total=2, skipped=1, since=5.5)
    assert Progress.from_payload(progress.payload(), jobs=3) == progress


@pytest.mark.parametrize(("seconds", "text"), [(4.2, "4 s"), (90, "2 min"), (5400, "1.5 h")])
def test_durations_are_written_for_people(seconds, text):
    assert duration(seconds) == text
