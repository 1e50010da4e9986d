"""A model is requested and awaited; repeating the request does no harm."""

from __future__ import annotations

import asyncio
import json

import pytest

from airflow_provider_lamini.api.errors import ModelNotFoundError
from airflow_provider_lamini.exceptions import InvalidArgumentError, JobFailedError, WaitTimeoutError
from airflow_provider_lamini.operators.download_model import LaminiDownloadModelOperator
from tests.support.tasks import WAITING, begin, log_lines, maker, run_to_end
from tests.support.upstream import TEXT_MODEL

NAME = "org/model"
PATH = "/v1alpha/downloaded_models/"


@pytest.fixture
def download():
    """Returns a function that takes arguments and returns a factory of operators."""
    return maker(LaminiDownloadModelOperator, task_id="download", model_name=NAME, **WAITING)


@pytest.mark.parametrize("deferrable", [True, False])
def test_the_task_waits_until_the_model_is_available(tuning, download, deferrable):
    tuning.downloads[NAME] = ["requested", "downloading", "available"]
    ended = run_to_end(download(deferrable=deferrable))
    assert ended.result == {"model_name": NAME, "model_type": "transformer", "status": "available"}
    assert len(ended.deferrals) == deferrable
    assert tuning.sent(PATH) == [{"hf_model_name": NAME, "model_type": "transformer"}]


def test_an_available_model_is_returned_at_once(tuning, download):
    tuning.downloads[NAME] = ["available"]
    ended = run_to_end(download(model_type="embedding"))
    assert ended.deferrals == []
    assert ended.result["model_type"] == "embedding"


@pytest.mark.usefixtures("platform")
def test_a_model_of_the_local_platform_is_available(download):
    assert run_to_end(download(model_name=TEXT_MODEL)).result["status"] == "available"


def test_a_task_that_does_not_wait_returns_the_status(tuning, download):
    tuning.downloads[NAME] = ["requested"]
    ended = run_to_end(download(wait=False))
    assert (ended.result["status"], ended.deferrals) == ("requested", [])


def test_a_retry_requests_the_model_again_and_waits(tuning, download):
    tuning.downloads[NAME] = ["requested", "downloading", "available"]
    begin(download())
    assert run_to_end(download()).result["status"] == "available"


def test_a_failed_download_fails_the_task_with_the_platforms_reason(tuning, download):
    tuning.downloads[NAME] = ["requested", "failed"]
    with pytest.raises(JobFailedError, match=f"{NAME} ended as failed: no such model. A retry requests"):
        run_to_end(download())


def test_an_unknown_model_fails_the_task(tuning, download):
    with pytest.raises(ModelNotFoundError):
        run_to_end(download())
    assert len(tuning.sent(PATH)) == 1


def test_the_timeout_fails_the_task(tuning, download):
    tuning.downloads[NAME] = ["downloading"]
    with pytest.raises(WaitTimeoutError):
        run_to_end(download(timeout=0.6))


def test_the_log_of_a_killed_task_says_that_the_download_keeps_running(tuning, download):
    tuning.downloads[NAME] = ["downloading"]
    trigger = begin(download()).make_trigger()
    with log_lines() as lines:
        asyncio.run(trigger.on_kill())
    assert any("cannot be cancelled" in line for line in lines)


def test_the_token_comes_from_a_connection_and_appears_nowhere(tuning, download, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_HUB", json.dumps({"conn_type": "http", "password": "hub-token-123"}))
    tuning.downloads[NAME] = ["requested", "available"]
    with log_lines() as lines:
        ended = run_to_end(download(hub_conn_id="hub"))
    assert tuning.sent(PATH)[0]["private_hf_token"] == "hub-token-123"
    visible = json.dumps(
        [lines, ended.result, [deferral.trigger for deferral in ended.deferrals], ended.events]
    )
    assert "hub-token-123" not in visible


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"model_name": " "}, "model_name"),
        ({"model_type": "diffusion"}, "model_type must be one of transformer, embedding"),
        ({"hub_conn_id": "keyless"}, "'keyless' has no password"),
    ],
)
def test_invalid_arguments_are_rejected_before_anything_is_sent(
    tuning, download, monkeypatch, arguments, problem
):
    monkeypatch.setenv("AIRFLOW_CONN_KEYLESS", json.dumps({"conn_type": "http"}))
    with pytest.raises(InvalidArgumentError, match=problem):
        run_to_end(download(**arguments))
    assert not tuning.request_counts
