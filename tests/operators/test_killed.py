"""A task stops submitting: it was killed, the platform is unavailable, or its output folder has changed."""

from __future__ import annotations

import pytest

from airflow_provider_lamini.exceptions import InvalidArgumentError, TaskKilledError
from tests.support.platforms import connect, posts, submissions
from tests.support.tasks import begin, execute, log_lines, resume, run_to_end

RESULT = "/v1/batch_completions/.*/result"


@pytest.mark.parametrize("endpoint", ["batch", "completions"])
def test_a_killed_task_sends_nothing_more_and_the_next_try_sends_it_once(platform, inference, rows, endpoint):
    make = inference(endpoint=endpoint, deferrable=endpoint == "batch")
    operator = make()
    operator.on_kill()
    with pytest.raises(TaskKilledError, match="killed"):
        execute(operator)
    assert not posts(platform)

    run_to_end(make)
    assert len(rows()) == 25
    assert platform.control.stats()["rows_computed"] == (25 if endpoint == "batch" else 0)


def test_a_task_defers_after_the_first_failed_poll(platform, inference, rows, monkeypatch):
    """Otherwise each of several jobs would hold the worker for a full retry budget."""
    connect(monkeypatch, platform, extra={"retry_budget": 0})
    platform.control.hold()
    begin(inference(max_in_flight=3))
    assert submissions(platform) == 3
    platform.control.fault(RESULT, status=503, times=None)
    with log_lines() as lines:
        begin(inference(max_in_flight=3))
    assert sum("Could not read the status of job" in line for line in lines) == 1

    platform.control.clear_faults()
    platform.control.release()
    run_to_end(inference(max_in_flight=3))
    assert len(rows()) == 25
    assert submissions(platform) == 3


def test_a_resumed_task_with_another_output_folder_does_not_start_again(platform, inference, tmp_path):
    """A clock in the output folder's template must not submit everything again at each resume."""
    deferral = begin(inference(output=str(tmp_path / "at-10-00")))
    assert submissions(platform) == 2
    with pytest.raises(InvalidArgumentError, match="must not use the current time"):
        resume(inference(output=str(tmp_path / "at-10-01")), deferral, deferral.wait())
    assert submissions(platform) == 2
