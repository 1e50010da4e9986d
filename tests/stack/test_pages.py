"""The pages in a real browser, as Airflow's API server serves them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.support.browser import chromium
from tests.support.local_platform import wait_until
from tests.support.processes import end_process, free_port
from tests.support.tuning_platform import Job
from tests.support.upstream import TEXT_MODEL

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, FrameLocator, Page

    from tests.support.airflow_stack import AirflowStack
    from tests.support.local_platform import LocalPlatform
    from tests.support.tuning_platform import TuningPlatform

HOSTILE = "<script>parent.stolen=1</script><img/src=x/onerror=parent.stolen=1>"
LOSSES = [3.0, 2.0, 1.5, 1.25]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@contextmanager
def window(browser: Browser, base: str, *, dark: bool = False) -> Iterator[Page]:
    """Open a window in which a user is logged in. Nothing may fail on its pages or come from elsewhere."""
    context = browser.new_context(base_url=base, color_scheme="dark" if dark else "light")
    context.set_default_timeout(30_000)
    page = context.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda request: None if is_own(request.url, base) else problems.append(request.url))
    page.on(
        "console",
        lambda message: problems.append(message.text) if "Content Security Policy" in message.text else None,
    )
    page.goto(f"{base}/auth/token/login")
    try:
        yield page
        assert problems == []
    finally:
        context.close()


def is_own(url: str, base: str) -> bool:
    """Whether a request goes to Airflow, or only into the browser's memory."""
    return url.startswith((base, "blob:", "data:"))


def framed(page: Page) -> FrameLocator:
    return page.frame_locator("iframe")


@pytest.fixture
def jobs(airflow: AirflowStack, tuning: TuningPlatform) -> Iterator[TuningPlatform]:
    """A platform with a running tuning job, and a connection to it in Airflow's database."""
    history = [{"step": step, "loss": loss} for step, loss in enumerate(LOSSES, 1)]
    tuning.jobs["7"] = Job(7, {"custom_model_name": "tickets"}, ["TRAINING MODEL"], history)
    airflow.add_connection(
        "pages",
        conn_type="lamini",
        host=tuning.url,
        password=tuning.key,
        extra=json.dumps({"web_url": tuning.url}),
    )
    yield tuning
    airflow.remove_connection("pages")


@pytest.mark.parametrize("dark", [False, True])
def test_the_page_of_jobs_draws_the_loss_curve_of_a_job(
    airflow: AirflowStack, jobs: TuningPlatform, browser: Browser, dark: bool
):
    with window(browser, airflow.url, dark=dark) as page:
        page.goto(airflow.url)
        page.get_by_role("button", name="Browse").click()
        page.get_by_role("menuitem", name="LLM jobs").click()
        frame = framed(page)
        frame.locator("#connection").select_option("pages")
        row = frame.locator("#jobs tbody tr")
        row.get_by_text("running").wait_for()
        assert "tickets" in row.inner_text()
        row.click()
        frame.locator("#detail .chart .curve").wait_for()
        points = frame.locator(".curve").get_attribute("points")
        assert len(str(points).split()) == len(LOSSES)
        assert (frame.locator("html").get_attribute("class") or "") == ("dark" if dark else "")
        page.screenshot(path=airflow.home / f"jobs-{'dark' if dark else 'light'}.png")
        with page.context.expect_page() as opened:  # Airflow's frame forbids the page itself to open one
            frame.get_by_text("Open on the platform").click()
        assert opened.value.url == f"{jobs.url}/train/7"
        opened.value.close()


def test_the_page_of_jobs_begins_with_the_connection_of_the_last_visit(
    airflow: AirflowStack, jobs: TuningPlatform, browser: Browser
):
    airflow.add_connection("first_by_name", conn_type="lamini", host=jobs.url, password=jobs.key)
    try:
        with window(browser, airflow.url) as page:
            page.goto("/plugin/llm_jobs")
            choice = framed(page).locator("#connection")
            framed(page).locator("#jobs tbody tr").wait_for()
            assert choice.input_value() == "first_by_name"
            choice.select_option("pages")
            page.goto("/plugin/llm_jobs")
            framed(page).locator("#jobs tbody tr").wait_for()
            assert framed(page).locator("#connection").input_value() == "pages"
    finally:
        airflow.remove_connection("first_by_name")


