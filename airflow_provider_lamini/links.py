"""Links from a task to the platform's web pages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import BaseOperatorLink

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator, Context

XCOM_KEY = "lamini_job_url"


class LaminiJobLink(BaseOperatorLink):
    """The page of a task's job. It is there as soon as the job is, also while the task is deferred."""

    @property
    def name(self) -> str:
        """The link's text."""
        return "Lamini job"

    @property
    def xcom_key(self) -> str:
        """Where Airflow 3 finds the address."""
        return XCOM_KEY

    def get_link(self, operator: BaseOperator, *, ti_key: object) -> str:
        """The address; empty where there is no job yet, or the address of the web pages is not known.

        :param operator: the task
        :param ti_key: which try of which run
        """
        from airflow.providers.common.compat.sdk import XCom

        del operator
        return str(XCom.get_value(ti_key=ti_key, key=XCOM_KEY) or "")


def push_job_url(context: Context, url: str | None) -> None:
    """Put the address where the link finds it.

    :param context: Airflow's context
    :param url: the page of the task's job; ``None`` where it is not known
    """
    if url is not None:
        context["ti"].xcom_push(key=XCOM_KEY, value=url)
