"""The platform dies while a task waits for it."""

from __future__ import annotations

import threading
import time

import pytest

from tests.support.local_platform import local_platform, wait_until
from tests.support.platforms import connect
from tests.support.tasks import log_lines, run_to_end
from tests.support.upstream import text_for

pytestmark = pytest.mark.long

PROMPTS = [f"row {number} of all" for number in range(25)]


@pytest.fixture
def mortal(engine, tmp_path, monkeypatch):
    """A platform of the test's own."""
    with local_platform(tmp_path / "platform", engine.url) as running:
        connect(monkeypatch, running, "mortal", extra={"retry_budget": 60})
        yield running


@pytest.mark.parametrize("deferrable", [True, False])
def test_a_platform_that_is_killed_and_started_again_has_every_row_once(mortal, inference, rows, deferrable):
    mortal.control.hold(after_rows=4)  # until it is killed

    def die_and_rise():
        wait_until(lambda: sum(job["done"] for job in mortal.control.jobs()) == 8)
        mortal.kill()
        time.sleep(1)
        mortal.restart()

    accident = threading.Thread(target=die_and_rise)
    accident.start()
    with log_lines() as lines:
        ended = run_to_end(inference(lamini_conn_id="mortal", deferrable=deferrable, poll_interval=0.6))
    accident.join()
    assert any("will retry" in line for line in lines)
    assert [row["index"] for row in rows()] == list(range(25))
    assert [row["output"] for row in rows()] == [text_for(prompt) for prompt in PROMPTS]
    jobs = mortal.control.jobs()
    assert [job["total"] for job in jobs] == [10, 10, 5]
    assert [job["computed_here"] for job in jobs] == [6, 6, 5]
    assert ended.result["counts"] == ended.result["counts"] | {"ok": 25, "failed": 0, "retried": 0}