def test_an_empty_list_says_which_jobs_the_platform_does_not_list(
    airflow: AirflowStack, jobs: TuningPlatform, browser: Browser
):
    jobs.jobs.clear()
    with window(browser, airflow.url) as page:
        page.goto("/plugin/llm_jobs")
        framed(page).locator("#connection").select_option("pages")
        message = framed(page).get_by_text("The list Tuning jobs is empty.")
        message.wait_for()
        assert "batch completions" in message.inner_text()
        assert "Find such a job by its id" in message.inner_text()


def test_the_page_of_jobs_says_that_a_platform_does_not_answer(
    airflow: AirflowStack, jobs: TuningPlatform, browser: Browser
):
    jobs.unavailable = True
    try:
        with window(browser, airflow.url) as page:
            page.goto("/plugin/llm_jobs")
            frame = framed(page)
            frame.locator("#connection").select_option("pages")
            frame.locator(".message.error").wait_for()
            assert jobs.url in frame.locator("#message").inner_text()
            assert jobs.key not in page.content()
    finally:
        jobs.unavailable = False


def test_the_tab_of_a_task_shows_its_run_and_no_output_of_a_model_runs_as_code(
    airflow: AirflowStack, platform: LocalPlatform, browser: Browser, tmp_path: Path
):
    platform.control.row_fault("broken", times=None)
    rows = [{"id": "a", "text": HOSTILE}, {"id": HOSTILE, "text": "broken"}, {"id": "c", "text": "one two"}]
    (tmp_path / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    conf = {"input": str(tmp_path / "rows.jsonl"), "output": str(tmp_path / "out"), "model": TEXT_MODEL}
    run = airflow.trigger_dag("shown", conf)
    assert airflow.wait_run(run) == "success"
    with window(browser, airflow.url) as page:
        page.goto(f"/dags/shown/runs/{run.run_id}/tasks/infer")
        page.get_by_role("link", name="LLM results").click()
        frame = framed(page)
        frame.locator("#jobs-of-task .state.succeeded").wait_for()
        assert frame.locator("#results tbody tr").count() == 3
        assert HOSTILE in frame.locator("#results tbody").inner_text()
        assert "two one" in frame.locator("#results tbody").inner_text()
        failed = frame.locator("#failed tbody tr")
        assert failed.count() == 1
        assert HOSTILE in failed.inner_text()
        page.screenshot(path=airflow.home / "task.png", full_page=True)
        assert page.evaluate("window.stolen") is None
        for name, words in (("manifest", '"counts"'), ("report", "infer")):
            page.goto(airflow.xcom(run, "infer", f"airflow_provider_lamini_{name}_url"))
            shown = framed(page).locator(f"#{name} .file")
            shown.get_by_text(str(tmp_path / "out" / name)).wait_for()
            assert words in shown.inner_text()
        assert framed(page).locator("#report table td").count() > 5
        assert HOSTILE[:30] in framed(page).locator("#report").inner_text()
        page.screenshot(path=airflow.home / "report.png", full_page=True)
        assert page.evaluate("window.stolen") is None
        page.get_by_role("link", name="other").first.click()
        page.goto(f"/dags/shown/runs/{run.run_id}/tasks/other/plugin/llm_results")
        framed(page).get_by_text("This task has left nothing to show here").wait_for()
    assert airflow.xcom(run, "infer", "airflow_provider_lamini_results_url").endswith(
        "/tasks/infer/plugin/llm_results"
    )


def test_the_pages_work_below_a_path(airflow: AirflowStack, jobs: TuningPlatform, browser: Browser):  # noqa: ARG001
    port = free_port()
    base = f"http://127.0.0.1:{port}/team/airflow"
    env = airflow.env | {"AIRFLOW__API__BASE_URL": base, "AIRFLOW__API__PORT": str(port)}
    with (airflow.logs / "api-server-below-a-path.log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "airflow", "api-server", "--apps", "core"],
            env=env,
            cwd=airflow.home,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        wait_until(lambda: answers(f"{base}/api/v2/version"), timeout=120, pause=0.5)
        with window(browser, base) as page:
            page.goto(f"{base}/plugin/llm_jobs")
            frame = framed(page)
            frame.locator("#connection").select_option("pages")
            frame.locator("#jobs tbody tr").get_by_text("running").wait_for()
    finally:
        end_process(server, signal.SIGTERM, grace=20)


def answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).is_success
    except httpx.TransportError:
        return False
