"""Links from a task to the platform's web pages, and to what it has written to object storage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import quote, urlsplit

from airflow.providers.common.compat.sdk import BaseOperatorLink

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator, Context

PAGES_PREFIX = "/llm_pages"
"""Where Airflow's API server serves this provider's pages."""
TASK_PAGE = "llm_results"
"""The name of the page of a task, in the address of its tab."""


class XComLink(BaseOperatorLink):
    """A link whose URL the task stores as an XCom as soon as it is known. Until then the URL is empty."""

    title: ClassVar[str]
    key: ClassVar[str]

    @property
    def name(self) -> str:
        """The link's text."""
        return self.title

    @property
    def xcom_key(self) -> str:
        """Key of the XCom in which Airflow 3 finds the URL."""
        return self.key

    def get_link(self, operator: BaseOperator, *, ti_key: object) -> str:
        """Return the URL; empty if it is not known, or there is nothing to see.

        :param operator: the task
        :param ti_key: the task instance
        """
        from airflow.providers.common.compat.sdk import XCom

        del operator
        return str(XCom.get_value(ti_key=ti_key, key=self.key) or "")


class JobLink(XComLink):
    """The platform's page of a task's job. It is available as soon as the job exists, also while the task is deferred."""

    title = "Platform job"
    key = "airflow_provider_lamini_job_url"


def push_job_url(context: Context, url: str | None) -> None:
    """Store the URL for the link.

    :param context: Airflow's context
    :param url: page of the task's job; ``None`` if it is not known
    """
    if url is not None:
        context["ti"].xcom_push(key=JobLink.key, value=url)


def ui_path() -> str:
    """Return the path of Airflow's UI behind its host: empty, unless ``[api] base_url`` has one."""
    from airflow.providers.common.compat.sdk import conf

    return urlsplit(conf.get("api", "base_url", fallback="") or "").path.rstrip("/")


def task_page(ti: Any) -> str:
    """Return the address of the tab with a task's results in the UI of Airflow 3.1 and newer, without its host.

    :param ti: the task instance
    """
    map_index = getattr(ti, "map_index", None)
    mapped = "" if map_index is None or map_index < 0 else f"/mapped/{map_index}"
    run_id = quote(ti.run_id, safe="")
    return f"{ui_path()}/dags/{ti.dag_id}/runs/{run_id}/tasks/{ti.task_id}{mapped}/plugin/{TASK_PAGE}"


class StorageLink(XComLink):
    """A page of the object store's console, if the store has one. It is known as soon as there is something to see."""


class ResultsLink(StorageLink):
    """The folder with a task's results, from the beginning of its first try on.

    If no console shows it, this is the task's own page, in the UI of Airflow 3.1 and newer.
    """

    title = "Results"
    key = "airflow_provider_lamini_results_url"


class ManifestLink(StorageLink):
    """The manifest of a run or of an index, once it is written; without a console, it is on the task's own page."""

    title = "Manifest"
    key = "airflow_provider_lamini_manifest_url"


class ReportLink(StorageLink):
    """The report of an evaluation or of a run over rows, once it is written, also if it fails the task.

    Without a console, it is on the task's own page.
    """

    title = "Report"
    key = "airflow_provider_lamini_report_url"
