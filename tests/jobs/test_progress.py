"""The progress line in a task's log."""

from __future__ import annotations

from dataclasses import replace

import httpx
import pytest

from airflow_provider_lamini.api.client import Client
from airflow_provider_lamini.api.errors import PlatformError, UnavailableError
from airflow_provider_lamini.api.settings import ClientSettings
from airflow_provider_lamini.jobs.progress import Progress, ProgressLog, describe
from airflow_provider_lamini.jobs.state import JobProgress, JobState, JobStatus, PollHistory, ProgressUnit
from airflow_provider_lamini.platforms.lamini.api import training
from airflow_provider_lamini.platforms.lamini.platform import LAMINI_DIALECT
from airflow_provider_lamini.wording import duration
from tests.support.processes import free_port


def history(done: float, unit: ProgressUnit = ProgressUnit.ROWS) -> PollHistory:
    return PollHistory(JobStatus("7", JobState.RUNNING, "running", JobProgress(done, unit, 100)))


def test_rows_of_finished_chunks_and_of_running_jobs_are_added_up():
    progress = Progress(jobs=2, done=400, total=1000, skipped=200, since=100.0)
    line = progress.line({"a": history(30), "b": history(70)}, now=130.0)
    assert line == "500 of 1,000 rows done, 2 jobs in progress, 10 rows/s, about 50 s left"


@pytest.mark.parametrize("unit", [ProgressUnit.STEPS, ProgressUnit.PERCENT])
def test_steps_and_percent_are_not_added_to_rows(unit):
    progress = Progress(jobs=2, done=400, total=1000, skipped=400, since=100.0)
    line = progress.line({"a": history(70, unit)}, now=130.0)
    assert line == "400 of 1,000 rows done, 2 jobs in progress"


def test_no_speed_is_shown_before_a_row_is_done():
    progress = Progress(jobs=1, done=200, total=1000, skipped=200, since=100.0)
    assert progress.line({"a": history(0)}, now=130.0) == "200 of 1,000 rows done, 1 job in progress"


def test_no_rows_are_counted_before_all_jobs_were_polled():
    progress = Progress(jobs=2, done=0, total=1000, since=100.0)
    line = progress.line({"a": history(30), "b": PollHistory()}, now=130.0)
    assert line == "2 jobs in progress, waiting for the first status"


def test_a_job_that_has_ended_is_not_in_progress():
    ended = PollHistory(
        JobStatus("8", JobState.SUCCEEDED, "succeeded", JobProgress(70, ProgressUnit.ROWS, 70))
    )
    line = Progress(jobs=2, total=1000).line({"a": history(30), "b": ended}, now=0.0)
    assert line == "100 of 1,000 rows done, 1 job in progress"


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
    line = Progress(jobs=1).line({"a": PollHistory(error=UnavailableError("No response."), errors=3)})
    assert line.startswith("The last poll failed, still waiting: No response.")


def failed(status: int, body: bytes, **headers: str) -> PlatformError:
    """What a client raises after a poll that was answered like this."""
    handle = lambda _: httpx.Response(status, content=body, headers=headers)  # noqa: E731
    settings = ClientSettings(
        base_url="https://llm.example.com", key="a-key", dialect=LAMINI_DIALECT, retry_budget=0.0
    )
    with (
        Client(settings, transport=httpx.MockTransport(handle)) as client,
        pytest.raises(PlatformError) as raised,
    ):
        client.send(training.job("17"))
    return raised.value


def refused() -> PlatformError:
    """What a client raises where nothing listens."""
    settings = ClientSettings(
        base_url=f"http://127.0.0.1:{free_port()}", key="a-key", dialect=LAMINI_DIALECT, retry_budget=0.0
    )
    with Client(settings) as client, pytest.raises(PlatformError) as raised:
        client.send(training.job("17"))
    return raised.value


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (lambda: failed(503, b"down", **{"retry-after": "20"}), ["503", "Check it if this lasts"]),
        (lambda: failed(502, b"<html>Bad Gateway</html>"), ["502", "Check it if this lasts"]),
        (lambda: failed(200, b"<html>Back soon</html>"), ["200", "Check it if this lasts"]),
        (lambda: failed(429, b"{}"), ["429", "requests_per_second"]),
        (lambda: failed(401, b"{}"), ["401", "Check the key"]),
        (refused, ["refused", "check that the platform runs"]),
    ],
)
def test_the_reason_of_an_outage_and_what_to_do_are_at_the_beginning_of_its_line(error, words):
    line = Progress(jobs=1).line({"17": PollHistory(error=error(), errors=12)})
    assert [word for word in words if word not in line[:100]] == []


