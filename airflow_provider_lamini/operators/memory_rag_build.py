"""Building a Memory RAG index over documents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_lamini.operators.base import JobOperator
from airflow_provider_lamini.operators.lineage import reports_lineage
from airflow_provider_lamini.runs.arguments import optional_name, plain_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_lamini.hooks.lamini import LaminiHook
    from airflow_provider_lamini.runs.submitted_job import SubmittedJob
    from airflow_provider_lamini.runs.task import TaskRun


@reports_lineage("lamini", uses={"model_name": "models"}, makes={"index_id": "indexes"})
class LaminiMemoryRagBuildOperator(JobOperator):
    """Builds an index over documents and waits until it can be queried.

    The files are streamed to the platform in one request: memory depends neither on their size nor on their number. Which
    formats are supported depends on the platform; plain text, Markdown, HTML and PDF are usual. A retry attaches to the
    build that an earlier try has started, as long as no file has changed (compared by checksums).

    To keep an index up to date, use :class:`~airflow_provider_lamini.operators.memory_rag_refresh
    .LaminiMemoryRagRefreshOperator`, which also builds the first one.

    The platform can neither cancel a build nor delete an index.

    Endpoints: ``POST /alpha/memory-rag/train``, ``POST /alpha/memory-rag/status``, and if the build did not succeed
    ``GET /alpha/memory-rag/training_log/{index}``.

    :param files: a path, a URI or a glob on object storage, or a list of such; a folder stands for all files in it and
        below it. Files whose names begin with a dot are left out.
    :param model_name: the model that will answer
    :param lamini_conn_id: the connection to the platform
    :param files_conn_id: the connection for the files' object storage
    :return: ``index_id``, ``model_name``, ``status`` (the platform's word), ``files`` and ``bytes`` (what was sent,
        if there is a submission record)
    """

    template_fields: Sequence[str] = (
        *JobOperator.template_fields,
        "lamini_conn_id",
        "files",
        "model_name",
        "files_conn_id",
    )

    def __init__(
        self,
        *,
        files: str | Sequence[str],
        model_name: str,
        lamini_conn_id: str = "lamini_default",
        files_conn_id: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.files = files
        self.model_name = model_name
        self.lamini_conn_id = lamini_conn_id
        self.files_conn_id = files_conn_id

    def make_hook(self) -> LaminiHook:
        """The platform's hook."""
        from airflow_provider_lamini.hooks.lamini import LaminiHook

        return LaminiHook(plain_name("lamini_conn_id", self.lamini_conn_id))

    def work(self, task: TaskRun) -> SubmittedJob[dict[str, object]]:
        """Validate the arguments, then return the job."""
        from airflow_provider_lamini.runs.lamini.memory_rag import IndexBuild, IndexRequest
        from airflow_provider_lamini.runs.submitted_job import SubmittedJob

        options = self.submission_options()
        request = IndexRequest(
            files=self.files,
            model_name=plain_name("model_name", self.model_name),
            files_conn_id=optional_name("files_conn_id", self.files_conn_id),
        )
        return SubmittedJob(task, IndexBuild(task, request), options)
