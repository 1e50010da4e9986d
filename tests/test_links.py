"""The link from a task to its job's page."""

from __future__ import annotations

from importlib import import_module

from airflow_provider_lamini.get_provider_info import get_provider_info
from airflow_provider_lamini.links import XCOM_KEY, LaminiJobLink, push_job_url
from airflow_provider_lamini.operators.job_control import LaminiResumeJobOperator
from airflow_provider_lamini.operators.train import LaminiTrainOperator
from tests.support.tuning_platform import LinkedTask


def test_links_of_operators_are_registered_with_airflow():
    """Otherwise the web server does not deserialize them from a Dag."""
    registered = set()
    for path in get_provider_info()["extra-links"]:
        module, name = path.rsplit(".", 1)
        registered.add(getattr(import_module(module), name))
    used = {
        type(link)
        for operator in (LaminiTrainOperator, LaminiResumeJobOperator)
        for link in operator.operator_extra_links
    }
    assert used == registered == {LaminiJobLink}


def test_the_url_is_stored_where_airflow_looks_for_it():
    task = LinkedTask()
    push_job_url({"ti": task}, "https://web.test/train/1")
    push_job_url({"ti": task}, None)
    assert (
        task.xcoms
        == {LaminiJobLink().xcom_key: "https://web.test/train/1"}
        == {XCOM_KEY: "https://web.test/train/1"}
    )
    assert LaminiJobLink().name == "Lamini job"