def test_no_remaining_time_is_shown_while_polls_fail():
    progress = Progress(jobs=1, done=400, total=1000, skipped=0, since=100.0)
    failing = replace(history(0), error=UnavailableError("no response"), errors=1)
    line = progress.line({"a": failing}, now=130.0)
    assert line.endswith("(400 of 1,000 rows done, 1 job in progress at the last successful poll)")
    assert "left" not in line


def test_no_successful_poll_is_claimed_before_the_first_one():
    progress = Progress(jobs=1, done=400, total=1000)
    line = progress.line({"a": PollHistory(error=UnavailableError("No response."), errors=1)})
    assert line == "The last poll failed, still waiting: No response."


def test_an_outage_is_one_warning_and_its_end_is_logged():
    lines: list[tuple[str, str]] = []
    log = ProgressLog(
        Progress(jobs=1),
        info=lambda line: lines.append(("info", line)),
        warn=lambda line: lines.append(("warning", line)),
    )
    good = PollHistory(JobStatus("7", JobState.RUNNING, "TRAINING"))
    failing = PollHistory(good.status, UnavailableError("no response"), errors=1)
    back = PollHistory(good.status, outages=1, outage_seconds=61.0)
    for history in (good, failing, failing, back):
        log.report({"a": history})
    assert [level for level, _ in lines] == ["info", "warning", "info", "info", "info"]
    assert [line for _, line in lines][3:] == ["The platform answers again, after 1 min.", "job a: TRAINING"]


def test_no_estimate_of_the_platform_is_shown_while_polls_fail():
    status = JobStatus(
        "7", JobState.RUNNING, "TRAINING", JobProgress(3, ProgressUnit.STEPS), "step 3, about 5 min left"
    )
    line = Progress(jobs=1).line({"7": PollHistory(status, UnavailableError("No response."), errors=1)})
    assert line.endswith("(job 7: TRAINING (step 3) at the last successful poll)")


def test_a_summary_says_how_long_a_wait_took_how_far_the_jobs_are_and_what_failed():
    history = PollHistory()
    running = JobStatus(
        "7", JobState.RUNNING, "TRAINING", JobProgress(90, ProgressUnit.STEPS), "step 90, loss 2"
    )
    history.answered(running, 100.0)
    for second in (110.0, 120.0):
        history.failed(UnavailableError("Down.", status=503), second)
    history.answered(JobStatus("7", JobState.SUCCEEDED, "COMPLETED"), 172.0)
    log = ProgressLog(Progress(jobs=1), info=print, warn=print)
    assert log.summary({"7": history}, 750.0) == (
        "Waited 12 min: job 7: COMPLETED, before that step 90; polls failed 1 time, for 1 min in all "
        "(it answered 503)."
    )


def test_a_summary_counts_rows_and_names_few_jobs():
    progress = Progress(jobs=2, done=400, total=1000)
    ended = PollHistory(
        JobStatus("8", JobState.SUCCEEDED, "all 100 rows", JobProgress(100, ProgressUnit.ROWS, 100))
    )
    log = ProgressLog(progress, info=print, warn=print)
    text = "Waited 45 s: 1 of 2 jobs ended, 530 of 1,000 rows done."
    assert log.summary({"a": history(30), "b": ended}, 45.0) == text
    many = {str(number): PollHistory(JobStatus(str(number), JobState.RUNNING, "up")) for number in range(5)}
    log = ProgressLog(Progress(jobs=5), info=print, warn=print)
    assert log.summary(many, 45.0) == "Waited 45 s: job 0: up, job 1: up, job 2: up, and 2 more."


def test_the_numbers_survive_serialization():
    progress = Progress(jobs=3, done=1, total=2, skipped=1, since=5.5)
    assert Progress.from_payload(progress.payload(), jobs=3) == progress


@pytest.mark.parametrize(
    ("seconds", "text"), [(4.2, "4 s"), (90, "2 min"), (5400, "1.5 h"), (86_400, "24 h")]
)
def test_durations_are_formatted_for_users(seconds, text):
    assert duration(seconds) == text
