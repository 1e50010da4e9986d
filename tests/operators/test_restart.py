"""The platform is killed and restarted while a task waits for its jobs."""

from __future__ import annotations

import threading
import time

import pytest

from tests.support.local_platform import local_platform, wait_until
from tests.support.platforms import connect
from tests.support.tasks import log_lines, run_to_end
from tests.support.upstream import text_for

pytestmark = [pytest.mark.faults, pytest.mark.any_airflow]

PROMPTS = [f"row {number} of all" for number in range(25)]


@pytest.fixture
def own_platform(engine, tmp_path, monkeypatch):
    """A platform that only this test uses, and can kill."""
    with local_platform(tmp_path / "platform", engine.url) as running:
        connect(monkeypatch, running, "own_platform", extra={"retry_budget": 60})
        yield running


@pytest.mark.parametrize("deferrable", [True, False])
def test_a_platform_that_is_killed_and_restarted_computes_no_row_twice(
    own_platform, inference, rows, deferrable
):
    own_platform.control.hold(after_rows=4)  # until it is killed

    def kill_and_restart():
        wait_until(lambda: sum(job["done"] for job in own_platform.control.jobs()) == 8)
        own_platform.kill()
        time.sleep(1)
        own_platform.restart()

    killer = threading.Thread(target=kill_and_restart)
    killer.start()
    with log_lines() as lines:
        ended = run_to_end(inference(lamini_conn_id="own_platform", deferrable=deferrable, poll_interval=0.6))
    killer.join()
    assert any("The last poll failed" in line for line in lines)
    assert [row["index"] for row in rows()] == list(range(25))
    assert [row["output"] for row in rows()] == [text_for(prompt) for prompt in PROMPTS]
    jobs = own_platform.control.jobs()
    assert [job["total"] for job in jobs] == [10, 10, 5]
    assert [job["computed_here"] for job in jobs] == [6, 6, 5]
    assert ended.result["counts"] == ended.result["counts"] | {"ok": 25, "failed": 0, "retried": 0}
