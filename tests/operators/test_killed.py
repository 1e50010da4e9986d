"""Where a task must not go on submitting: it was killed, the platform is away, or its folder is another now."""

from __future__ import annotations

import pytest

from airflow_provider_lamini.exceptions import InvalidArgumentError, TaskKilledError
from tests.support.platforms import connect, posts, submissions
from tests.support.tasks import begin, execute, log_lines, run_to_end, wake

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


def test_an_outage_is_left_to_the_watch_after_the_first_look_that_failed(
    platform, inference, rows, monkeypatch
):
    """Several jobs must not hold a worker for several times the time that a client tries for."""
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


def test_a_woken_task_whose_output_folder_is_another_does_not_begin_anew(platform, inference, tmp_path):
    """A clock in the template of the output folder must not submit everything again at each waking."""
    deferral = begin(inference(output=str(tmp_path / "at-10-00")))
    assert submissions(platform) == 2
    with pytest.raises(InvalidArgumentError, match="must not use the current time"):
        wake(inference(output=str(tmp_path / "at-10-01")), deferral, deferral.wait())
    assert submissions(platform) == 2
